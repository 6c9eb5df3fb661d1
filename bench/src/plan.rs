//! Plans: which packets the generator sends.

use std::net::Ipv6Addr;

use crate::net::Net;
use crate::wire::{self, LENGTH_V4, LENGTH_V6, Offsets, Plan};

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A datagram with room for a stamp.
    Udp,
    /// The first packet of a connection.
    Syn,
    /// One of an established connection, without payload.
    Ack,
}

/// The order of the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other, and from the start again.
    Sequential,
    /// Each packet's by chance, which is what caches like least.
    Random,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the generator can, whatever is lost.
    Flood,
    /// With this many packets on their way at most, so that nothing is lost.
    Window(u32),
    /// One packet each so many nanoseconds.
    Every(u32),
}

/// Traffic as the measurements want it.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Whether over IPv6.
    pub v6: bool,
    /// Of what packets.
    pub kind: Kind,
    /// The number of the first flow.
    pub first: u32,
    /// How many flows.
    pub flows: u32,
    /// In which order.
    pub order: Order,
    /// How fast.
    pub pace: Pace,
    /// How many ports of the listener it is spread over.
    pub ports: u32,
    /// Whether packets carry the time, and the sink looks at it.
    pub stamp: bool,
    /// How many packets; 0 for as long as it takes.
    pub limit: u64,
    /// Whether to the address that is forwarded without NAT instead of the listener.
    pub foreign: bool,
}

impl Traffic {
    /// Datagrams of `flows` flows at random and at full speed.
    #[must_use]
    pub fn flood(flows: u32, ports: u32) -> Self {
        Self {
            v6: false,
            kind: Kind::Udp,
            first: 0,
            flows,
            order: Order::Random,
            pace: Pace::Flood,
            ports,
            stamp: false,
            limit: 0,
            foreign: false,
        }
    }

    /// One packet of each flow, as fast as the gateway takes them without a loss.
    #[must_use]
    pub fn once(self) -> Self {
        Self {
            order: Order::Sequential,
            pace: Pace::Window(WINDOW),
            limit: u64::from(self.flows),
            ..self
        }
    }

    /// The bytes of one packet.
    #[must_use]
    pub fn length(&self) -> usize {
        if self.v6 { LENGTH_V6 } else { LENGTH_V4 }
    }

    /// The bytes of its transport header and payload. TCP has none of the latter; what Ethernet wants beyond is
    /// padding.
    fn segment(&self) -> usize {
        match self.kind {
            Kind::Udp => self.length() - if self.v6 { 54 } else { 34 },
            Kind::Syn | Kind::Ack => 20,
        }
    }

    /// What the generator is told.
    #[must_use]
    pub fn plan(&self, device: u32) -> Plan {
        let template = template(self);
        let at = if self.v6 { &wire::V6 } else { &wire::V4 };
        let mut frame = [0; LENGTH_V6 / 4];
        for (word, bytes) in frame.iter_mut().zip(template.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let listener = if self.foreign {
            Net::FOREIGN
        } else {
            Net::LISTENER
        };
        let (gap, window) = match self.pace {
            Pace::Flood => (0, 0),
            Pace::Window(window) => (0, window),
            Pace::Every(gap) => (gap, 0),
        };
        Plan {
            frame,
            header_sum: at.header_check.map_or(0, |_| sum(&template[14..34])),
            transport_sum: transport_sum(&template[..at.transport + self.segment()], at, self.kind),
            tcp: u32::from(self.kind != Kind::Udp),
            device,
            first: self.first,
            flows: self.flows,
            client: Net::low(self.v6, Net::CLIENTS),
            clients: CLIENTS,
            listener: Net::low(self.v6, listener),
            listeners: 1,
            port: u32::from(Net::PORT),
            ports: self.ports,
            source_port: SOURCE_PORT,
            source_ports: SOURCE_PORTS,
            random: u32::from(self.order == Order::Random),
            gap,
            window,
            stamp: u32::from(self.stamp),
            limit: self.limit,
        }
    }
}

/// Packets on their way where nothing may be lost: less than the 256 places of a veth device's ring.
pub const WINDOW: u32 = 128;

/// Clients, each with an address of its own.
const CLIENTS: u32 = 60_000;

/// Clients' ports: beyond the well-known ones, up to the end.
const SOURCE_PORT: u32 = 1024;
const SOURCE_PORTS: u32 = 65_535 - 1024;

/// A frame without what differs from flow to flow.
fn template(traffic: &Traffic) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LENGTH_V6);
    frame.extend(Net::ROUTER_IN_MAC);
    frame.extend(Net::GENERATOR_MAC);
    let protocol = if traffic.kind == Kind::Udp { 17 } else { 6 };
    let segment = traffic.segment();
    if traffic.v6 {
        frame.extend(0x86dd_u16.to_be_bytes());
        frame.extend([0x60, 0, 0, 0]);
        frame.extend((segment as u16).to_be_bytes());
        frame.extend([protocol, 64]);
        let listener = if traffic.foreign {
            Net::FOREIGN
        } else {
            Net::LISTENER
        };
        frame.extend(prefix(Net::CLIENTS.1));
        frame.extend(prefix(listener.1));
    } else {
        frame.extend(0x0800_u16.to_be_bytes());
        frame.extend([0x45, 0]);
        frame.extend(((20 + segment) as u16).to_be_bytes());
        // Not fragmented, and never to be.
        frame.extend([0, 0, 0x40, 0, 64, protocol]);
        frame.extend([0; 10]);
    }
    frame.extend([0; 4]);
    match traffic.kind {
        Kind::Udp => {
            frame.extend((segment as u16).to_be_bytes());
        }
        Kind::Syn | Kind::Ack => {
            let (sequence, acknowledged, flags) = match traffic.kind {
                Kind::Syn => (1000_u32, 0_u32, 0x02),
                _ => (1001, 5001, 0x10),
            };
            frame.extend(sequence.to_be_bytes());
            frame.extend(acknowledged.to_be_bytes());
            frame.extend([0x50, flags, 0xff, 0xff]);
        }
    }
    frame.resize(traffic.length(), 0);
    frame
}

/// An address less its last four bytes, which the generator writes.
fn prefix(address: Ipv6Addr) -> [u8; 16] {
    let mut octets = address.octets();
    octets[12..].fill(0);
    octets
}

/// Of the transport header with its pseudo-header (RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1); what the
/// template has no value for yet counts nothing.
fn transport_sum(frame: &[u8], at: &Offsets, kind: Kind) -> u32 {
    let segment = &frame[at.transport..];
    let addresses = match at.header_check {
        Some(_) => &frame[26..34],
        None => &frame[22..54],
    };
    let protocol = if kind == Kind::Udp { 17_u16 } else { 6 };
    // A stamp and its complement are four words of all ones, which is zero in one's complement; but the template's
    // eight words of zeros are not distinguishable from them, so nothing is to be added.
    let parts = [
        sum(addresses),
        u32::from(protocol.to_be()),
        u32::from((segment.len() as u16).to_be()),
        sum(segment),
    ];
    u32::from(wire::fold(parts.iter().sum()))
}

/// The one's-complement sum of an even number of bytes, in their order.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]])));
    u32::from(wire::fold(words.sum()))
}
