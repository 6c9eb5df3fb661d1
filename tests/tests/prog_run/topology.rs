//! The gateway that every test starts from: its devices, addresses, routes and neighbours.

use forwarder::datapath::{Address, Link};
use nix::net::if_::if_nametoindex;
use tests::netns::{Namespace, Prefix};

use super::family::Family;

/// A device of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// Towards clients: 203.0.113.0/24, and the default route by [`ROUTER`].
    Wan,
    /// Towards backends: 10.0.0.0/24, and 10.1.0.0/16 by the gateway 10.0.0.254.
    Lan,
    /// A second way to clients: 192.0.2.0/24.
    Alt,
}

impl Device {
    /// Every device.
    pub const ALL: [Self; 3] = [Self::Wan, Self::Lan, Self::Alt];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wan => "wan",
            Self::Lan => "lan",
            Self::Alt => "alt",
        }
    }

    /// Its own MAC address.
    pub fn mac(self) -> [u8; 6] {
        [2, 0, 0, 0, self as u8 + 1, 1]
    }

    /// The MAC address of the neighbour whose IPv4 address on it ends in `host`.
    pub fn neighbour(self, host: u8) -> [u8; 6] {
        [2, 0, 0, 0, self as u8 + 1, host]
    }

    /// Its addresses, the one it masquerades with first.
    pub fn addresses(self) -> &'static [[u8; 4]] {
        match self {
            Self::Wan => &[[203, 0, 113, 1], [203, 0, 113, 5], [203, 0, 113, 6]],
            // The second subnet is there to be the wrong, and by way of its gateway the right, one.
            Self::Lan => &[[10, 0, 0, 1], [10, 2, 0, 1]],
            Self::Alt => &[[192, 0, 2, 1]],
        }
    }
}

/// Bytes of the largest IP packet on every device.
pub const MTU: u32 = 1500;
/// Length of the prefix of every address.
const PREFIX: u8 = 24;

/// Routes and neighbours; 10.0.0.9 is nobody. Forwarding heeds the MTU of a route only if it is locked.
const ROUTES: &str = "\
    neigh replace 203.0.113.254 lladdr 02:00:00:00:01:fe dev wan nud permanent
    neigh replace 203.0.113.77 lladdr 02:00:00:00:01:4d dev wan nud permanent
    neigh replace 192.0.2.254 lladdr 02:00:00:00:03:fe dev alt nud permanent
    neigh replace 192.0.2.2 lladdr 02:00:00:00:03:02 dev alt nud permanent
    neigh replace 10.0.0.254 lladdr 02:00:00:00:02:fe dev lan nud permanent
    neigh replace 10.2.0.254 lladdr 02:00:00:00:02:fd dev lan nud permanent
    neigh replace 10.0.0.2 lladdr 02:00:00:00:02:02 dev lan nud permanent
    neigh replace 10.0.0.3 lladdr 02:00:00:00:02:03 dev lan nud permanent
    neigh replace 10.0.0.4 lladdr 02:00:00:00:02:04 dev lan nud permanent
    route add default via 203.0.113.254 dev wan
    route add 10.1.0.0/16 via 10.0.0.254 dev lan
    route add 10.3.0.0/16 via 10.2.0.254 dev lan
    route add 10.4.0.0/16 via 10.0.0.254 dev lan mtu lock 1300
    route add blackhole 10.66.0.0/24
    route add unreachable 10.66.1.0/24
    route add prohibit 10.66.2.0/24
";

/// Makes the gateway, in both families. Forwarding is off, but for `lo`, as the daemon has it.
pub fn create() -> Namespace {
    let namespace = Namespace::create(&Prefix::unique(), "gw").expect("a namespace");
    let mut lines = String::new();
    for device in Device::ALL {
        let name = device.name();
        let [a, b, c, d, e, f] = device.mac();
        lines += &format!(
            "link add {name} mtu {MTU} address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} \
             type veth peer name {name}-peer mtu {MTU}\n"
        );
    }
    namespace.ip(&lines).expect("devices");
    for family in [Family::V4, Family::V6] {
        let mut lines = String::new();
        for device in Device::ALL {
            let name = device.name();
            if family == Family::V6 {
                let key = format!("net/ipv6/conf/{name}/disable_ipv6");
                namespace.sysctl(&key, "0").expect("a sysctl");
            }
            for octets in device.addresses() {
                let address = family.address((*octets).into());
                lines += &format!("addr add {address}/{} dev {name}\n", family.prefix(PREFIX));
            }
            lines += &format!("link set {name} up\nlink set {name}-peer up\n");
        }
        lines += &family.text(ROUTES);
        let run = match family {
            Family::V4 => namespace.ip(&lines),
            Family::V6 => namespace.ip6(&lines),
        };
        run.expect("addresses and routes");
        for (device, value) in [("all", "0"), ("lo", "1")] {
            let key = format!("net/{}/conf/{device}/forwarding", family.word());
            namespace.sysctl(&key, value).expect("a sysctl");
        }
    }
    namespace
}

/// The devices as the daemon would describe them.
pub fn links(namespace: &Namespace) -> Vec<Link> {
    let describe = |device: Device| Link {
        index: if_nametoindex(device.name()).expect("the device was made"),
        name: device.name().to_owned(),
        mtu: MTU,
        mac: device.mac(),
        ethernet: true,
        xdp_transmit: true,
        redirect_only: false,
        shadow: false,
        vlan: None,
    };
    let inside = namespace.run(|| Device::ALL.map(describe).to_vec());
    inside.expect("entering the namespace")
}

/// The addresses as the daemon would describe them.
pub fn addresses(links: &[Link]) -> Vec<Address> {
    let mut addresses = Vec::new();
    for family in [Family::V4, Family::V6] {
        for (device, link) in Device::ALL.into_iter().zip(links) {
            addresses.extend(device.addresses().iter().map(|octets| Address {
                interface: link.index,
                address: family.address((*octets).into()),
                prefix: family.prefix(PREFIX),
                primary: true,
            }));
        }
    }
    addresses
}
