//! The count of half-open flows, which programs and daemon change at the same time: see
//! [`forwarder_common::half_open`].

use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context as _;
use forwarder_common::half_open::HalfOpen;

use super::{family::Family, mapped::Mapped};

/// The table.
pub(super) struct HalfOpenFlows(Mapped<HalfOpen>);

/// The numbers of a [`HalfOpen`], in the order it has them.
type Numbers = [AtomicU64; 3];

const _: () = assert!(size_of::<Numbers>() == size_of::<HalfOpen>());

impl HalfOpenFlows {
    /// Of the map that `map` is.
    pub(super) fn open(map: impl AsFd) -> anyhow::Result<Self> {
        Ok(Self(
            Mapped::open(map, 2).context("the count of half-open flows")?,
        ))
    }

    /// What is counted of a family.
    pub(super) fn read<A: Family>(&self) -> HalfOpen {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let [made, ended, limit] = self.numbers::<A>();
        HalfOpen {
            made: load(made),
            ended: load(ended),
            limit: load(limit),
        }
    }

    /// Counts so many flows that have gone before their handshake was complete.
    pub(super) fn end<A: Family>(&self, count: u64) {
        let [_, ended, _] = self.numbers::<A>();
        ended.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets how many there may be.
    pub(super) fn limit<A: Family>(&self, limit: u64) {
        let [.., number] = self.numbers::<A>();
        number.store(limit, Ordering::Relaxed);
    }

    /// Corrects the count, which was `before` when somebody began to count the flows that there are and found so many.
    /// Two CPUs may count the end of one flow, and a daemon may die between removing a flow and counting it. What
    /// programs have counted meanwhile explains as large a difference, and only what is beyond it is corrected.
    pub(super) fn correct<A: Family>(&self, before: HalfOpen, found: u64) {
        let [made, ended, _] = self.numbers::<A>();
        let now = self.read::<A>();
        let meanwhile = now.made.wrapping_sub(before.made) + now.ended.wrapping_sub(before.ended);
        let counted = before.made.wrapping_sub(before.ended) as i64;
        let excess = counted.wrapping_sub_unsigned(found);
        let unexplained = excess.unsigned_abs().saturating_sub(meanwhile);
        let number = if excess > 0 { ended } else { made };
        number.fetch_add(unexplained, Ordering::Relaxed);
    }

    fn numbers<A: Family>(&self) -> &Numbers {
        let record = self.0.entry(usize::from(A::IPV6));
        let numbers = record.expect("one for each family").cast();
        // SAFETY: it lives as long as the mapping, any bits are valid numbers, and they are only touched atomically.
        unsafe { numbers.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use forwarder_common::address::{V4, V6};
    use rstest::rstest;

    use super::*;

    fn table() -> HalfOpenFlows {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4096).expect("room");
        HalfOpenFlows::open(&file).expect("memory")
    }

    #[test]
    fn families_are_counted_apart() {
        let table = table();
        table.limit::<V4>(7);
        table.end::<V6>(2);
        assert_eq!(
            table.read::<V4>(),
            HalfOpen {
                made: 0,
                ended: 0,
                limit: 7
            }
        );
        assert_eq!(
            table.read::<V6>(),
            HalfOpen {
                made: 0,
                ended: 2,
                limit: 0
            }
        );
    }

    #[rstest]
    #[case::right(5, 0, 5, 5)]
    #[case::too_many(5, 0, 3, 3)]
    #[case::too_few(5, 0, 9, 9)]
    #[case::explained_by_those_ended_meanwhile(5, 4, 2, 1)]
    #[case::explained_in_part(5, 2, 1, 1)]
    #[case::fewer_than_none(-3, 0, 0, 0)]
    fn only_what_nothing_explains_is_corrected(
        #[case] counted: i64,
        #[case] meanwhile: u64,
        #[case] found: u64,
        #[case] expected: u64,
    ) {
        let table = table();
        table.end::<V4>(0_u64.wrapping_sub(counted as u64));
        let before = table.read::<V4>();
        table.end::<V4>(meanwhile);
        table.correct::<V4>(before, found);
        assert_eq!(table.read::<V4>().open(), expected);
    }
}
