//! Reading the programs' ring.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{TOGETHER, Telling, wall::Wall};
use crate::{
    daemon::published::Published,
    datapath::{Events, Views},
    events::{Hub, Overrun},
};

/// Between two looks into the ring. Events are late by this at most; the ring holds so many as come in meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the reader sleeps where nobody wants to know.
const IDLE: Duration = Duration::from_secs(60);

/// The threads that read; they end when this is dropped, and what has been told is written.
pub(in crate::daemon) struct Reading {
    hub: Arc<Hub>,
    threads: Vec<JoinHandle<()>>,
}

impl Telling {
    /// Reads `events` on a thread of its own, beside other `threads`.
    pub(super) fn read(
        &self,
        events: Events,
        mut threads: Vec<JoinHandle<()>>,
    ) -> io::Result<Reading> {
        let reader = Reader {
            hub: Arc::clone(&self.hub),
            view: self.view.clone(),
            published: Arc::clone(&self.published),
            overrun: Overrun::default(),
            lost: 0,
        };
        let thread = thread::Builder::new().name("events".to_owned());
        threads.push(thread.spawn(move || reader.run(events))?);
        Ok(Reading {
            hub: Arc::clone(&self.hub),
            threads,
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.hub.close();
        for thread in self.threads.drain(..) {
            // A thread that has panicked has said so.
            let _panicked = thread.join();
        }
    }
}

struct Reader {
    hub: Arc<Hub>,
    view: Views,
    published: Arc<Published>,
    overrun: Overrun,
    /// Lost in the ring when that was last looked at.
    lost: u64,
}

impl Reader {
    fn run(mut self, mut events: Events) {
        self.lost = self.view.now().events_lost().unwrap_or_default();
        let mut idle = false;
        loop {
            // Also if nobody wants to know: nobody is to hear later what was told to others.
            let count = self.read(&mut events);
            let patience = if idle { IDLE } else { Duration::ZERO };
            let Some(wanted) = self.hub.wanted(patience) else {
                return;
            };
            // Programs at work may tell something still after they were told not to.
            let settles = wanted || !idle;
            if settles && count < TOGETHER {
                thread::sleep(PAUSE);
            }
            idle = !wanted;
        }
    }

    fn read(&mut self, events: &mut Events) -> usize {
        let mut raw = Vec::new();
        let count = events.read(TOGETHER, |event| {
            // Of those that are only watched a program tells when they begin anew.
            if !event.flow.is_shadow() {
                raw.push(event);
            }
        });
        self.note_lost();
        if let (false, Ok(setup)) = (raw.is_empty(), self.published.setup()) {
            let moment = Wall::now(self.published.figures().now());
            let told = raw.iter().map(|event| moment.told(event, &setup.names));
            self.hub.publish(&told.collect::<Vec<_>>());
        }
        count
    }

    fn note_lost(&mut self) {
        let lost = self.view.now().events_lost().unwrap_or(self.lost);
        let before = std::mem::replace(&mut self.lost, lost);
        self.hub.ring_has_lost(lost);
        let more = lost.saturating_sub(before);
        self.overrun.note(more, "the reader of the programs' ring");
    }
}
