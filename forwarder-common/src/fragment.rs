//! Fragments: what is remembered of a datagram while its parts come by.
//!
//! Only the first part has ports. They are remembered for the others, and what comes before the first is
//! put aside until it comes. Nothing is reassembled: every part is translated and sent on as it is.

use crate::{
    address::{V4, V6},
    network::{Header, Network},
    reason::Reason,
};

/// One datagram: what its receiver puts its parts together by (RFC 791 section 3.2, RFC 8200 section 4.5;
/// the latter without the protocol, which only the first part tells for sure).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification, as loaded natively.
    pub id: u32,
    /// IP protocol number; zero for IPv6.
    pub protocol: u8,
    padding: [u8; 3],
}

impl<A: Network> FragmentKey<A> {
    /// The datagram that a packet with this `header` is a part of.
    #[inline(always)]
    pub const fn of(header: &Header<A>) -> Self {
        Self {
            source: header.source,
            destination: header.destination,
            id: header.part.id,
            protocol: if A::IPV6 { 0 } else { header.protocol },
            padding: [0; 3],
        }
    }
}

/// Eight-byte units of the longest datagram, in words of 64.
const WORDS: usize = 128;
/// Words that one fragment may touch: of 9,000 bytes and a bit.
const WORDS_EACH: usize = 20;
/// Longest fragment that is kept account of, in bytes of payload.
pub const LONGEST: u32 = (WORDS_EACH as u32 - 1) * 64 * 8;
/// Longest payload of a datagram (RFC 791, RFC 8200: sixteen bits of length).
const DATAGRAM: u32 = 65535;

/// What is remembered of a datagram.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Source and destination port, network byte order, once [`KNOWN`].
    pub ports: [u16; 2],
    /// When its first packet came: seconds of `bpf_ktime_get_ns`.
    pub since: u32,
    /// Where its payload ends, in bytes, once [`LAST_SEEN`].
    pub end: u32,
    /// How many fragments were put aside.
    pub held: u8,
    /// Protocol number of the transport, once [`KNOWN`]. In IPv6 the others may announce extension headers
    /// that only the first one has.
    pub protocol: u8,
    /// [`KNOWN`], [`LAST_SEEN`], [`SPOILT`].
    pub flags: u16,
    /// One bit for each eight bytes of payload that have been sent on.
    pub covered: [u64; WORDS],
}

/// [`Datagram::flags`]: the first fragment has come.
pub const KNOWN: u16 = 1;
/// [`Datagram::flags`]: the last fragment has come.
pub const LAST_SEEN: u16 = 2;
/// [`Datagram::flags`]: fragments overlapped; the rest of the datagram is dropped (RFC 5722).
pub const SPOILT: u16 = 4;

impl Default for Datagram {
    fn default() -> Self {
        Self {
            ports: [0; 2],
            since: 0,
            end: 0,
            held: 0,
            protocol: 0,
            flags: 0,
            covered: [0; WORDS],
        }
    }
}

impl Datagram {
    /// Whether all of `flags` are set.
    #[inline(always)]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Takes note of a fragment of `length` bytes at `offset` that is about to be sent on.
    ///
    /// # Errors
    ///
    /// [`Reason::FragmentOverlap`] if it overlaps one that was sent. A mere repetition ends alone; any
    /// other overlap spoils the datagram, as in `inet_frag_queue_insert` (net/ipv4/inet_fragment.c).
    #[inline(always)]
    pub fn cover(&mut self, offset: u32, length: u32, more: bool) -> Result<(), Reason> {
        if self.has(SPOILT) {
            return Err(Reason::FragmentOverlap);
        }
        let end = offset + length;
        if !more && self.has(LAST_SEEN) && self.end != end || self.has(LAST_SEEN) && end > self.end
        {
            self.flags |= SPOILT;
            return Err(Reason::FragmentOverlap);
        }
        // In units of eight bytes, both included; `check` has seen to it that there is one.
        let (first, last) = (offset / 8, end.div_ceil(8).saturating_sub(1));
        let (mut overlap, mut missing) = (0, 0);
        // Without a branch but for the last word, so that the verifier has one way through.
        for step in 0..WORDS_EACH as u32 {
            let word = first / 64 + step;
            let mut mask = if step == 0 {
                u64::MAX << (first % 64)
            } else {
                u64::MAX
            };
            let is_last = word >= last / 64;
            if is_last {
                mask &= u64::MAX >> (63 - last % 64);
            }
            let covered = &mut self.covered[word as usize % WORDS];
            overlap |= *covered & mask;
            missing |= !*covered & mask;
            *covered |= mask;
            if is_last {
                break;
            }
        }
        if overlap != 0 {
            if missing != 0 {
                self.flags |= SPOILT;
            }
            return Err(Reason::FragmentOverlap);
        }
        if !more {
            self.flags |= LAST_SEEN;
            self.end = end;
        }
        Ok(())
    }
}

