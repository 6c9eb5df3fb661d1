//! A bounded queue between whoever tells of events and one who hears them.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

use super::FlowEvent;

/// Holds events until they are taken. What does not fit is counted and lost: whoever tells never waits.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<FlowEvent>,
    /// Lost since they were last taken.
    lost: u64,
    /// Put in so far.
    put: u64,
    /// Of those, done with.
    done: u64,
    /// Somebody waits for what is in it to be done.
    hurry: bool,
    closed: bool,
}

/// What was in the queue.
#[derive(Debug, Default)]
pub struct Taken {
    /// The events, in order.
    pub events: Vec<FlowEvent>,
    /// Events that did not fit since the last time.
    pub lost: u64,
    /// Nothing will come any more.
    pub closed: bool,
}

impl Queue {
    /// A queue of no more than so many events.
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `events` in; returns how many did not fit.
    pub fn put<'a>(&self, events: impl IntoIterator<Item = &'a FlowEvent>) -> u64 {
        let mut state = self.state();
        let mut lost = 0;
        for event in events {
            if state.events.len() < self.capacity && !state.closed {
                state.events.push_back(event.clone());
                state.put += 1;
            } else {
                lost += 1;
            }
        }
        state.lost += lost;
        drop(state);
        self.changed.notify_all();
        lost
    }

    /// Takes all there is: once something is there and `linger` has passed, or half of the queue is full, or somebody
    /// is in a hurry; or nothing after `patience`.
    pub fn take(&self, linger: Duration, patience: Duration) -> Taken {
        let mut state = self.wait(self.state(), patience, |state| !state.events.is_empty());
        if !state.events.is_empty() {
            let enough = self.capacity / 2;
            state = self.wait(state, linger, |state| {
                state.hurry || state.events.len() >= enough
            });
        }
        Taken {
            events: mem::take(&mut state.events).into(),
            lost: mem::take(&mut state.lost),
            closed: state.closed,
        }
    }

    /// Waits until `ready`, the queue's end, or the end of `time`.
    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        time: Duration,
        ready: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let end = Instant::now() + time;
        while !ready(&state) && !state.closed {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Says that so many of those that were taken are done with.
    pub fn done(&self, count: usize) {
        let mut state = self.state();
        state.done += count as u64;
        if state.done == state.put {
            state.hurry = false;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all that is in the queue now is done with, no longer than `time`. Whether it is.
    pub fn settle(&self, time: Duration) -> bool {
        let mut state = self.state();
        let put = state.put;
        state.hurry = state.done < put;
        self.changed.notify_all();
        state = self.wait(state, time, |state| state.done >= put);
        state.done >= put
    }

    /// Nothing more comes in; what is in it can still be taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

/// Says now and then how many events did not get through.
#[derive(Debug, Default)]
pub struct Overrun {
    /// Not said yet.
    lost: u64,
    said: Option<Instant>,
}

impl Overrun {
    /// Between two lines about it.
    const PAUSE: Duration = Duration::from_secs(60);

    /// Notes that so many more did not get to `place`.
    pub fn note(&mut self, lost: u64, place: &str) {
        self.lost += lost;
        let quiet = self.said.is_none_or(|at| at.elapsed() >= Self::PAUSE);
        if self.lost != 0 && quiet {
            warn!(
                "{} events of flows are lost: {place} did not keep up",
                mem::take(&mut self.lost)
            );
            self.said = Some(Instant::now());
        }
    }
}
