//! Client, gateway and server, with cables of several kinds between them.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::netns::{End, Namespace, Prefix, Wire, mac, veth};
use tests::process;

/// What lies between the gateway and the host on one side.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// A cable.
    Plain,
    /// A cable with a VLAN of this number on it.
    Tagged(u16),
    /// Two cables, one of them in use.
    Bond,
}

/// The gateway's devices on one side.
#[derive(Debug, Default)]
pub struct Attachment {
    /// The one that has addresses.
    pub device: String,
    /// The ones it is made of.
    pub below: Vec<String>,
}

/// The hosts.
#[derive(Debug)]
pub struct Sides {
    /// 203.0.113.7 and 2001:db8:113::7.
    pub client: Namespace,
    /// 203.0.113.5 and 10.2.0.1, 2001:db8:113::5 and 2001:db8:b::1.
    pub gateway: Namespace,
    /// 10.2.0.2 and 2001:db8:b::2.
    pub server: Namespace,
    /// Towards the client: `wan0`, `wan0.N` or `bond0`.
    pub outer: Attachment,
    /// Towards the server: `lan0`, `lan0.N` or `bond1`.
    pub inner: Attachment,
    /// What the names begin with.
    pub prefix: Prefix,
}

/// Whether this kernel cannot do it; says so once.
pub fn missing() -> bool {
    static MISSING: OnceLock<bool> = OnceLock::new();
    *MISSING.get_or_init(|| {
        let tried = Namespace::create(&Prefix::unique(), "try").and_then(|namespace| {
            namespace.ip("link add eth0 type veth peer name eth1\n\
                 link add link eth0 name eth0.2 type vlan id 2\n\
                 link add bond0 type bond mode active-backup\n")
        });
        // Not println!, which the test harness keeps to itself where nothing fails.
        if let Err(error) = &tried {
            let reason = error.root_cause();
            let _ = writeln!(
                std::io::stderr(),
                "skipped: this kernel has no VLAN devices or no bonds ({reason}); \
                 try `cargo xtask vm --kernel 6.1 --test namespace_vlan`"
            );
        }
        tried.is_err()
    })
}

impl Sides {
    /// Builds it.
    pub fn build(outer: Side, inner: Side) -> Result<Self> {
        let prefix = Prefix::unique();
        let mut it = Self {
            client: Namespace::create(&prefix, "client")?,
            gateway: Namespace::create(&prefix, "gateway")?,
            server: Namespace::create(&prefix, "server")?,
            outer: Attachment::default(),
            inner: Attachment::default(),
            prefix,
        };
        for namespace in [&it.client, &it.gateway, &it.server] {
            // Devices that are made here without addresses are given them later.
            namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "0")?;
            namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "0")?;
        }
        it.outer = connect(1, outer, ["wan0", "bond0"], [&it.gateway, &it.client])?;
        it.inner = connect(2, inner, ["lan0", "bond1"], [&it.gateway, &it.server])?;
        let host = |side| match side {
            Side::Plain => "eth0".to_owned(),
            Side::Tagged(id) => format!("eth0.{id}"),
            Side::Bond => "bond0".to_owned(),
        };
        let addresses: [(&Namespace, String, [&str; 2]); 4] = [
            (
                &it.client,
                host(outer),
                ["203.0.113.7/24", "2001:db8:113::7/64"],
            ),
            (
                &it.gateway,
                it.outer.device.clone(),
                ["203.0.113.5/24", "2001:db8:113::5/64"],
            ),
            (
                &it.gateway,
                it.inner.device.clone(),
                ["10.2.0.1/24", "2001:db8:b::1/64"],
            ),
            (&it.server, host(inner), ["10.2.0.2/24", "2001:db8:b::2/64"]),
        ];
        for (namespace, device, [v4, v6]) in addresses {
            namespace.ip(&format!(
                "addr add {v4} dev {device}\naddr add {v6} dev {device} nodad\n"
            ))?;
        }
        it.server.default_routes(["10.2.0.1", "2001:db8:b::1"])?;
        Ok(it)
    }
}

/// Connects gateway and host, and returns what the gateway got.
fn connect(
    network: u8,
    side: Side,
    [name, bond]: [&str; 2],
    [gateway, host]: [&Namespace; 2],
) -> Result<Attachment> {
    let cable = |leg: u8, near: &str, far: &str| {
        let end = |namespace, device| End {
            namespace,
            device,
            addresses: &[],
        };
        let ends = [end(gateway, near), end(host, far)];
        let macs = [&mac(network, leg + 2), &mac(network, leg + 1)];
        veth(ends, macs.map(String::as_str), Wire::CABLE)?;
        for (namespace, device) in [(gateway, near), (host, far)] {
            // Tags in the frame, as on a wire, and not beside it, where XDP cannot see them.
            let mut command = namespace.command("ethtool");
            command.args(["-K", device, "txvlan", "off", "rxvlan", "off"]);
            process::output(&mut command, Duration::from_secs(20))
                .with_context(|| format!("VLAN offload of {device}"))?;
        }
        anyhow::Ok(())
    };
    let mut attachment = Attachment {
        device: name.to_owned(),
        below: Vec::new(),
    };
    match side {
        Side::Plain => cable(0, name, "eth0")?,
        Side::Tagged(id) => {
            cable(0, name, "eth0")?;
            for (namespace, device) in [(gateway, name), (host, "eth0")] {
                namespace.ip(&format!(
                    "link add link {device} name {device}.{id} type vlan id {id}\n\
                     link set {device}.{id} up\n"
                ))?;
            }
            attachment.below.push(name.to_owned());
            attachment.device = format!("{name}.{id}");
        }
        Side::Bond => {
            let legs = [format!("{name}a"), format!("{name}b")];
            cable(0, &legs[0], "eth0a")?;
            cable(2, &legs[1], "eth0b")?;
            enslave(gateway, bond, [&legs[0], &legs[1]])?;
            enslave(host, "bond0", ["eth0a", "eth0b"])?;
            attachment.device = bond.to_owned();
            attachment.below = legs.to_vec();
        }
    }
    Ok(attachment)
}

/// Makes a bond of which one leg is in use until it fails. Both ends prefer the first.
fn enslave(namespace: &Namespace, bond: &str, [first, second]: [&str; 2]) -> Result<()> {
    namespace
        .ip(&format!(
            "link add {bond} type bond mode active-backup miimon 20\n\
             link set {first} down\n\
             link set {second} down\n\
             link set {first} master {bond}\n\
             link set {second} master {bond}\n\
             link set {first} up\n\
             link set {second} up\n\
             link set {bond} type bond primary {first}\n\
             link set {bond} up\n"
        ))
        .map(drop)
}
