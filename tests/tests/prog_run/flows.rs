//! The flow table's contents in words.

use std::fmt;
use std::net::SocketAddr;

use forwarder::datapath::{Flow, Key, ends};
use tests::packet::{Packet, Transport};

use super::bench::Bench;

/// Source, destination and protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Who sends.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// 6, 17, 1 or 58.
    pub protocol: u8,
}

impl Tuple {
    /// The tuple of a TCP or UDP packet, or of an echo, whose identifier is the port of who asks.
    pub fn of(packet: &Packet) -> Self {
        let (source, destination) = match &packet.transport {
            Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
            Transport::Udp(udp) => (udp.source_port, udp.destination_port),
            Transport::Icmp(icmp) => {
                let identifier = u16::from_be_bytes([icmp.rest[0], icmp.rest[1]]);
                match icmp.kind {
                    8 | 128 => (identifier, 0),
                    _ => (0, identifier),
                }
            }
            other => panic!("{other:?} has no ports"),
        };
        Self {
            source: SocketAddr::new(packet.ip.source(), source),
            destination: SocketAddr::new(packet.ip.destination(), destination),
            protocol: packet.protocol(),
        }
    }
}

impl From<&Key> for Tuple {
    fn from(key: &Key) -> Self {
        let (source, destination) = ends(key);
        Self {
            source,
            destination,
            protocol: key.protocol,
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.source, self.destination)
    }
}

/// `CLIENT > LISTENER, BACKEND > SOURCE, STATE`: the tuples as packets of both directions arrive.
pub fn describe(flow: &Flow) -> String {
    let (original, reply) = (Tuple::from(&flow.original), Tuple::from(&flow.reply));
    format!("{original}, {reply}, {}", flow.state().name())
}

impl Bench {
    /// Asserts that exactly `expected` are in the flow tables, in any order.
    #[track_caller]
    pub fn holds(&self, expected: &[&str]) {
        let mut found: Vec<_> = self.flows().iter().map(describe).collect();
        found.sort();
        let mut expected: Vec<_> = expected.iter().map(|one| self.family.text(one)).collect();
        expected.sort();
        assert_eq!(found, expected);
    }

    /// Asserts how many flows there are whose handshake is complete or which have none, and how many are half-open.
    #[track_caller]
    pub fn counts(&self, flows: u64, half_open: u64) {
        let found = self.datapath.flow_counts().expect("reading the flows");
        assert_eq!(found, (flows, half_open), "flows, half-open");
    }
}

/// Makes a packet of a frame.
pub fn decode(frame: &[u8]) -> Packet {
    tests::packet::decode(frame).unwrap_or_else(|error| panic!("{error}"))
}