/// Checks that a fragment with this `header` can be part of a datagram; returns the bytes of its payload.
///
/// # Errors
///
/// [`Reason::FragmentOversized`], [`Reason::FragmentTiny`] or [`Reason::FragmentLimit`].
#[inline(always)]
pub fn check<A: Network>(header: &Header<A>) -> Result<u32, Reason> {
    let length = header.total - u32::from(header.length);
    // IPv4 counts the header in, IPv6 does not.
    let fixed = if A::IPV6 { 0 } else { u32::from(header.length) };
    if u32::from(header.part.offset) + length + fixed > DATAGRAM {
        return Err(Reason::FragmentOversized);
    }
    if length == 0 || header.part.more && !length.is_multiple_of(8) {
        return Err(Reason::FragmentTiny);
    }
    if length > LONGEST {
        return Err(Reason::FragmentLimit);
    }
    Ok(length)
}

/// Largest frame that is put aside, in bytes.
pub const HELD_BYTES: usize = 2048;
/// Fragments of one datagram that are put aside: what 64 KiB are in pieces of 1,280 bytes.
pub const HELD_MOST: u8 = 52;

/// Key of the table of fragments that were put aside.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeldKey<A> {
    /// Which datagram.
    pub datagram: FragmentKey<A>,
    /// A running number.
    pub number: u32,
}

/// A fragment that was put aside: its frame.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Length of the frame in bytes.
    pub length: u32,
    /// The frame.
    pub bytes: [u8; HELD_BYTES],
}

const _: () = {
    assert!(size_of::<FragmentKey<V4>>() == 16);
    assert!(size_of::<FragmentKey<V6>>() == 40);
    assert!(size_of::<Datagram>() == 16 + 8 * WORDS);
    assert!(size_of::<HeldKey<V4>>() == 20);
    assert!(size_of::<Held>() == 4 + HELD_BYTES);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    proptest! {
        #[test]
        fn overlaps_are_found_whatever_the_order(
            parts in proptest::collection::vec((0_u32..200, 1_u32..60), 1..12),
        ) {
            let mut datagram = Datagram::default();
            let mut seen = std::collections::HashSet::new();
            let mut spoilt = false;
            for (start, units) in parts {
                let span: Vec<u32> = (start..start + units).collect();
                let known = span.iter().filter(|unit| seen.contains(*unit)).count();
                let result = datagram.cover(start * 8, units * 8, true);
                prop_assert_eq!(result.is_ok(), known == 0 && !spoilt);
                spoilt |= known != 0 && known != span.len();
                seen.extend(span);
                prop_assert_eq!(datagram.has(SPOILT), spoilt);
            }
        }
    }

    #[rstest]
    #[case::beyond_the_end(&[(0, 800, true), (800, 100, false), (900, 8, true)], 2)]
    #[case::two_ends(&[(0, 800, true), (1600, 100, false), (800, 100, false)], 2)]
    #[case::repetition(&[(0, 800, true), (0, 800, true), (800, 8, false)], 1)]
    #[case::the_longest(&[(56_000, 9_520, false), (46_480, 9_520, true), (0, 8, true)], 9)]
    fn contradictions(#[case] parts: &[(u32, u32, bool)], #[case] refused: usize) {
        let mut datagram = Datagram::default();
        for (index, (offset, length, more)) in parts.iter().enumerate() {
            let result = datagram.cover(*offset, *length, *more);
            assert_eq!(result.is_err(), index == refused, "part {index}");
        }
    }
}
