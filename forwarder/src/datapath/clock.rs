//! Jiffies, the datapath's clock, in seconds.

use std::{thread::sleep, time::Duration};

use super::Datapath;

/// Kernel tick rates (kernel/Kconfig.hz, and 1024 and 1200 of other architectures).
const RATES: [u64; 8] = [24, 48, 100, 128, 250, 256, 300, 1000];

/// How long two readings are apart: at the slowest rate two ticks, which tells the rates apart.
const INTERVAL: Duration = Duration::from_millis(120);

/// Turns jiffies into seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Jiffies now.
    pub now: u64,
    /// Jiffies in a second.
    pub hz: u64,
}

impl Clock {
    /// Time since `last_seen`, the low 32 bits of a jiffies count.
    pub fn since(&self, last_seen: u32) -> Duration {
        let ticks = (self.now as u32).wrapping_sub(last_seen);
        // A packet may have come after `now` was read.
        let ticks = if ticks > u32::MAX / 2 { 0 } else { ticks };
        self.duration(u64::from(ticks))
    }

    /// Time since `start`, a whole jiffies count.
    pub fn since_start(&self, start: u64) -> Duration {
        self.duration(self.now.saturating_sub(start))
    }

    /// Time since `created`, in the flow entry's coarse unit.
    pub fn since_created(&self, created: u32) -> Duration {
        use forwarder_common::flow::CREATED_UNIT;
        let units = ((self.now / CREATED_UNIT) as u32).wrapping_sub(created);
        self.duration(u64::from(units) * CREATED_UNIT)
    }

    fn duration(&self, ticks: u64) -> Duration {
        Duration::from_millis(ticks.saturating_mul(1000) / self.hz)
    }
}

impl Datapath {
    /// Finds out how long a jiffy is, which nothing in the kernel's interface says.
    ///
    /// # Errors
    /// The clock program cannot be run.
    pub fn calibrate(&mut self) -> anyhow::Result<Clock> {
        let [jiffies, nanoseconds] = self.read_clock()?;
        sleep(INTERVAL);
        let [later, end] = self.read_clock()?;
        let ticks = (later - jiffies) * 1_000_000_000;
        let measured = ticks / (end - nanoseconds).max(1);
        let hz = RATES
            .into_iter()
            .min_by_key(|rate| rate.abs_diff(measured))
            .unwrap_or(1000);
        Ok(Clock { now: later, hz })
    }

    /// The time now, at the rate found by [`Datapath::calibrate`].
    ///
    /// # Errors
    /// The clock program cannot be run.
    pub fn clock(&mut self, hz: u64) -> anyhow::Result<Clock> {
        let [now, _] = self.read_clock()?;
        Ok(Clock { now, hz })
    }

    fn read_clock(&mut self) -> anyhow::Result<[u64; 2]> {
        self.programs.read_clock()?;
        Ok(self.tables.clock.get(&0, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_survive_the_wrap_of_32_bits() {
        let clock = Clock {
            now: 0x1_0000_0100,
            hz: 250,
        };
        assert_eq!(clock.since(0xffff_ff00).as_millis(), 512 * 4);
        assert_eq!(clock.since(0x0000_0101), Duration::ZERO);
    }
}
