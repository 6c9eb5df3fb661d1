//! TCP as the two ends play it: what an end says next follows from what it has heard, and nobody remembers anything.
//!
//! `bench` includes this file by its path; it uses nothing but `core` for that reason.

/// Flags of a TCP header (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
/// See [`FIN`].
pub const SYN: u8 = 0x02;
/// See [`FIN`].
pub const RST: u8 = 0x04;
/// See [`FIN`].
pub const PSH: u8 = 0x08;
/// See [`FIN`].
pub const ACK: u8 = 0x10;

/// The sequence number that every server begins with.
pub const SERVER_START: u32 = 5000;

/// The bytes of a request, and of its response.
pub const MESSAGE: u32 = 64;

/// The options of a SYN and of its answer: segments of 1,460 bytes at most, windows in units of 2¹⁴ bytes (RFC 7323
/// section 2), so that conntrack lets half a gigabyte pass that nobody acknowledges.
pub const OPTIONS: [u8; 8] = [2, 4, 0x05, 0xb4, 1, 3, 3, 14];

/// What matters of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// See [`FIN`].
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledged: u32,
    /// Bytes of payload.
    pub payload: u32,
}

/// What an end does when it has heard a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It says something in its turn.
    Say(Segment),
    /// There is nothing left to say: all went as it should.
    Over,
    /// That is nothing that the other end says.
    Broken,
}

/// How far a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It is opened, the server tells its window once more, and that is all: the window of a SYN's answer is not scaled
    /// yet.
    Open,
    /// A request, its response, and an end from both sides.
    Whole,
}

/// The server's turn.
#[inline(always)]
pub fn server(heard: &Segment, extent: Extent) -> Turn {
    match heard.flags & (SYN | FIN | RST | ACK) {
        SYN => Turn::Say(Segment {
            flags: SYN | ACK,
            sequence: SERVER_START,
            acknowledged: heard.sequence.wrapping_add(1),
            payload: 0,
        }),
        ACK if heard.payload > 0 => Turn::Say(next(heard, PSH, MESSAGE)),
        ACK => match extent {
            Extent::Open => Turn::Say(next(heard, 0, 0)),
            Extent::Whole => Turn::Over,
        },
        flags if flags == FIN | ACK => Turn::Say(next(heard, FIN, 0)),
        _ => Turn::Broken,
    }
}

/// The client's turn; the SYN is the generator's.
#[inline(always)]
pub fn client(heard: &Segment, extent: Extent) -> Turn {
    match heard.flags & (SYN | FIN | RST | ACK) {
        flags if flags == SYN | ACK => Turn::Say(match extent {
            Extent::Open => next(heard, 0, 0),
            Extent::Whole => next(heard, PSH, MESSAGE),
        }),
        ACK if heard.payload > 0 => Turn::Say(next(heard, FIN, 0)),
        ACK if extent == Extent::Open => Turn::Over,
        flags if flags == FIN | ACK => Turn::Say(next(heard, 0, 0)),
        _ => Turn::Broken,
    }
}

/// The segment that acknowledges all that was heard. SYN and FIN count as a byte each.
#[inline(always)]
fn next(heard: &Segment, flags: u8, payload: u32) -> Segment {
    let counted = u32::from(heard.flags & SYN != 0) + u32::from(heard.flags & FIN != 0);
    Segment {
        flags: flags | ACK,
        sequence: heard.acknowledged,
        acknowledged: heard.sequence.wrapping_add(heard.payload + counted),
        payload,
    }
}
