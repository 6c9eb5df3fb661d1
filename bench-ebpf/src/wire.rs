//! What the generator sends: layouts that both sides of the kernel share, and the packet itself.
//!
//! `bench` includes this file by its path; it uses nothing but `core` for that reason.

/// Bytes of a frame: the smallest that Ethernet carries, and what IPv6 takes with a TCP header or a stamp.
pub const LENGTH_V4: usize = 60;
/// See [`LENGTH_V4`].
pub const LENGTH_V6: usize = 80;

/// The same of a SYN, with its options and what makes it a multiple of four.
pub const SYN_V4: usize = 64;
/// See [`SYN_V4`].
pub const SYN_V6: usize = 84;

/// How many bytes the latter are. They do not leave.
pub const SYN_FILL: i32 = 2;

/// What the generator writes of a segment of wire size: Ethernet, IPv4, TCP, and what makes that a multiple of four.
pub const HEAD_SEGMENT: usize = 56;

/// Words of the longest frame that a plan has room for; an even number.
pub const ROOM: usize = 22;

/// Where things are in a frame; IPv6 addresses differ in their last four bytes only.
pub struct Offsets {
    /// The IPv4 header's checksum; `None` for IPv6.
    pub header_check: Option<usize>,
    /// The last four bytes of the source address.
    pub source: usize,
    /// The last four bytes of the destination address.
    pub destination: usize,
    /// The transport header.
    pub transport: usize,
}

/// IPv4 without options behind Ethernet.
pub const V4: Offsets = Offsets {
    header_check: Some(24),
    source: 26,
    destination: 30,
    transport: 34,
};

/// IPv6 without extension headers behind Ethernet.
pub const V6: Offsets = Offsets {
    header_check: None,
    source: 34,
    destination: 50,
    transport: 54,
};

/// The stamp of a UDP packet, from the transport header on: the time, and its complement, so that the checksum does
/// not depend on the time.
pub const STAMP: usize = 8;

/// What the generator is to send. Addresses and ports are in host order; of an address it is the last four bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// A frame with zeros for everything that [`Plan::write`] writes.
    pub frame: [u32; ROOM],
    /// The one's-complement sum of its IPv4 header, folded, in the order of its bytes.
    pub header_sum: u32,
    /// The same of its transport header with pseudo-header.
    pub transport_sum: u32,
    /// 1 if it is TCP.
    pub tcp: u32,
    /// The device that it leaves by.
    pub device: u32,
    /// The first flow's number, and how many there are from there on.
    pub first: u32,
    /// See `first`.
    pub flows: u32,
    /// The first client's address, and how many there are.
    pub client: u32,
    /// See `client`.
    pub clients: u32,
    /// The first listener's address, and how many there are.
    pub listener: u32,
    /// See `listener`.
    pub listeners: u32,
    /// The first port of the listeners, and how many there are.
    pub port: u32,
    /// See `port`.
    pub ports: u32,
    /// The first source port, and how many there are.
    pub source_port: u32,
    /// See `source_port`.
    pub source_ports: u32,
    /// 1 for flows at random, 0 for one after the other.
    pub random: u32,
    /// Nanoseconds from one packet to the next, 0 for none.
    pub gap: u32,
    /// How many packets may be on their way to the sink, 0 for any number.
    pub window: u32,
    /// How many leave together when there is room for all of them; a power of two.
    pub burst: u32,
    /// 1 to put stamps into UDP packets.
    pub stamp: u32,
    /// The sequence number of a TCP packet; of a flow's first one if they rise.
    pub sequence: u32,
    /// The payload of a segment, by which its flow's sequence numbers rise.
    pub payload: u32,
    /// How many segments of a flow follow each other before it is the next one's turn.
    pub train: u32,
    /// After how many segments a flow's sequence numbers begin anew; a multiple of `train`.
    pub turns: u32,
    /// Always zero.
    pub padding: u32,
    /// After how many packets to stop, 0 for never.
    pub limit: u64,
}

/// What tells the packets of a flow from those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fields {
    /// Source address.
    pub client: u32,
    /// Source port.
    pub source_port: u16,
    /// Destination address.
    pub listener: u32,
    /// Destination port.
    pub port: u16,
    /// Sequence number of TCP.
    pub sequence: u32,
}

