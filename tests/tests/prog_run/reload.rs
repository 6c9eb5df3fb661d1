//! Rules that change, and very many rules.

use forwarder::config::{self, BackendPort, PortRange, Target};
use forwarder::datapath::{RuleSet, Sizes};
use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::tcp_flags;

use super::bench::{Bench, Hook, Setup};
use super::family::Family;
use super::flows::{Tuple, decode};
use super::rules::arriving;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, syn, tcp, udp};
use super::translate::RULE;

/// Established flows stay where they are, new ones go where the rules now say.
#[rstest]
fn a_reload_moves_new_flows_only(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let mut bench = Bench::new(hook, RULE);
    let old = Connection::default();
    old.handshake(&mut bench);
    old.send(&mut bench, &udp());
    bench.reload(&RULE.replace("10.0.0.2", "10.0.0.3"));
    let new = Connection::new(
        "198.51.100.8:25000",
        LISTENER,
        "198.51.100.8:25000",
        "10.0.0.3:110",
    );
    for _ in 0..2 {
        old.send(&mut bench, &tcp(tcp_flags::ACK));
        old.answer(&mut bench, &tcp(tcp_flags::ACK));
        old.send(&mut bench, &udp());
        new.send(&mut bench, &udp());
        new.answer(&mut bench, &udp());
        // A client list does not end what it has let in either.
        bench.reload(&format!(
            "{}deny = [\"0.0.0.0/0\"]\n",
            RULE.replace("10.0.0.2", "10.0.0.3")
        ));
    }
    let refused = Connection {
        client: "198.51.100.9:1".to_owned(),
        ..new.clone()
    };
    bench.refuses(Device::Wan, &refused.request(udp()), Reason::ClientRefused);
    bench.reload("[[forward]]\nlisten = 1\nto = \"10.0.0.2\"\n");
    bench.refuses(Device::Wan, &refused.request(udp()), Reason::NoRule);
    old.send(&mut bench, &tcp(tcp_flags::ACK));
    let expected = [
        old.described("ESTABLISHED"),
        old.described("UNREPLIED"),
        new.described("STREAM"),
    ];
    bench.holds(&expected.each_ref().map(String::as_str));
    let count = bench.datapath.rule_count("pop3").expect("reading a map");
    assert_eq!(
        count.opened, 3,
        "the slot stays its rule's while flows name it"
    );
}

/// Ten thousand rules, every one of which is the right one for exactly one packet.
#[rstest]
fn ten_thousand_rules(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    const RULES: u16 = 10_000;
    let mut setup = Setup::new(RULE);
    setup.sizes = Sizes {
        flows: 16_384,
        half_open: 64,
        rules: 16_384,
    };
    let mut bench = Bench::with(hook, &setup);
    let [template] = config::parse("test.toml", &interface_and(RULE))
        .expect("a rule")
        .rules
        .try_into()
        .expect("one");
    let rules: Vec<_> = (1..=RULES)
        .map(|number| {
            let mut rule = template.clone();
            rule.name = format!("rule-{number}");
            rule.listen.ports = PortRange {
                first: number,
                last: number,
            };
            let mut backend = rule.backends()[0];
            backend.port = BackendPort::Single(number + 30_000);
            rule.target = Target::Backends(vec![backend]);
            rule
        })
        .collect();
    bench
        .datapath
        .set_rules(
            RuleSet {
                forwards: &rules,
                ..RuleSet::default()
            },
            |_| None,
        )
        .expect("the rules fit");
    for number in 1..=RULES {
        let packet = arriving(Device::Wan, CLIENT, &format!("203.0.113.5:{number}"));
        let out = decode(&bench.run(Device::Wan, &packet.to_bytes()).packet);
        let backend = Tuple::of(&out).destination.to_string();
        assert_eq!(backend, format!("10.0.0.2:{}", number + 30_000));
    }
    for number in 1..=RULES {
        let count = bench
            .datapath
            .rule_count(&format!("rule-{number}"))
            .expect("reading a map");
        assert_eq!(
            (count.opened, count.original.packets),
            (1, 1),
            "rule {number}"
        );
    }
    bench.counts(u64::from(RULES), 0);
    let outside = arriving(Device::Wan, CLIENT, &format!("203.0.113.5:{}", RULES + 1));
    let run = bench.run(Device::Wan, &outside.to_bytes());
    assert_eq!(run.packet, outside.to_bytes());
}

fn interface_and(rule: &str) -> String {
    format!("[[interface]]\nname = \"wan\"\n{rule}")
}

/// A device that is configured no more serves the flows that it has, and opens none.
#[rstest]
fn a_leaving_device_opens_nothing(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let old = Connection::default();
    old.handshake(&mut bench);
    old.send(&mut bench, &udp());
    let wan = bench.index(Device::Wan);
    let links = bench.links();
    bench.datapath.set_leaving([wan]);
    bench.datapath.set_devices(&links).expect("devices");
    old.send(&mut bench, &tcp(tcp_flags::ACK));
    old.answer(&mut bench, &udp());
    let client = "198.51.100.9:25000";
    let new = Connection::new(client, LISTENER, client, "10.0.0.2:110");
    for packet in [syn(), udp()] {
        bench.refuses(Device::Wan, &new.request(packet), Reason::NoRule);
    }
    bench.datapath.set_leaving([]);
    bench.datapath.set_devices(&links).expect("devices");
    new.send(&mut bench, &udp());
}
