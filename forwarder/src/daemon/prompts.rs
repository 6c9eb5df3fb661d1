//! Prompts that wait to be sent, so many at a time that neither the daemon nor the hosts choke on them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tracing::debug;

use super::running::State;
use crate::datapath::{Flow, Prompt};

/// Prompts sent at once: some milliseconds of work.
const BATCH: usize = 500;
/// Time between batches.
const PAUSE: Duration = Duration::from_millis(25);
/// When what was sent is sent once more, since a packet may get lost.
const AGAIN: Duration = Duration::from_secs(1);

/// In the order in which they are due.
#[derive(Default)]
pub(super) struct Prompts {
    first: VecDeque<Prompt>,
    again: VecDeque<(Instant, Prompt)>,
    /// No batch before this.
    rest: Option<Instant>,
}

impl Prompts {
    /// For both ends of every one of `flows`.
    pub(super) fn add(&mut self, flows: &[Flow]) {
        self.first.extend(flows.iter().flat_map(Prompt::both));
    }

    /// When the next batch is due; `None` for never.
    pub(super) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let ready = match self.again.front() {
            _ if !self.first.is_empty() => now,
            Some((at, _)) => *at,
            None => return None,
        };
        Some(self.rest.map_or(ready, |rest| rest.max(ready)))
    }

    fn next(&mut self, now: Instant) -> Option<Prompt> {
        if let Some(prompt) = self.first.pop_front() {
            self.again.push_back((now + AGAIN, prompt.clone()));
            return Some(prompt);
        }
        let (at, prompt) = self.again.pop_front()?;
        if at <= now {
            return Some(prompt);
        }
        self.again.push_front((at, prompt));
        None
    }
}

impl State {
    /// Sends a batch of what is due.
    pub(super) fn send_prompts(&mut self) {
        let now = Instant::now();
        for _ in 0..BATCH {
            let Some(prompt) = self.prompts.next(now) else {
                break;
            };
            // Whom it does not reach learns of the end with the next packet of its own.
            if let Err(error) = self.datapath.send(&prompt) {
                debug!("an end of a connection is not told: {error:#}");
            }
        }
        self.prompts.rest = Some(now + PAUSE);
    }
}
