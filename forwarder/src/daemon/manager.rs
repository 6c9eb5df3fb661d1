//! Telling the service manager (systemd) how things are: `Type=notify-reload` and its watchdog. Without one all of it
//! does nothing.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tracing::warn;

/// The service manager, as far as it wants to know.
#[derive(Default)]
pub(super) struct Manager {
    /// What it was last told, so that it is not told the same again.
    status: Mutex<String>,
}

impl Manager {
    /// The daemon serves.
    pub(super) fn ready(&self, status: &str) {
        self.remember(status);
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload has begun; [`Manager::ready`] ends it. The time is what the manager tells this reload from others by.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => warn!("the service manager is not told of the reload: {error}"),
        }
    }

    /// The daemon is about to end.
    pub(super) fn stopping(&self) {
        let status = NotifyState::Status("stopped, traffic goes on");
        tell(&[NotifyState::Stopping, status]);
    }

    /// What there is to say.
    pub(super) fn status(&self, status: &str) {
        if self.remember(status) {
            tell(&[NotifyState::Status(status)]);
        }
    }

    /// Whether it is news.
    fn remember(&self, status: &str) -> bool {
        let mut known = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *known != status;
        status.clone_into(&mut known);
        news
    }
}

/// The manager's watchdog, which has the daemon killed when it hears nothing for a while.
pub(super) struct Watchdog {
    /// Twice as often as the manager asks for; `None` if it does not.
    interval: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        Self {
            interval: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            next: Instant::now(),
        }
    }

    /// When it wants to hear something; `None` for never.
    pub(super) fn due(&self) -> Option<Instant> {
        self.interval.map(|_| self.next)
    }

    /// Tells it that all is well, unless no sweep has succeeded although one was due: who does not sweep does not do
    /// what a daemon is for. `swept` is when one last has, `every` how often one should.
    pub(super) fn ping(&mut self, swept: Instant, every: Duration) {
        let interval = self.interval.unwrap_or_default();
        let now = Instant::now();
        self.next = now + interval;
        if now.duration_since(swept) < every * 2 + interval {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot tell the service manager: {error}");
    }
}
