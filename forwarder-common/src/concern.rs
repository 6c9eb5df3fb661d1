//! Which addresses concern the forwarder: a filter in front of everything else, so that a packet that is none of ours
//! costs next to nothing.
//!
//! A packet concerns it if its destination is a listener's address or its source a backend's. Both are looked for in
//! bitmaps by hash: a bit that is not set says "no" for sure, one that is set says nothing. Bits are only ever set, since
//! flows outlive their rules.

use crate::address::Address;

/// Bits of one bitmap, as a power of two.
const BITS: u32 = 16;
/// Words of 64 bits in one bitmap.
const WORDS: u32 = 1 << (BITS - 6);
/// Words of both bitmaps, that of destinations first.
pub const ALL_WORDS: u32 = 2 * WORDS;

/// What an address is to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where it goes.
    Destination,
    /// Where it comes from.
    Source,
}

impl End {
    /// The words of its bitmap.
    #[must_use]
    pub const fn words(self) -> core::ops::Range<u32> {
        match self {
            Self::Destination => 0..WORDS,
            Self::Source => WORDS..ALL_WORDS,
        }
    }
}

/// Number of the word, and the bit in it, of an `address` at this `end`.
#[inline(always)]
pub fn bit<A: Address>(end: End, address: A) -> (u32, u64) {
    // Fibonacci hashing: the golden ratio in 32 bits.
    let hash = address.digest().wrapping_mul(0x9e37_79b9) >> (32 - BITS);
    let first = match end {
        End::Destination => 0,
        End::Source => WORDS,
    };
    (first + (hash >> 6), 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::V4;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bit_is_in_its_own_bitmap(raw in any::<u32>()) {
            for end in [End::Destination, End::Source] {
                let (word, bit) = bit(end, V4::from_raw(raw));
                prop_assert!(end.words().contains(&word));
                prop_assert_eq!(bit.count_ones(), 1);
            }
        }
    }
}
