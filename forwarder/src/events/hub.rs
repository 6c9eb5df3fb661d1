//! Where events come together and go out to whoever wants them.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{FlowEvent, Heard, Kind, Queue};

/// Events that one listener may be behind.
const BEHIND: usize = 1 << 16;
/// `forwarder events` that can run at once.
const LISTENERS: usize = 8;

/// Where events can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The programs' ring: the daemon was too slow, or away.
    Ring,
    /// `forwarder events`: it was too slow.
    Listener,
    /// The flow log.
    FlowLog,
    /// The history.
    History,
}

impl Place {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Ring, Self::Listener, Self::FlowLog, Self::History];

    /// As metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Listener => "listener",
            Self::FlowLog => "flow-log",
            Self::History => "history",
        }
    }
}

/// What has been told, written and lost since the daemon started; lost in the ring since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By [`Kind::ALL`].
    pub told: [u64; 3],
    /// By [`Place::ALL`].
    pub lost: [u64; 4],
    /// By [`Place::ALL`]: records that are written.
    pub written: [u64; 4],
}

/// Says which kinds are wanted, as [`Kind::bit`]s.
type Want = Box<dyn Fn(u32) + Send + Sync>;

/// The meeting point.
pub struct Hub {
    state: Mutex<State>,
    changed: Condvar,
    want: Want,
    told: [AtomicU64; 3],
    lost: [AtomicU64; 4],
    written: [AtomicU64; 4],
}

#[derive(Default)]
struct State {
    outlets: Vec<Outlet>,
    next: u64,
    closed: bool,
}

/// One who wants events.
struct Outlet {
    id: u64,
    place: Place,
    kinds: u32,
    queue: Arc<Queue>,
}

impl State {
    fn kinds(&self) -> u32 {
        self.outlets
            .iter()
            .fold(0, |all, outlet| all | outlet.kinds)
    }
}

impl Hub {
    /// `want` is called with the kinds that are wanted, whenever these change.
    pub fn new(want: impl Fn(u32) + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            want: Box::new(want),
            told: Default::default(),
            lost: Default::default(),
            written: Default::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is wanted, as after a daemon that wanted something else.
    pub fn begin(&self) {
        self.changed(&self.state());
    }

    /// Takes in one who wants events of `kinds`; it gets those that fit into `queue`. Of flow log and history there is
    /// one: the new one takes the old one's place, so that every event goes to one of them.
    pub fn join(self: &Arc<Self>, place: Place, kinds: u32, queue: Arc<Queue>) -> Listener {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        if place != Place::Listener {
            state.outlets.retain(|outlet| outlet.place != place);
        }
        state.outlets.push(Outlet {
            id,
            place,
            kinds,
            queue: Arc::clone(&queue),
        });
        self.changed(&state);
        Listener {
            hub: Arc::clone(self),
            queue,
            id,
            ring: self.lost[Place::Ring as usize].load(Relaxed),
        }
    }

    /// Takes in one more `forwarder events`.
    ///
    /// # Errors
    /// There are as many as there can be.
    pub fn listen(self: &Arc<Self>, kinds: u32) -> anyhow::Result<Listener> {
        let state = self.state();
        let listeners = state.outlets.iter();
        let count = listeners
            .filter(|outlet| outlet.place == Place::Listener)
            .count();
        drop(state);
        anyhow::ensure!(
            count < LISTENERS,
            "{LISTENERS} others listen to events already: end one of them, or have it write to a file that several read"
        );
        Ok(self.join(Place::Listener, kinds, Arc::new(Queue::new(BEHIND))))
    }

    /// What has changed is said while the state is held, so that the last word is the right one.
    fn changed(&self, state: &State) {
        (self.want)(state.kinds());
        self.changed.notify_all();
    }

    fn leave(&self, id: u64) {
        let mut state = self.state();
        if !state.closed {
            state.outlets.retain(|outlet| outlet.id != id);
            self.changed(&state);
        }
    }

    /// Whether somebody wants events of this kind.
    pub fn wants(&self, kind: Kind) -> bool {
        self.state().kinds() & kind.bit() != 0
    }

    /// Waits until somebody wants events, but not beyond `patience`. `None`: nobody ever will.
    pub fn wanted(&self, patience: Duration) -> Option<bool> {
        let mut state = self.state();
        if state.kinds() == 0 && !state.closed {
            let waited = self.changed.wait_timeout(state, patience);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        (!state.closed).then(|| state.kinds() != 0)
    }

    /// Hands events to everybody who wants them.
    pub fn publish(&self, events: &[FlowEvent]) {
        for event in events {
            self.told[event.event as usize].fetch_add(1, Relaxed);
        }
        let state = self.state();
        for outlet in &state.outlets {
            let wanted = |event: &&FlowEvent| outlet.kinds & event.event.bit() != 0;
            let lost = outlet.queue.put(events.iter().filter(wanted));
            self.lose(outlet.place, lost);
        }
    }

    /// Notes that so many events have been lost.
    pub fn lose(&self, place: Place, count: u64) {
        self.lost[place as usize].fetch_add(count, Relaxed);
    }

    /// Notes how many the ring has lost since it was made.
    pub fn ring_has_lost(&self, count: u64) {
        self.lost[Place::Ring as usize].store(count, Relaxed);
    }

    /// Notes that so many records are written.
    pub fn wrote(&self, place: Place, count: u64) {
        self.written[place as usize].fetch_add(count, Relaxed);
    }

    /// All figures.
    pub fn totals(&self) -> Totals {
        Totals {
            told: self.told.each_ref().map(|count| count.load(Relaxed)),
            lost: self.lost.each_ref().map(|count| count.load(Relaxed)),
            written: self.written.each_ref().map(|count| count.load(Relaxed)),
        }
    }

    /// Nothing is told any more. The programs go on telling what is kept, so that the ring holds it for the next
    /// daemon; of what is only listened to they do not.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for outlet in &state.outlets {
            outlet.queue.close();
        }
        let kept = state.outlets.iter();
        let kept = kept.filter(|outlet| outlet.place != Place::Listener);
        (self.want)(kept.fold(0, |all, outlet| all | outlet.kinds));
        self.changed.notify_all();
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Hub")
            .field("totals", &self.totals())
            .finish_non_exhaustive()
    }
}

/// One who has joined; leaves when it is dropped.
#[derive(Debug)]
pub struct Listener {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    id: u64,
    /// What the ring had lost when the last events were taken.
    ring: u64,
}

impl Listener {
    /// Waits for events, but not beyond `patience`; `None` after the last ones.
    pub fn hear(&mut self, patience: Duration) -> Option<Heard> {
        let taken = self.queue.take(Duration::ZERO, patience);
        if taken.closed && taken.events.is_empty() {
            return None;
        }
        let ring = self.hub.lost[Place::Ring as usize].load(Relaxed);
        let before = std::mem::replace(&mut self.ring, ring);
        Some(Heard {
            events: taken.events,
            lost: taken.lost + ring.saturating_sub(before),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}
