//! What a while of traffic came to.

use std::time::Duration;

/// Measured between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// How long it was looked at, or how long sending took if it had a limit.
    pub time: Duration,
    /// Packets that arrived.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were sent, those included that found the gateway's ring full.
    pub sent: u64,
    /// How long the gateway's CPU worked on them, in softirqs that others had to do included.
    pub cpu: Duration,
    /// How long the gateway wanted its CPU and others than itself had it.
    pub waited: Duration,
}

impl Passage {
    /// Packets a second of the time that the gateway had its CPU or did not want it.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.time.saturating_sub(self.waited).as_secs_f64()
    }

    /// The part of the time in which the gateway was not at work. In a flood it always has work: then it, or the
    /// generator, did not have its CPU.
    #[must_use]
    pub fn idle(&self) -> f64 {
        (1.0 - self.cpu.as_secs_f64() / self.time.as_secs_f64()).max(0.0)
    }

    /// Nanoseconds of the gateway's CPU for each packet.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.packets as f64
    }

    /// Gigabits a second, of the same time as [`Passage::rate`].
    #[must_use]
    pub fn throughput(&self) -> f64 {
        let time = self.time.saturating_sub(self.waited);
        self.bytes as f64 * 8.0 / time.as_secs_f64() / 1e9
    }

    /// Nanoseconds of the gateway's CPU for each kilobyte.
    #[must_use]
    pub fn cost_of_bytes(&self) -> f64 {
        self.cpu.as_nanos() as f64 / (self.bytes as f64 / 1000.0)
    }
}
