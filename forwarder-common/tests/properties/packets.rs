//! Packets by chance.

use etherparse::{TcpHeader, UdpHeader};
use forwarder_common::flow::FlowKey;
use proptest::prelude::*;

use crate::{
    judge,
    wire::{Wire, words},
};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=most)
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    Echo,
    EchoReply,
}

/// What a valid packet is made from.
#[derive(Clone, Debug)]
pub struct Sample<A> {
    pub kind: Kind,
    pub source: A,
    pub destination: A,
    /// The first is an echo's identifier.
    pub ports: (u16, u16),
    pub hops: u8,
    /// Number of the VLAN.
    pub tag: Option<u16>,
    pub options: Vec<u8>,
    pub tcp_options: Vec<u8>,
    pub payload: Vec<u8>,
    /// UDP without checksum.
    pub absent: bool,
    /// Bytes of Ethernet padding.
    pub trailer: usize,
}

/// Any valid unicast packet.
pub fn sample<A: Wire>() -> impl Strategy<Value = Sample<A>> {
    let kind = prop_oneof![
        Just(Kind::Tcp),
        Just(Kind::Udp),
        Just(Kind::Echo),
        Just(Kind::EchoReply)
    ];
    let head = (
        kind,
        any::<bool>(),
        3_u8..,
        proptest::option::of(0..4096_u16),
    );
    let addresses = (A::host(), A::host(), any::<(u16, u16)>());
    let sizes = (A::options(), words(10), bytes(63), 0..20_usize);
    (head, addresses, sizes).prop_map(|(head, addresses, sizes)| {
        let (kind, absent, hops, tag) = head;
        let (source, destination, ports) = addresses;
        let (options, tcp_options, payload, trailer) = sizes;
        Sample {
            kind,
            source,
            destination,
            ports,
            hops,
            tag,
            options,
            tcp_options,
            payload,
            absent: absent && kind == Kind::Udp && !A::IPV6,
            trailer,
        }
    })
}

/// A valid packet with up to four bits flipped and perhaps its end cut off.
pub fn mutated<A: Wire>() -> impl Strategy<Value = Vec<u8>> {
    let flips = proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..5);
    let cut = proptest::option::weighted(0.2, any::<prop::sample::Index>());
    (sample::<A>(), flips, cut).prop_map(|(sample, flips, cut)| {
        let mut bytes = sample.bytes();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

/// Bytes of every length, half of them with what gets a parser beyond its first questions.
pub fn garbage<A: Wire>() -> impl Strategy<Value = Vec<u8>> {
    let protocol = prop_oneof![
        Just(6),
        Just(17),
        Just(A::ICMP),
        Just(60),
        Just(0),
        Just(43)
    ];
    (bytes(200), any::<bool>(), protocol, 0x45..=0x4f_u8).prop_map(
        |(mut bytes, plausible, protocol, version)| {
            if !plausible || bytes.len() < 14 + A::HEADER {
                return bytes;
            }
            bytes[12..14].copy_from_slice(&A::ETHER_TYPE.to_ne_bytes());
            let stated = bytes.len() - 14 - if A::IPV6 { A::HEADER } else { 0 };
            let stated = u16::try_from(stated).expect("at most 200").to_be_bytes();
            if A::IPV6 {
                bytes[14] = 0x60;
                bytes[18..20].copy_from_slice(&stated);
                bytes[20] = protocol;
            } else {
                bytes[14] = version;
                bytes[16..18].copy_from_slice(&stated);
                bytes[20..22].copy_from_slice(&[0x40, 0]);
                bytes[23] = protocol;
            }
            bytes
        },
    )
}

impl<A: Wire> Sample<A> {
    /// The protocol's number.
    pub fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp => 6,
            Kind::Udp => 17,
            Kind::Echo | Kind::EchoReply => A::ICMP,
        }
    }

    /// The tuple as the product has it.
    pub fn key(&self) -> FlowKey<A> {
        key(self.kind, self.source, self.destination, self.ports)
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if let Some(id) = self.tag {
            frame.extend([0x81, 0]);
            frame.extend((id | 0x6000).to_be_bytes());
        }
        frame.extend(A::ETHER_TYPE.to_ne_bytes());
        frame.extend(self.packet());
        frame.resize(frame.len() + self.trailer, 0);
        frame
    }

    /// From the IP header on.
    pub fn packet(&self) -> Vec<u8> {
        let (mut segment, field) = self.segment();
        if !self.absent {
            let pseudo = match self.kind {
                Kind::Echo | Kind::EchoReply if !A::ICMP_PSEUDO_HEADER => Vec::new(),
                _ => A::pseudo(
                    self.source,
                    self.destination,
                    self.protocol(),
                    segment.len(),
                ),
            };
            let mut check = !judge::sum(&[&pseudo[..], &segment].concat());
            if self.kind == Kind::Udp && check == 0 {
                check = 0xffff;
            }
            segment[field..field + 2].copy_from_slice(&check.to_be_bytes());
        }
        let header = A::write_header(self, self.protocol(), segment.len());
        [header, segment].concat()
    }

    /// The transport header and the payload, and where the checksum goes.
    fn segment(&self) -> (Vec<u8>, usize) {
        let (first, second) = self.ports;
        let (header, field) = match self.kind {
            Kind::Tcp => {
                let mut tcp = TcpHeader::new(first, second, 0x0102_0304, 1000);
                tcp.set_options_raw(&self.tcp_options)
                    .expect("up to ten words");
                (tcp.to_bytes().to_vec(), 16)
            }
            Kind::Udp => {
                let udp = UdpHeader {
                    source_port: first,
                    destination_port: second,
                    length: (8 + self.payload.len()).try_into().expect("a short packet"),
                    checksum: 0,
                };
                (udp.to_bytes().to_vec(), 6)
            }
            Kind::Echo | Kind::EchoReply => {
                let [request, reply] = A::ECHO;
                let kind = if self.kind == Kind::Echo {
                    request
                } else {
                    reply
                };
                let [high, low] = first.to_be_bytes();
                (vec![kind, 0, 0, 0, high, low, 0, 1], 2)
            }
        };
        ([header, self.payload.clone()].concat(), field)
    }
}

/// The tuple of a packet of this kind; an echo's identifier is the port of who asks.
pub fn key<A: Wire>(
    kind: Kind,
    source: A,
    destination: A,
    (first, second): (u16, u16),
) -> FlowKey<A> {
    let (first, second, protocol) = match kind {
        Kind::Tcp => (first, second, 6),
        Kind::Udp => (first, second, 17),
        Kind::Echo => (first, 0, A::ICMP),
        Kind::EchoReply => (0, first, A::ICMP),
    };
    FlowKey::new(source, destination, first.to_be(), second.to_be(), protocol)
}
