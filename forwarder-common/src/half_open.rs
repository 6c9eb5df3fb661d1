//! How many TCP flows are half-open: made, and their handshake not complete. They have a share of the flow table and no
//! more, so that a flood of SYNs leaves room for the others.

/// The count of one address family. Two numbers that only rise, so that whoever compares it with the flows that there
/// are knows how much may have happened meanwhile.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfOpen {
    /// TCP flows made.
    pub made: u64,
    /// TCP flows that have completed their handshake, or have gone before.
    pub ended: u64,
    /// How many may be half-open at a time.
    pub limit: u64,
}

impl HalfOpen {
    /// How many there are. Never below none: an end may be counted before its beginning.
    #[inline(always)]
    pub const fn open(&self) -> u64 {
        let open = self.made.wrapping_sub(self.ended);
        if open as i64 <= 0 { 0 } else { open }
    }

    /// Whether no more may be made.
    #[inline(always)]
    pub const fn is_full(&self) -> bool {
        self.open() >= self.limit
    }
}

// SAFETY: integers of one size.
#[cfg(feature = "user")]
unsafe impl aya::Pod for HalfOpen {}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::none(0, 0, 0, false)]
    #[case::one_below(7, 6, 1, false)]
    #[case::full(7, 5, 2, true)]
    #[case::an_end_came_first(5, 6, 0, false)]
    #[case::over_the_top(1, u64::MAX, 2, true)]
    fn flows_are_those_made_less_those_ended(
        #[case] made: u64,
        #[case] ended: u64,
        #[case] open: u64,
        #[case] full: bool,
    ) {
        let count = HalfOpen {
            made,
            ended,
            limit: 2,
        };
        assert_eq!((count.open(), count.is_full()), (open, full));
    }
}
