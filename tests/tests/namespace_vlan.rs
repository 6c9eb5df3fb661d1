//! VLAN devices and bonds on either side of the gateway. A kernel without them skips these tests; `cargo xtask vm
//! --kernel 6.1 --test namespace_vlan` has one with them.

#[path = "namespace_vlan/sides.rs"]
mod sides;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use sides::{Side, Sides, missing};
use tests::process::{self, wait_until};
use tests::responder::{
    Bulk, Direction, Ping, Server, UdpEcho, bulk_transfer, connect, echo, tcp_exchange,
    udp_exchange,
};
use tests::scenario::engines::{AUTO, IPTABLES, TC, XDP};
use tests::scenario::{
    Baseline, Engine, Family, Forwarder, Gateway, GatewayConfig, Mode, Outcome, Rule, Source,
    binary, socket_in,
};

const BYTES: u64 = 200_000;

/// How long a bond may take to change legs.
const CHANGE: Duration = Duration::from_secs(10);

/// What the outer device of the gateway is called; the inner one's name begins with `lan`.
const OUTSIDE: [&str; 4] = ["wan0", "wan0.10", "wan0.20", "bond0"];

/// TCP and UDP of both families, taken from one device only.
fn rules(interface: &'static [&'static str], source: Source) -> Vec<Rule> {
    let rules = [
        Rule::preserve("echo-4", "203.0.113.5:7", "10.2.0.2:7"),
        Rule::preserve("echo-4-udp", "203.0.113.5:7", "10.2.0.2:7").udp(),
        Rule::preserve("bulk-4", "203.0.113.5:9", "10.2.0.2:9"),
        Rule::preserve("echo-6", "[2001:db8:113::5]:7", "[2001:db8:b::2]:7"),
        Rule::preserve("echo-6-udp", "[2001:db8:113::5]:7", "[2001:db8:b::2]:7").udp(),
        Rule::preserve("bulk-6", "[2001:db8:113::5]:9", "[2001:db8:b::2]:9"),
    ];
    let rules = rules.map(|rule| Rule {
        extra: interface,
        ..rule.from(source)
    });
    rules.to_vec()
}

/// The line of a rule that names the device it is for.
fn interface(outer: &str) -> &'static [&'static str] {
    match OUTSIDE.iter().position(|name| *name == outer) {
        Some(0) => &["interface = \"wan0\""],
        Some(1) => &["interface = \"wan0.10\""],
        Some(2) => &["interface = \"wan0.20\""],
        Some(3) => &["interface = \"bond0\""],
        _ => panic!("{outer} is not in the list"),
    }
}

/// Puts a gateway between the sides. Native XDP goes on the devices below as well: it sees the tags, and has to leave
/// to the device above what is not its own.
fn start(engine: Engine, sides: &Sides, source: Source) -> Result<Gateway> {
    let config = GatewayConfig {
        rules: rules(interface(&sides.outer.device), source),
        ..GatewayConfig::default()
    };
    let Engine::Forwarder(mode) = engine else {
        return Gateway::start(engine, &sides.gateway, &config);
    };
    sides.gateway.forward(false)?;
    let directory = sides.prefix.directory();
    let mut text = String::new();
    for side in [&sides.outer, &sides.inner] {
        let above = if mode == Mode::Xdp { Mode::Auto } else { mode };
        let below = side.below.iter().map(|name| (name, mode));
        let below = below.filter(|_| mode == Mode::Xdp);
        for (name, mode) in below.chain([(&side.device, above)]) {
            let mode = mode.as_str();
            text += &format!("[[interface]]\nname = \"{name}\"\nmode = \"{mode}\"\n\n");
        }
    }
    text += &config.to_toml(mode, &socket_in(&directory));
    let forwarder = Forwarder::start_with(&sides.gateway, binary()?, directory, &text)?;
    Ok(Gateway::Forwarder(Box::new(forwarder)))
}

fn at(family: Family, [v4, v6]: [&str; 2], port: u16) -> Result<SocketAddr> {
    let address: IpAddr = family.pick(v4, v6).parse()?;
    Ok(SocketAddr::new(address, port))
}

fn listener(family: Family, port: u16) -> Result<SocketAddr> {
    at(family, ["203.0.113.5", "2001:db8:113::5"], port)
}

fn backend(family: Family, port: u16) -> Result<String> {
    at(family, ["10.2.0.2", "2001:db8:b::2"], port).map(|at| at.to_string())
}

