//! Rules and devices that only watch: every packet goes to the kernel as it came, and is counted as what it would have
//! become.

use forwarder::datapath::ShadowCount;
use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{IcmpError, Packet, tcp_flags};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, ROUTER, SERVER, syn, tcp, udp};
use super::translate::RULE;

const DATA: u8 = tcp_flags::ACK | tcp_flags::PSH;
const OUTBOUND: &str =
    "[[masquerade]]\nname = \"lan\"\nfrom = [\"10.0.0.0/24\"]\nports = [\"udp/53\"]\n";
const SHADOW: &str = "mode = \"shadow\"\n";

/// Who only watches.
#[derive(Clone, Copy, Debug)]
enum Watch {
    Rule,
    Device(Device),
}

fn bench(at: (Hook, Family), rule: &str, watch: Watch) -> Bench {
    match watch {
        Watch::Rule => Bench::new(at, &format!("{rule}{SHADOW}")),
        Watch::Device(device) => {
            let mut bench = Bench::new(at, rule);
            let mut links = bench.links();
            for link in &mut links {
                link.shadow = link.name == device.name();
            }
            bench.datapath.set_devices(&links).expect("devices");
            bench
        }
    }
}

/// What the only rule has seen.
#[track_caller]
fn seen(bench: &Bench) -> ShadowCount {
    let counts = bench.datapath.view().now().shadow_counts().expect("a map");
    assert_eq!(counts.len(), 1, "{counts:?}");
    counts.into_values().next().unwrap_or_default()
}

/// Sends packets and asserts that not one byte of them changes.
#[track_caller]
fn passes(bench: &mut Bench, packets: &[(Device, Packet)]) {
    for (device, packet) in packets {
        bench.refuses(*device, packet, Reason::Shadow);
    }
}

#[rstest]
fn a_connection_is_followed_and_not_touched(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(Watch::Rule, Watch::Device(Device::Wan))] watch: Watch,
    #[values(("preserve", CLIENT), ("masquerade", "10.0.0.1:25000"))] source: (&str, &str),
) {
    let rule = format!("{RULE}source = \"{}\"\n", source.0);
    let mut bench = bench((hook, family), &rule, watch);
    let connection = Connection::new(CLIENT, LISTENER, source.1, SERVER);
    let (wan, lan) = (Device::Wan, Device::Lan);
    passes(
        &mut bench,
        &[
            (wan, connection.request(syn())),
            (lan, connection.reply(tcp(tcp_flags::SYN | tcp_flags::ACK))),
            (wan, connection.request(tcp(tcp_flags::ACK))),
            (wan, connection.request(tcp(DATA))),
            (lan, connection.reply(tcp(DATA))),
        ],
    );
    let established = connection.described("ESTABLISHED");
    bench.holds(&[&established]);
    passes(
        &mut bench,
        &[
            (wan, connection.request(udp())),
            (lan, connection.reply(udp())),
        ],
    );
    bench.holds(&[&established, &connection.described("STREAM")]);
    let seen = seen(&bench);
    assert_eq!((seen.original.packets, seen.reply.packets), (4, 3));
    assert_eq!((seen.opened, seen.dropped), (2, vec![]));
    assert!(
        bench
            .flows()
            .iter()
            .all(forwarder::datapath::Flow::is_shadow)
    );
}

/// What would have been dropped or answered is neither, and is counted under its reason.
#[rstest]
fn what_would_be_refused_passes(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let rule = format!("{RULE}deny = [\"198.51.100.64/26\"]\nreset-unknown = true\n");
    let mut bench = bench((hook, family), &rule, Watch::Rule);
    let connection = Connection::default();
    let denied = Connection::new("198.51.100.77:25000", LISTENER, CLIENT, SERVER);
    let about = family.packet(&connection.returned(udp()));
    let router = family.text("198.51.100.254");
    let error = Packet::error_about(&router, IcmpError::PortUnreachable, &about)
        .with_macs(Device::Wan.neighbour(ROUTER), Device::Wan.mac());
    passes(
        &mut bench,
        &[
            (Device::Wan, connection.request(tcp(DATA))),
            (Device::Wan, denied.request(syn())),
            (Device::Wan, connection.request(udp()).with_ttl(1)),
        ],
    );
    // An error about a packet that no flow of this rule's can have sent is the kernel's, too.
    bench.refuses(Device::Wan, &error, Reason::NoRule);
    bench.holds(&[]);
    let seen = seen(&bench);
    assert_eq!(
        seen.dropped,
        [
            (Reason::ClientRefused, 1),
            (Reason::TcpNoFlow, 1),
            (Reason::TtlExpired, 1)
        ]
    );
    assert_eq!((seen.opened, seen.original.packets), (0, 0));
}

#[rstest]
fn clients_behind_are_only_watched(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(Watch::Rule, Watch::Device(Device::Lan))] watch: Watch,
) {
    let mut bench = bench((hook, family), OUTBOUND, watch);
    let names = Connection::outbound("10.0.0.2:25000", "195.228.245.1:53", "203.0.113.1:25000");
    let mail = Connection::outbound("10.0.0.2:25000", "195.228.245.1:25", "203.0.113.1:25000");
    passes(
        &mut bench,
        &[
            (Device::Lan, names.request(udp())),
            (Device::Wan, names.reply(udp())),
            (Device::Lan, mail.request(syn())),
        ],
    );
    bench.holds(&[&names.described("STREAM")]);
    let seen = seen(&bench);
    assert_eq!(
        (seen.opened, seen.dropped),
        (1, vec![(Reason::NotPermitted, 1)])
    );
}

/// Connections that the kernel has begun stay the kernel's when the rule begins to translate; and the other way round.
#[rstest]
fn a_flow_stays_what_it_was(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let shadow = format!("{RULE}{SHADOW}");
    let mut bench = Bench::new((hook, family), &shadow);
    let old = Connection::default();
    passes(&mut bench, &[(Device::Wan, old.request(udp()))]);
    bench.reload(RULE);
    let new = Connection::new("198.51.100.8:25000", LISTENER, "198.51.100.8:25000", SERVER);
    new.send(&mut bench, &udp());
    passes(
        &mut bench,
        &[
            (Device::Wan, old.request(udp())),
            (Device::Lan, old.reply(udp())),
        ],
    );
    bench.reload(&shadow);
    new.answer(&mut bench, &udp());
    // Ended by the daemon, a watched flow is nobody's to refuse.
    let mut flows = bench.flows();
    flows.retain(|flow| flow.is_shadow());
    bench.datapath.end_flows(&flows).expect("the tables");
    passes(&mut bench, &[(Device::Lan, old.reply(udp()))]);
}
