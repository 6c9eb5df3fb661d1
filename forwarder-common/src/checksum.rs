//! Incremental Internet checksums (RFC 1071, RFC 1624).
//!
//! A checksum field holds the complement of the one's-complement sum of 16-bit words. Changing a word
//! from `m` to `m'` changes the sum by `~m + m'`; RFC 1624 equation 3 gives the new field as
//! `~(~HC + ~m + m')`. [`Delta`] is that change, folded to 16 bits: computed once when a flow is made,
//! added to every packet of it. One's-complement addition does not care about byte order as long as all
//! words are loaded alike (RFC 1071 section 2(B)), so everything here works on natively loaded words.

/// The change of a one's-complement sum, folded to 16 bits. Adding two deltas gives their joint change.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const NONE: Self = Self(0);

    /// What `ttl - 1` does to an IPv4 header's sum, where TTL is the high byte of its word:
    /// `~m + (m - 0x0100)`, whatever `m` is.
    pub const TTL_DECREMENT: Self = Self(0xfeff_u16.to_be());

    /// The change from the natively loaded 16-bit word `old` to `new`.
    #[inline(always)]
    pub const fn of_word(old: u16, new: u16) -> Self {
        Self(!old).then(Self(new))
    }

    /// The change from the natively loaded 32-bit word `old` to `new`.
    #[inline(always)]
    pub const fn of_long(old: u32, new: u32) -> Self {
        let not_old = !old;
        let sum = (not_old & 0xffff) + (not_old >> 16) + (new & 0xffff) + (new >> 16);
        Self(fold(sum) as u16)
    }

    /// The change by a `sum` of natively loaded 32-bit words, less than 2¹⁶ of them.
    #[inline(always)]
    pub const fn of_sum(sum: u64) -> Self {
        let long = (sum & 0xffff_ffff) + (sum >> 32);
        // Two halves and a carry of less than 2¹⁶.
        let sum = (long & 0xffff) + (long >> 16);
        Self(fold(sum as u32) as u16)
    }

    /// Both changes.
    #[inline(always)]
    pub const fn then(self, other: Self) -> Self {
        Self(fold(self.0 as u32 + other.0 as u32) as u16)
    }

    /// The natively stored representation.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The new checksum field for a packet whose field was `check` before the change.
    #[inline(always)]
    pub const fn apply(self, check: u16) -> u16 {
        !(fold((!check) as u32 + self.0 as u32) as u16)
    }

    /// As [`Delta::apply`] for UDP over IPv4 (RFC 768): an absent checksum (zero) stays absent, and a
    /// computed zero is sent as all ones.
    #[inline(always)]
    pub const fn apply_udp(self, check: u16) -> u16 {
        if check == 0 {
            return 0;
        }
        match self.apply(check) {
            0 => 0xffff,
            updated => updated,
        }
    }
}

/// Adds the carries back in. Two rounds suffice for a sum of up to 65,537 words.
#[inline(always)]
const fn fold(sum: u32) -> u32 {
    let once = (sum & 0xffff) + (sum >> 16);
    (once & 0xffff) + (once >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 over big-endian bytes, in full: the independent oracle.
    fn full(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn word(bytes: &[u8], at: usize) -> u16 {
        u16::from_ne_bytes([bytes[at], bytes[at + 1]])
    }

    fn long(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    /// One's complement has two zeros; a field may be either and still verify.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a.wrapping_add(1) <= 1 && b.wrapping_add(1) <= 1)
    }

    proptest! {
        #[test]
        fn word_and_long_changes_agree_with_full_recomputation(
            mut data in proptest::collection::vec(any::<u8>(), 24..80),
            new_word in any::<[u8; 2]>(),
            new_long in any::<[u8; 4]>(),
        ) {
            data.truncate(data.len() & !1);
            let before = full(&data);
            let mut changed = data.clone();
            changed[2..4].copy_from_slice(&new_word);
            changed[8..12].copy_from_slice(&new_long);
            let delta = Delta::of_word(word(&data, 2), word(&changed, 2))
                .then(Delta::of_long(long(&data, 8), long(&changed, 8)));
            let after = u16::from_be(delta.apply(before.to_be()));
            prop_assert!(same(after, full(&changed)), "{after:04x} {:04x}", full(&changed));
        }

        #[test]
        fn ttl_decrement_agrees_with_full_recomputation(
            mut header in any::<[u8; 20]>(), ttl in 1_u8..,
        ) {
            header[8] = ttl;
            header[10] = 0;
            header[11] = 0;
            let before = full(&header);
            header[8] = ttl - 1;
            let after = u16::from_be(Delta::TTL_DECREMENT.apply(before.to_be()));
            prop_assert!(same(after, full(&header)));
        }

        #[test]
        fn udp_zero_stays_zero_and_is_never_made(check in any::<u16>(), old in any::<u32>(), new in any::<u32>()) {
            let updated = Delta::of_long(old, new).apply_udp(check);
            prop_assert_eq!(updated == 0, check == 0);
        }
    }

    /// RFC 1624 section 4: the example that equation 2 gets wrong.
    #[test]
    fn rfc_1624_example() {
        let delta = Delta::of_word(0x5555_u16.to_be(), 0x3285_u16.to_be());
        assert_eq!(u16::from_be(delta.apply(0xdd2f_u16.to_be())), 0x0000);
    }
}