/// Small and large packets of both protocols and families, both ways.
fn converse(sides: &Sides) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for family in Family::ALL {
        let tcp = Server::start(&sides.server, &backend(family, 7)?, echo)?;
        let udp = UdpEcho::start(&sides.server, &backend(family, 7)?)?;
        let _bulk = Server::start(&sides.server, &backend(family, 9)?, Bulk::serve)?;
        let mut stream = connect(&sides.client, listener(family, 7)?)?;
        tcp_exchange(&mut stream, b"over there")?;
        for length in [1, family.pick(1472, 1452)] {
            let data = vec![7; length];
            let came = udp_exchange(&sides.client, listener(family, 7)?, &data)?;
            ensure!(came == data, "{length} bytes did not come back as sent");
        }
        for direction in [Direction::Upload, Direction::Download] {
            let stream = connect(&sides.client, listener(family, 9)?)?;
            let [sent, received] = bulk_transfer(stream, direction, BYTES, 1)
                .with_context(|| format!("{family:?} {direction:?}"))?;
            ensure!(
                sent == received,
                "{direction:?}: other bytes than were sent"
            );
        }
        outcome = outcome
            .with_debug(&format!("{family:?} TCP peers"), tcp.peer_addresses())
            .with_debug(&format!("{family:?} UDP peers"), udp.peer_addresses());
    }
    Ok(outcome)
}

/// Builds, runs and compares.
fn compare(
    baseline: &Baseline,
    engine: Engine,
    [outer, inner]: [Side; 2],
    body: impl Fn(&Sides) -> Result<Outcome>,
) -> Result<()> {
    if missing() {
        return Ok(());
    }
    baseline.compare(engine, |engine| {
        let mut outcome = Outcome::default();
        for source in [Source::Preserve, Source::Masquerade] {
            let sides = Sides::build(outer, inner)?;
            let gateway = start(engine, &sides, source)?;
            let came = body(&sides)
                .with_context(|| format!("{source:?}"))
                .with_context(|| gateway.report())?;
            outcome = outcome.with_debug(&format!("{source:?}"), came);
        }
        Ok(outcome)
    })
}

#[rstest]
fn tagged_to_tagged(#[values(IPTABLES, XDP, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    let sides = [Side::Tagged(10), Side::Tagged(10)];
    compare(&BASELINE, engine, sides, converse)
}

#[rstest]
fn one_tag_to_another(#[values(IPTABLES, XDP, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    let sides = [Side::Tagged(20), Side::Tagged(30)];
    compare(&BASELINE, engine, sides, converse)
}

#[rstest]
fn tagged_to_untagged(#[values(IPTABLES, XDP, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    let sides = [Side::Tagged(10), Side::Plain];
    compare(&BASELINE, engine, sides, converse)
}

#[rstest]
fn untagged_to_tagged(#[values(IPTABLES, XDP, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    let sides = [Side::Plain, Side::Tagged(10)];
    compare(&BASELINE, engine, sides, converse)
}

/// Two tags are nobody's but the kernel's.
#[rstest]
fn stacked_tags_reach_the_kernel(#[values(IPTABLES, XDP, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    let sides = [Side::Tagged(10), Side::Tagged(10)];
    compare(&BASELINE, engine, sides, |sides| {
        for (namespace, device, host) in [
            (&sides.client, "eth0.10", 7),
            (&sides.gateway, "wan0.10", 5),
        ] {
            namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "0")?;
            // One of the same kind inside, and one outside of another kind.
            namespace.ip(&format!(
                "link add link {device} name inner type vlan id 20\n\
                 addr add 192.168.20.{host}/24 dev inner\n\
                 addr add 2001:db8:20::{host}/64 dev inner nodad\n\
                 link set inner up\n"
            ))?;
        }
        for target in ["192.168.20.5", "2001:db8:20::5"] {
            let ping = Ping::open(&sides.client, target.parse()?, 7)?;
            ping.ask(1, b"two tags")?;
            let heard = ping.hear()?;
            ensure!(
                heard == (1, b"two tags".to_vec()),
                "another echo: {heard:?}"
            );
        }
        // And one tag is still ours.
        converse(sides)
    })
}

/// A conversation by each of the bond's legs.
fn fail_over(sides: &Sides) -> Result<Outcome> {
    let first = converse(sides)?;
    for side in [&sides.outer, &sides.inner] {
        if let [leg, other] = &side.below[..]
            && side.device.starts_with("bond")
        {
            sides.gateway.ip(&format!("link set {leg} down\n"))?;
            // Not through /sys, which shows the namespace that mounted it.
            wait_until("the change to the other leg", CHANGE, || {
                let mut show = sides.gateway.command("ip");
                let shown =
                    process::output(show.args(["-d", "link", "show", &side.device]), CHANGE);
                shown.is_ok_and(|text| text.contains(&format!("active_slave {other}")))
            })?;
        }
    }
    let second = converse(sides)?;
    ensure!(first == second, "by the other leg: {second:?}");
    Ok(first)
}

#[rstest]
fn a_bond_outside(#[values(IPTABLES, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    let sides = [Side::Bond, Side::Plain];
    compare(&BASELINE, engine, sides, fail_over)
}

#[rstest]
fn a_bond_inside(#[values(IPTABLES, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    let sides = [Side::Plain, Side::Bond];
    compare(&BASELINE, engine, sides, fail_over)
}

/// S3 as it is meant: a bond outside, VLANs inside.
#[rstest]
fn a_bond_outside_and_a_tag_inside(#[values(IPTABLES, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    let sides = [Side::Bond, Side::Tagged(10)];
    compare(&BASELINE, engine, sides, fail_over)
}
