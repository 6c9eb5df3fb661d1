//! The short way: nobody can tell which way a packet went, but by the time it took.

use forwarder_common::address::{Address, V4, V6};
use forwarder_common::cache::{Set, WAYS};
use forwarder_common::flow::FlowKey;
use rstest::rstest;
use tests::packet::tcp_flags::{ACK, PSH};

use super::bench::{Bench, Hook};
use super::counted::Counted;
use super::expiry::sweep;
use super::family::Family;
use super::refused::{Random, changed, seeds};
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, SERVER, tcp, udp};
use super::translate::RULE;

/// Flows of the least tables are in two to this power sets of places.
const BITS: u32 = 12;

/// What came of a packet.
type Fate = (u32, Vec<u8>, Vec<&'static str>, [u64; 3]);

fn fate(bench: &mut Bench, device: Device, frame: &[u8]) -> Option<Fate> {
    let before = bench.counted();
    let run = bench.try_run(device, frame).ok()?;
    let after = bench.counted();
    let counted = |of: fn(&Counted) -> u64| of(&after) - of(&before);
    let traffic = [
        counted(|it| it.packets[0]),
        counted(|it| it.packets[1]),
        counted(|it| it.bytes),
    ];
    Some((run.verdict, run.packet, changed(&before, &after), traffic))
}

/// Each packet right after one of its flow, and once more with nothing in the cache.
#[rstest]
fn garbled_packets_fare_alike_either_way(#[values(Family::V4, Family::V6)] family: Family) {
    let mut bench = Bench::new((Hook::Xdp, family), RULE);
    let connection = Connection::default();
    connection.handshake(&mut bench);
    let mut seeds = seeds(&connection, family).to_vec();
    let data = family.packet(&connection.request(tcp(ACK | PSH)));
    seeds.push(data.to_bytes());
    let mut random = Random(7);
    let mut forwarded = 0;
    for _ in 0..2000 {
        let mut frame = seeds[random.below(seeds.len())].clone();
        for _ in 0..random.below(3) {
            // Of the headers.
            let at = random.below(frame.len().min(80));
            frame[at] ^= 1 << random.below(8);
        }
        let device = [Device::Wan, Device::Lan][random.below(2)];
        // Whatever it opens or closes, it does so here.
        if fate(&mut bench, device, &frame).is_none() {
            continue;
        }
        for packet in [tcp(ACK), udp()] {
            let sent = family
                .packet(&connection.request(packet.clone()))
                .to_bytes();
            bench.run(Device::Wan, &sent);
            let returned = family.packet(&connection.reply(packet)).to_bytes();
            bench.run(Device::Lan, &returned);
        }
        let short = fate(&mut bench, device, &frame).expect("as before");
        bench.datapath.forget_cached().expect("a map");
        let long = fate(&mut bench, device, &frame).expect("as before");
        // Answers are limited in rate.
        if long
            .2
            .iter()
            .all(|reason| !["ttl-expired", "too-big"].contains(reason))
        {
            assert_eq!(short, long, "{frame:02x?}");
        }
        forwarded += short.3[0];
    }
    assert!(forwarded > 500, "{forwarded} of 2000 forwarded");
}

/// Ports of the client's whose places in the cache are the same as its own port's: more than there are places.
fn rivals(family: Family) -> Vec<u16> {
    fn search<A: Address>(source: A, destination: A) -> Vec<u16> {
        let set = |port: u16| {
            let [own, to] = [port.to_be(), 110_u16.to_be()];
            Set::number(&FlowKey::new(source, destination, own, to, 17), BITS)
        };
        let same = |port: &u16| *port != 25000 && set(*port) == set(25000);
        (1..u16::MAX).filter(same).take(WAYS).collect()
    }
    let [source, destination] = [CLIENT, LISTENER].map(|text| {
        let address = text.split(':').next().expect("an address");
        family.address(address.parse().expect("an address"))
    });
    let found = match (source, destination) {
        (std::net::IpAddr::V4(one), std::net::IpAddr::V4(other)) => {
            search::<V4>(one.into(), other.into())
        }
        (std::net::IpAddr::V6(one), std::net::IpAddr::V6(other)) => {
            search::<V6>(one.into(), other.into())
        }
        _ => Vec::new(),
    };
    assert_eq!(found.len(), WAYS, "of 65535 ports in 4096 sets");
    found
}

/// They are told apart, and each is counted in full.
#[rstest]
fn flows_of_one_set(#[values(Family::V4, Family::V6)] family: Family) {
    let mut bench = Bench::new((Hook::Xdp, family), RULE);
    let mut connections = vec![Connection::default()];
    connections.extend(rivals(family).into_iter().map(|port| {
        let client = format!("198.51.100.7:{port}");
        Connection::new(&client, LISTENER, &client, SERVER)
    }));
    for round in 0..10 {
        for (connection, times) in connections.iter().zip([2, 3, 4]) {
            for _ in 0..times {
                connection.send(&mut bench, &udp());
            }
        }
        if round % 4 == 3 {
            bench.datapath.forget_cached().expect("a map");
        }
    }
    let mut packets: Vec<_> = bench
        .flows()
        .iter()
        .map(|flow| (flow.original_entry.packets(), flow.reply_entry.packets()))
        .collect();
    packets.sort_unstable();
    assert_eq!(packets, [(20, 0), (30, 0), (40, 0)]);
}

/// What an old flow had pending is not a new one's.
#[rstest]
fn a_new_flow_begins_at_nought(#[values(Family::V4, Family::V6)] family: Family) {
    let mut bench = Bench::new((Hook::Xdp, family), RULE);
    let connection = Connection::default();
    for sent in [5, 2] {
        for _ in 0..sent {
            connection.send(&mut bench, &udp());
        }
        let [flow] = bench.flows().try_into().expect("one flow");
        assert_eq!(flow.original_entry.packets(), sent);
        sweep(&mut bench, 32, 1, &[]);
    }
}
