//! TCP's maximum segment size (RFC 9293 section 3.7.1), lowered in passing.

use crate::{
    checksum::Delta,
    frame::{self, Frame},
    network::Network,
    parse::Packet,
    rule::MSS_AUTO,
};

/// Option kinds (IANA): the end, a filler, and the maximum segment size.
const END: u8 = 0;
/// See [`END`].
const FILLER: u8 = 1;
/// See [`END`].
const MSS: u8 = 2;
/// Length of the option.
const LENGTH: u8 = 4;
/// Options that are looked at: as many as there are octets for, were each a filler.
const MOST: usize = 40;

/// Bytes of a TCP header without options.
const TCP: u16 = 20;

/// The largest segment that `wanted` allows, where packets may have `mtu` bytes.
#[inline(always)]
pub const fn limit<A: Network>(wanted: u16, mtu: u16) -> u16 {
    if wanted == MSS_AUTO {
        mtu.saturating_sub(A::HEADER as u16 + TCP)
    } else {
        wanted
    }
}

/// Bytes of TCP options at most, and of room for them: a power of two, so that an index is easily bounded.
pub const OPTIONS: usize = 64;

/// Lowers the maximum segment size that `packet` names to `limit`, and returns the change of the sum; one that
/// is lower stays, and so does silence. `room` is where the options are looked at.
#[inline(always)]
pub fn clamp<A: Network, F: Frame>(
    frame: &F,
    packet: &Packet<A>,
    limit: u16,
    room: &mut [u8; OPTIONS],
) -> Delta {
    let Some(distance) = copy(frame, packet, room).and_then(|()| find(room)) else {
        return Delta::NONE;
    };
    let distance = usize::from(TCP) + distance;
    let Some(field) = frame.at::<u16>(packet.transport_offset + distance) else {
        return Delta::NONE;
    };
    // SAFETY: `at` bounds-checked it.
    let old: u16 = unsafe { frame::read(field) };
    if u16::from_be(old) <= limit {
        return Delta::NONE;
    }
    let new = limit.to_be();
    // SAFETY: as above.
    unsafe { frame::write(field, new) };
    // At an odd distance from the header's start the octets belong to two words of the sum.
    if distance % 2 == 0 {
        Delta::of_word(old, new)
    } else {
        Delta::of_word(old.swap_bytes(), new.swap_bytes())
    }
}

/// Copies the options to `room`, behind which there is the end. In the frame every step of the walk would have
/// bounds of its own, and the verifier would walk through all combinations of them.
#[inline(always)]
fn copy<A: Network, F: Frame>(
    frame: &F,
    packet: &Packet<A>,
    room: &mut [u8; OPTIONS],
) -> Option<()> {
    let start = packet.transport_offset;
    let end = packet.network + usize::from(packet.headers);
    *room = [END; OPTIONS];
    for (index, word) in room
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .enumerate()
        .take(MOST / 4)
    {
        let at = start + usize::from(TCP) + index * 4;
        if at + 4 > end {
            break;
        }
        // SAFETY: `at` bounds-checks it.
        *word = unsafe { frame::read(frame.at::<[u8; 4]>(at)?) };
    }
    Some(())
}

/// Where the maximum segment size stands in the options.
#[inline(always)]
fn find(options: &[u8; OPTIONS]) -> Option<usize> {
    let mut at = 0;
    for _ in 0..MOST {
        let (kind, length) = (options[at % OPTIONS], options[(at + 1) % OPTIONS]);
        if kind == MSS && length == LENGTH {
            return (at + usize::from(LENGTH) <= MOST).then_some(at + 2);
        }
        if kind == END || kind != FILLER && length < 2 {
            return None;
        }
        let step = if kind == FILLER { 1 } else { length };
        // A length beyond the options leads anywhere in them, which does no harm.
        at = (at + usize::from(step)) % OPTIONS;
    }
    None
}
