//! Which flows the rules in force would make.

use forwarder_common::{
    address::{V4, V6},
    flow::{Egress, FlowEntry, FlowKey, REPLY, Rewrite, Route},
};
use rstest::rstest;

use super::*;
use crate::{
    config,
    datapath::{
        RuleSet,
        compile::{Placed, compile},
    },
};

const LAN: u32 = 2;
const WAN: u32 = 3;
const FORWARD: &str = "[[forward]]\nname = \"mail\"\nlisten = \"203.0.113.5:110-119\"\n\
     to = [\"10.0.0.2:2110-2119\", \"10.0.0.3:2110-2119\"]\nsource = \"masquerade\"\n";
const MASQUERADE: &str = "[[masquerade]]\nname = \"lan\"\nfrom = [\"10.0.0.0/24\"]\n\
     interface = \"lan\"\nports = [\"tcp/25\", \"udp/53\"]\n";
const OUTPUT: &str =
    "[[output]]\nname = \"out\"\nto-address = \"192.0.2.7:25\"\nto = \"192.0.2.7:986\"\n";

fn in_force(rules: &str) -> InForce {
    let text = format!("[[interface]]\nname = \"lan\"\n[[interface]]\nname = \"wan\"\n{rules}");
    let config = config::parse("test.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let placed: Vec<_> = (0..)
        .zip(RuleSet::from(&config).iter())
        .map(|(slot, rule)| Placed {
            rule,
            slot,
            interface: match rule.interface() {
                Some("lan") => LAN,
                Some(_) => WAN,
                None => 0,
            },
        })
        .collect();
    let mut v4 = compile::<V4>(&placed).unwrap();
    // As in the table's upper half.
    v4.start = 1000;
    for entry in v4.listeners.values_mut() {
        entry.backends += v4.start;
    }
    InForce {
        v4,
        v6: compile::<V6>(&placed).unwrap(),
    }
}

/// `PROTOCOL SOURCE DESTINATION`: the tuple before translation, and after it.
fn key(text: &str) -> Key {
    let mut words = text.split(' ');
    let mut next = || words.next().unwrap();
    let protocol = match next() {
        "tcp" => TCP,
        "udp" => UDP,
        _ => 1,
    };
    let mut end = || next().parse::<std::net::SocketAddr>().unwrap();
    let (source, destination) = (end(), end());
    FlowKey::new(
        source.ip(),
        destination.ip(),
        source.port().to_be(),
        destination.port().to_be(),
        protocol,
    )
}

fn flow(from: &str, to: &str, ways: [u32; 2], flags: u8) -> Flow {
    let (original, to) = (key(from), key(to));
    let entry = |key: &Key, egress, flags| FlowEntry {
        rewrite: Rewrite {
            source: key.source,
            destination: key.destination,
            source_port_be: key.source_port_be,
            destination_port_be: key.destination_port_be,
        },
        route: Route {
            egress: Egress::new(egress, 0),
            ..Route::default()
        },
        proof: 0,
        packets_low: 0,
        packets_high: 0,
        bytes: 0,
        last_seen: 0,
        created: 0,
        rule: 0,
        seen: Default::default(),
        flags,
    };
    Flow {
        original_entry: entry(&to, ways[1], flags),
        reply: to.reversed(),
        reply_entry: entry(&original.reversed(), ways[0], REPLY),
        original,
    }
}

fn is_made(rules: &str, flow: &Flow) -> bool {
    let own = |interface, address: [u8; 4]| Address {
        interface,
        address: address.into(),
        prefix: 24,
        primary: true,
    };
    let around = Surroundings {
        own: &[own(WAN, [203, 0, 113, 5]), own(LAN, [10, 0, 0, 1])],
        devices: &[LAN, WAN],
        leaving: &[],
    };
    in_force(rules).makes(flow, &around)
}

fn mail(to: &str) -> Flow {
    let from = "tcp 198.51.100.7:4000 203.0.113.5:113";
    flow(from, to, [WAN, LAN], 0)
}

#[rstest]
#[case::first("tcp 10.0.0.1:4000 10.0.0.2:2113", true)]
#[case::second("tcp 10.0.0.1:4000 10.0.0.3:2113", true)]
#[case::none("tcp 10.0.0.1:4000 10.0.0.4:2113", false)]
#[case::another_port("tcp 10.0.0.1:4000 10.0.0.2:2114", false)]
#[case::another_source_port("tcp 10.0.0.1:9999 10.0.0.2:2113", true)]
#[case::the_client_shown("tcp 198.51.100.7:4000 10.0.0.2:2113", false)]
fn by_backend(#[case] to: &str, #[case] expected: bool) {
    assert_eq!(is_made(FORWARD, &mail(to)), expected);
}

#[rstest]
#[case::unchanged("", "", true)]
#[case::listener("110-119\"\nto", "120-129\"\nto", false)]
#[case::other_listening_port("203.0.113.5:", "*:", true)]
#[case::another_device("listen", "interface = \"lan\"\nlisten", false)]
#[case::its_device("listen", "interface = \"wan\"\nlisten", true)]
#[case::protocol("listen", "protocol = \"udp\"\nlisten", false)]
#[case::preserve("\"masquerade\"", "\"preserve\"", false)]
#[case::the_same_address("\"masquerade\"", "\"10.0.0.1\"", true)]
#[case::in_the_pool("\"masquerade\"", "\"10.0.0.1-10.0.0.9\"", true)]
#[case::beside_the_pool("\"masquerade\"", "\"10.0.0.2-10.0.0.9\"", false)]
#[case::denied("listen", "deny = [\"198.51.100.0/24\"]\nlisten", false)]
#[case::allowed("listen", "allow = [\"198.51.100.0/24\"]\nlisten", true)]
#[case::not_allowed("listen", "allow = [\"198.51.101.0/24\"]\nlisten", false)]
#[case::another_name("\"mail\"", "\"post\"", true)]
#[case::segment_size("listen", "mss-clamp = 1000\nlisten", true)]
fn by_rule(#[case] from: &str, #[case] to: &str, #[case] expected: bool) {
    let flow = mail("tcp 10.0.0.1:4000 10.0.0.2:2113");
    assert_eq!(is_made(&FORWARD.replacen(from, to, 1), &flow), expected);
}

/// The more specific rule has it, so the other one would not make it.
#[test]
fn a_more_specific_rule_takes_it() {
    let specific =
        "[[forward]]\nlisten = \"203.0.113.5:113\"\ninterface = \"wan\"\nto = \"10.0.0.9\"\n";
    let flow = mail("tcp 10.0.0.1:4000 10.0.0.2:2113");
    assert!(!is_made(&format!("{FORWARD}{specific}"), &flow));
}

#[rstest]
#[case::tcp(
    "tcp 10.0.0.7:4000 192.0.2.1:25",
    "tcp 203.0.113.5:4000 192.0.2.1:25",
    "",
    true
)]
#[case::udp(
    "udp 10.0.0.7:4000 192.0.2.1:53",
    "udp 203.0.113.5:4000 192.0.2.1:53",
    "",
    true
)]
#[case::echo(
    "icmp 10.0.0.7:77 192.0.2.1:0",
    "icmp 203.0.113.5:78 192.0.2.1:0",
    "",
    true
)]
#[case::port(
    "tcp 10.0.0.7:4000 192.0.2.1:80",
    "tcp 203.0.113.5:4000 192.0.2.1:80",
    "",
    false
)]
#[case::client(
    "tcp 10.0.1.7:4000 192.0.2.1:25",
    "tcp 203.0.113.5:4000 192.0.2.1:25",
    "",
    false
)]
#[case::stranger(
    "udp 10.0.0.7:4000 192.0.2.1:99",
    "udp 203.0.113.5:4000 192.0.2.1:99",
    "",
    false
)]
#[case::stranger_let_in(
    "udp 10.0.0.7:4000 192.0.2.1:99",
    "udp 203.0.113.5:4000 192.0.2.1:99",
    "filtering = \"endpoint-independent\"\n",
    true
)]
#[case::source(
    "tcp 10.0.0.7:4000 192.0.2.1:25",
    "tcp 203.0.113.5:4000 192.0.2.1:25",
    "source = \"203.0.113.6\"\n",
    false
)]
fn outbound(#[case] from: &str, #[case] to: &str, #[case] more: &str, #[case] expected: bool) {
    let flow = flow(from, to, [LAN, WAN], 0);
    assert_eq!(is_made(&format!("{MASQUERADE}{more}"), &flow), expected);
}