impl Plan {
    /// Of flow `index`. All flows differ as long as there are fewer than `ports` × `listeners` × `source_ports`, whatever
    /// their clients: translation to a single source address need not change a port then.
    #[inline(always)]
    pub fn fields(&self, index: u32) -> Fields {
        // A division by zero would panic, and a program that can has no place in the kernel.
        let [ports, listeners, sources, clients] = [
            self.ports.max(1),
            self.listeners.max(1),
            self.source_ports.max(1),
            self.clients.max(1),
        ];
        let flow = self.first.wrapping_add(index);
        let rest = flow / ports;
        Fields {
            client: self.client.wrapping_add(flow % clients),
            source_port: self.source_port.wrapping_add((rest / listeners) % sources) as u16,
            listener: self.listener.wrapping_add(rest % listeners),
            port: self.port.wrapping_add(flow % ports) as u16,
            sequence: self.sequence,
        }
    }

    /// Of the next segment, flows taking turns.
    #[inline(always)]
    pub fn segment(&self, progress: &mut Progress) -> Fields {
        let mut fields = self.fields(progress.index);
        let number = progress.turn + progress.car;
        fields.sequence = self.sequence.wrapping_add(number * self.payload);
        progress.car += 1;
        if progress.car >= self.train {
            progress.car = 0;
            progress.index += 1;
        }
        if progress.index >= self.flows {
            progress.index = 0;
            progress.turn += self.train;
        }
        if progress.turn >= self.turns {
            progress.turn = 0;
        }
        fields
    }

    /// Writes a whole packet. Nothing of what is in the frame counts: the frames come back from the gateway as it has
    /// left them.
    ///
    /// # Safety
    ///
    /// At `frame` there is room for `words` × 4 bytes, aligned to 4, and they are no less than the headers that belong to
    /// `at`.
    #[inline(always)]
    pub unsafe fn write<const WORDS: usize>(&self, frame: *mut u8, at: &Offsets, fields: Fields) {
        let mut word = 0;
        while word < WORDS {
            // SAFETY: the caller's frame has WORDS words.
            unsafe { *frame.cast::<u32>().wrapping_add(word) = self.frame[word] };
            word += 1;
        }
        // SAFETY: for this and all that follow: the offsets lie within either length and are even.
        let put = |at: usize, half: u16| unsafe { *frame.wrapping_add(at).cast::<u16>() = half };
        let [client, listener] = [fields.client, fields.listener].map(halves);
        for (at, [high, low]) in [(at.source, client), (at.destination, listener)] {
            put(at, high);
            put(at + 2, low);
        }
        let ports = [fields.source_port.to_be(), fields.port.to_be()];
        put(at.transport, ports[0]);
        put(at.transport + 2, ports[1]);
        let addresses = [client, listener]
            .iter()
            .map(|[high, low]| *high as u32 + *low as u32)
            .sum::<u32>();
        if let Some(check) = at.header_check {
            put(check, !fold(self.header_sum + addresses));
        }
        let sum = self.transport_sum + addresses + ports[0] as u32 + ports[1] as u32;
        if self.tcp != 0 {
            let [high, low] = halves(fields.sequence);
            put(at.transport + 4, high);
            put(at.transport + 6, low);
            let check = !fold(sum + high as u32 + low as u32);
            put(at.transport + 16, check);
            return;
        }
        let check = !fold(sum);
        // Zero would say that there is none (RFC 768).
        put(at.transport + 6, if check == 0 { 0xffff } else { check });
    }
}

/// Writes a stamp into a packet of UDP.
///
/// # Safety
///
/// At `frame` there is room for a packet that belongs to `at`, with a stamp.
#[inline(always)]
pub unsafe fn put_stamp(frame: *mut u8, at: &Offsets, stamp: u64) {
    // SAFETY: for all that follow: the offsets lie within the packet and are even.
    let put = |at: usize, half: u16| unsafe { *frame.wrapping_add(at).cast::<u16>() = half };
    let start = at.transport + STAMP;
    let mut half = 0;
    while half < 4 {
        let part = (stamp >> (16 * half)) as u16;
        put(start + 2 * half, part);
        put(start + 8 + 2 * half, !part);
        half += 1;
    }
}

/// As they lie in a packet.
#[inline(always)]
fn halves(address: u32) -> [u16; 2] {
    [((address >> 16) as u16).to_be(), (address as u16).to_be()]
}

/// Adds the carries back in (RFC 1071).
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// How far the generator has come. One thread writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Packets sent.
    pub sent: u64,
    /// When the next one is due, by the kernel's monotonic clock.
    pub next: u64,
    /// Packets that have been given up; see `window`.
    pub lost: u64,
    /// What the sink had counted when that last changed, and when that was.
    pub received: u64,
    /// See `received`.
    pub since: u64,
    /// When the first packet was sent, and when the last one was if there is a limit.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// The next flow, less the first.
    pub index: u32,
    /// State of the random numbers; not zero.
    pub random: u32,
    /// Segments that every flow has sent, and how many more the one whose turn it is.
    pub turn: u32,
    /// See `turn`.
    pub car: u32,
}
