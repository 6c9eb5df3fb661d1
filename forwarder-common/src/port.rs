//! Which source port a translated flow gets.
//!
//! The client's own port is kept where it may be. Otherwise a bounded number of candidates is tried,
//! spread over the allowed range from a random start; the flow table's insert-if-absent is what reserves
//! one, so two CPUs can never hand out the same.

use crate::settings::Settings;

/// How many candidates are tried before the ports count as exhausted. The stride is chosen so that they
/// are all different, hence with a fraction `f` of the range in use the chance to miss every free port
/// is `f^64`: 0.1 % at 90 %.
pub const ATTEMPTS: u32 = 64;

/// Distance between candidates: far, so that successive candidates do not run into one client's block of
/// consecutive ports, and a prime above 65536, so that it has no factor in common with any number of ports.
const STRIDE: u32 = 104_729;

/// The ports that translation may hand out: a range with a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    last: u16,
    hole_first: u16,
    hole_last: u16,
}

impl Ports {
    /// From the settings record.
    #[inline(always)]
    pub const fn new(settings: &Settings) -> Self {
        Self {
            first: settings.port_first,
            last: settings.port_last,
            hole_first: settings.local_first,
            hole_last: settings.local_last,
        }
    }

    /// Whether `port` (host byte order) may be handed out.
    #[inline(always)]
    pub const fn contains(&self, port: u16) -> bool {
        let outside_hole = port < self.hole_first || port > self.hole_last;
        port >= self.first && port <= self.last && outside_hole
    }

    /// How many ports may be handed out.
    #[inline(always)]
    pub const fn count(&self) -> u32 {
        let all = (self.last as u32 + 1).saturating_sub(self.first as u32);
        all.saturating_sub(self.hole_length())
    }

    /// Candidate number `attempt` of a search that began at `random`, host byte order; `None` when the
    /// range is empty.
    #[inline(always)]
    pub const fn candidate(&self, random: u32, attempt: u32) -> Option<u16> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let index = (random % count + attempt * STRIDE) % count;
        let before_hole = self.hole_first.saturating_sub(self.first) as u32;
        let skip = if self.hole_length() != 0 && index >= before_hole {
            self.hole_length()
        } else {
            0
        };
        Some((self.first as u32 + index + skip) as u16)
    }

    /// Ports of the hole that lie inside the range.
    #[inline(always)]
    const fn hole_length(&self) -> u32 {
        let low = if self.hole_first > self.first {
            self.hole_first
        } else {
            self.first
        };
        let high = if self.hole_last < self.last {
            self.hole_last
        } else {
            self.last
        };
        (high as u32 + 1).saturating_sub(low as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports(first: u16, last: u16, hole_first: u16, hole_last: u16) -> Ports {
        Ports {
            first,
            last,
            hole_first,
            hole_last,
        }
    }

    proptest! {
        #[test]
        fn every_candidate_is_allowed(
            bounds in any::<[u16; 2]>(), hole in any::<[u16; 2]>(), random in any::<u32>(), attempt in 0..ATTEMPTS,
        ) {
            let ports = ports(bounds[0].min(bounds[1]), bounds[0].max(bounds[1]),
                hole[0].min(hole[1]), hole[0].max(hole[1]));
            let allowed = (0..=u16::MAX).filter(|port| ports.contains(*port)).count() as u32;
            prop_assert_eq!(allowed, ports.count());
            match ports.candidate(random, attempt) {
                Some(port) => prop_assert!(ports.contains(port), "{}", port),
                None => prop_assert_eq!(allowed, 0),
            }
        }
    }

    fn different(ports: &Ports, random: u32) -> u32 {
        let search = (0..ATTEMPTS).map(|attempt| ports.candidate(random, attempt));
        search.collect::<std::collections::HashSet<_>>().len() as u32
    }

    #[test]
    fn every_number_of_ports_is_searched_widely() {
        for count in 1..=65536 {
            let ports = ports((65536 - count) as u16, u16::MAX, 1, 0);
            assert_eq!(different(&ports, 0), count.min(ATTEMPTS), "{count} ports");
        }
    }

    #[test]
    fn an_empty_hole_takes_nothing_away() {
        let ports = ports(1024, 65535, 1, 0);
        assert_eq!(ports.count(), 64512);
        assert!(ports.contains(40000));
    }
}