#[rstest]
#[case::same("192.0.2.7:25", "192.0.2.7:986", true)]
#[case::another_target("192.0.2.7:25", "192.0.2.7:987", false)]
#[case::another_address("192.0.2.8:25", "192.0.2.8:986", false)]
fn from_this_host(#[case] from: &str, #[case] to: &str, #[case] expected: bool) {
    let (from, to) = (
        format!("tcp 203.0.113.5:4000 {from}"),
        format!("tcp 203.0.113.5:4000 {to}"),
    );
    let flow = flow(&from, &to, [0, 0], EMIT);
    assert_eq!(is_made(OUTPUT, &flow), expected);
}

#[rstest]
#[case::same("local:25", true)]
#[case::another_port("local:26", false)]
#[case::another_host("10.0.0.2:25", false)]
fn to_this_host(#[case] to: &str, #[case] expected: bool) {
    let from = "tcp 198.51.100.7:4000 203.0.113.5:986";
    let flow = flow(
        from,
        "tcp 198.51.100.7:4000 203.0.113.5:25",
        [0, 0],
        DELIVER,
    );
    let rule = format!("[[forward]]\ninterface = \"wan\"\nlisten = 986\nto = \"{to}\"\n");
    assert_eq!(is_made(&rule, &flow), expected);
}

/// A client on the backend's own subnet is seen as this host even if its source is preserved.
#[rstest]
#[case::hairpin("10.0.0.7", true)]
#[case::from_elsewhere("198.51.100.7", false)]
fn preserved(#[case] client: &str, #[case] expected: bool) {
    let from = format!("tcp {client}:4000 203.0.113.5:113");
    let flow = flow(&from, "tcp 10.0.0.1:4000 10.0.0.2:2113", [LAN, LAN], 0);
    let rule = FORWARD.replace("masquerade", "preserve");
    assert_eq!(is_made(&rule, &flow), expected);
}
