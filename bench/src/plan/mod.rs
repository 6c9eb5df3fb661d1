//! Plans: which packets the generator sends.

mod template;

use crate::net::{Net, Pair};
use crate::tcp;
use crate::wire::{self, LENGTH_V4, LENGTH_V6, Plan, ROOM, SYN_V4, SYN_V6};
use template::{sum, template, transport_sum};

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A datagram with room for a stamp.
    Udp,
    /// The first packet of a connection.
    Syn,
    /// One of an established connection, without payload.
    Ack,
    /// One of wire size in an established connection over IPv4, in its order; flows take turns after so many.
    Segment {
        /// Segments of a flow that follow each other.
        train: u32,
    },
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
    /// With so many packets on their way at most that nothing is lost.
    Window {
        /// The most that are on their way.
        places: u32,
        /// How many leave together when there are places for all of them; a power of two. The kernel hands frames over
        /// in sixteens, and fewer wait until the generator has come round.
        burst: u32,
    },
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
    /// Whether connections that are opened are played to their end, in a rig whose ends do so.
    pub whole: bool,
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
            whole: false,
        }
    }

    /// One packet of each flow, as fast as the gateway takes them without a loss.
    #[must_use]
    pub fn once(self) -> Self {
        Self {
            order: Order::Sequential,
            pace: WINDOW,
            limit: u64::from(self.flows),
            ..self
        }
    }

    /// Where it is sent.
    #[must_use]
    pub fn listener(&self) -> Pair {
        if self.foreign {
            Net::FOREIGN
        } else {
            Net::LISTENER
        }
    }

    /// The bytes of one packet.
    #[must_use]
    pub fn length(&self) -> usize {
        match (self.kind, self.v6) {
            (Kind::Udp | Kind::Ack, false) => LENGTH_V4,
            (Kind::Udp | Kind::Ack, true) => LENGTH_V6,
            (Kind::Syn, false) => SYN_V4,
            (Kind::Syn, true) => SYN_V6,
            (Kind::Segment { .. }, _) => LENGTH_SEGMENT,
        }
    }

    /// The bytes of its transport header and payload; what Ethernet wants beyond is padding.
    fn segment(&self) -> usize {
        match self.kind {
            Kind::Udp | Kind::Segment { .. } => self.length() - if self.v6 { 54 } else { 34 },
            Kind::Syn => 20 + tcp::OPTIONS.len(),
            Kind::Ack => 20,
        }
    }

    /// What the generator is told.
    #[must_use]
    pub fn plan(&self, device: u32) -> Plan {
        let template = template(self);
        let at = if self.v6 { &wire::V6 } else { &wire::V4 };
        let mut frame = [0; ROOM];
        for (word, bytes) in frame.iter_mut().zip(template.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let (gap, window, burst) = match self.pace {
            Pace::Flood => (0, 0, 1),
            Pace::Window { places, burst } => (0, places, burst),
            Pace::Every(gap) => (gap, 0, 1),
        };
        let (payload, train) = match self.kind {
            Kind::Segment { train } => (LENGTH_SEGMENT as u32 - 54, train.max(1)),
            _ => (0, 1),
        };
        let turns = SPAN.checked_div(payload).unwrap_or(1);
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
            listener: Net::low(self.v6, self.listener()),
            listeners: 1,
            port: u32::from(Net::PORT),
            ports: self.ports,
            source_port: SOURCE_PORT,
            source_ports: SOURCE_PORTS,
            random: u32::from(self.order == Order::Random),
            gap,
            window,
            burst,
            // There is room for one in datagrams only.
            stamp: u32::from(self.stamp && self.kind == Kind::Udp),
            sequence: match self.kind {
                Kind::Syn => CLIENT_START,
                _ => CLIENT_START + 1,
            },
            payload,
            train,
            turns: turns - turns % train,
            padding: 0,
            limit: self.limit,
        }
    }
}

/// Bytes of the largest frame on a cable with an MTU of 1,500.
pub const LENGTH_SEGMENT: usize = 1514;

/// The sequence number that every client begins with.
const CLIENT_START: u32 = 1000;

/// Bytes after which a flow's sequence numbers begin anew: half of the window that its ends have agreed on (see
/// [`tcp::OPTIONS`]), so that conntrack takes them for sent again rather than for somebody else's.
const SPAN: u32 = 1 << 29;

/// Packets on their way where nothing may be lost: less than the 256 places of a veth device's ring.
pub const WINDOW: Pace = Pace::Window {
    places: 128,
    burst: 16,
};

/// The same of segments, which come as a card's come that takes a breath between interrupts: as many at a time as NAPI
/// looks at.
pub const SEGMENTS: Pace = Pace::Window {
    places: 192,
    burst: 64,
};

/// Clients, each with an address of its own.
const CLIENTS: u32 = 60_000;

/// Clients' ports: beyond the well-known ones, up to the end.
const SOURCE_PORT: u32 = 1024;
const SOURCE_PORTS: u32 = 65_535 - 1024;
