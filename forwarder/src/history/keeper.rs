//! Writing the history, in batches, on a thread of its own.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tracing::{info, warn};

use super::{HistoryError, Store, WhoQuery, store::Found};
use crate::{
    config,
    events::{FlowEvent, Hub, Kind, Listener, Overrun, Place, Queue},
};

/// What happens within this time is written together: each writing waits for the disk.
const LINGER: Duration = Duration::from_secs(1);
/// How long the thread sleeps where nothing happens.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events that may wait to be written: some 100 megabytes.
const WAITING: usize = 1 << 18;
/// Between two attempts to open a database that could not be used.
const RETRY: Duration = Duration::from_secs(10);
/// How long the start waits for the database to be opened.
const PROMPT: Duration = Duration::from_secs(2);
/// How long a question waits for what is still to be written.
const SETTLE: Duration = Duration::from_secs(5);

/// The running history; what is waiting is written when it is dropped.
#[derive(Debug)]
pub struct Keeper {
    queue: Arc<Queue>,
    store: Shared,
    thread: Option<JoinHandle<()>>,
    /// Leaves the hub before the thread is waited for.
    listener: Option<Listener>,
}

/// The database while it can be used.
type Shared = Arc<Mutex<Option<Arc<Store>>>>;

impl Keeper {
    /// Begins to keep what happens. A database that cannot be opened is tried again later: forwarding does not depend
    /// on it.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(hub: &Arc<Hub>, settings: &config::History) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(WAITING));
        let store = Shared::default();
        let mut writer = Writer {
            hub: Arc::clone(hub),
            queue: Arc::clone(&queue),
            store: Arc::clone(&store),
            path: settings.path.clone(),
            boot: boot(),
            failed: None,
            retention: Retention::new(settings.keep),
            overrun: Overrun::default(),
        };
        let thread = thread::Builder::new().name("history".to_owned());
        let (opened, is_open) = mpsc::channel::<()>();
        let thread = thread.spawn(move || {
            writer.open();
            drop(opened);
            writer.run();
        })?;
        // So that whoever asks at once gets an answer; a database that takes its time does not hold up the start.
        let _opened_or_late = is_open.recv_timeout(PROMPT);
        let kinds = Kind::New.bit() | Kind::Closed.bit();
        let listener = hub.join(Place::History, kinds, Arc::clone(&queue));
        Ok(Self {
            queue,
            store,
            thread: Some(thread),
            listener: Some(listener),
        })
    }

    /// Who is asked for, by what has been kept so far. `None`: it cannot be told, and the log says why.
    ///
    /// # Errors
    /// The disk does not answer.
    pub fn find(&self, query: &WhoQuery) -> Result<Option<Found>, HistoryError> {
        // What has just happened counts as well; a disk that is too slow does not hold up the answer for ever.
        self.queue.settle(SETTLE);
        let store = lock(&self.store).clone();
        store.map(|store| store.find(query)).transpose()
    }

    /// Where events of flows that are in the table already can be put.
    pub fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.listener = None;
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has said so.
            let _panicked = thread.join();
        }
    }
}

fn lock(store: &Shared) -> std::sync::MutexGuard<'_, Option<Arc<Store>>> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    store: Shared,
    path: PathBuf,
    boot: u32,
    /// When it last failed, which has been said.
    failed: Option<Instant>,
    retention: Retention,
    overrun: Overrun,
}

impl Writer {
    fn run(mut self) {
        loop {
            self.open();
            let taken = self.queue.take(LINGER, PATIENCE);
            self.overrun.note(taken.lost, "the history");
            if !taken.events.is_empty() {
                self.write(&taken.events);
                self.queue.done(taken.events.len());
            }
            self.prune();
            if taken.closed && taken.events.is_empty() {
                return;
            }
        }
    }

    /// Opens the database unless it is open, or has just failed.
    fn open(&mut self) {
        let waits = self.failed.is_some_and(|at| at.elapsed() < RETRY);
        if waits || lock(&self.store).is_some() {
            return;
        }
        match Store::open(&self.path) {
            Ok(store) => {
                if self.failed.take().is_some() {
                    info!("the history {} can be used again", self.path.display());
                }
                *lock(&self.store) = Some(Arc::new(store));
            }
            Err(error) => self.fail(&error),
        }
    }

    fn write(&mut self, events: &[FlowEvent]) {
        let count = events.len() as u64;
        let store = lock(&self.store).clone();
        let Some(store) = store else {
            self.hub.lose(Place::History, count);
            return;
        };
        match store.write(events, self.boot, today()) {
            Ok(()) => self.hub.wrote(Place::History, count),
            Err(error) => {
                self.hub.lose(Place::History, count);
                self.fail(&error);
            }
        }
    }

    /// Says what is wrong, once. The database must be opened anew, which repairs it.
    fn fail(&mut self, error: &HistoryError) {
        *lock(&self.store) = None;
        if self.failed.is_none() {
            warn!(
                "{error}; flows are forwarded but not kept, and counted as lost until it can be used again"
            );
        }
        self.failed = Some(Instant::now());
    }

    fn prune(&mut self) {
        let Some(first) = self.retention.due(Instant::now(), SystemTime::now()) else {
            return;
        };
        let store = lock(&self.store).clone();
        match store.map(|store| store.prune(first)) {
            Some(Ok(days)) if days != 0 => {
                let days = crate::report::counted(days, "day");
                info!("removed {days} of history whose time was up");
            }
            Some(Err(error)) => self.fail(&error),
            _ => {}
        }
    }
}

/// When to remove what is too old. A clock that has been set forward by mistake must not empty the history, so after
/// the clock has been set nothing is removed for an hour.
#[derive(Debug)]
pub(super) struct Retention {
    keep_days: i64,
    /// Both clocks at the last look.
    last: (Instant, SystemTime),
    next: Instant,
}

impl Retention {
    /// After the start, and between two times.
    const PAUSE: Duration = Duration::from_secs(3600);
    /// By how much the clocks may differ between two looks: NTP slews, it does not step.
    const DRIFT: Duration = Duration::from_secs(10);

    pub(super) fn new(keep: Duration) -> Self {
        let now = Instant::now();
        Self {
            keep_days: days(keep).cast_signed(),
            last: (now, SystemTime::now()),
            next: now + Self::PAUSE,
        }
    }

    /// The first day that is kept, if it is time to remove those before it.
    pub(super) fn due(&mut self, now: Instant, wall: SystemTime) -> Option<i64> {
        let (then, wall_then) = std::mem::replace(&mut self.last, (now, wall));
        let expected = wall_then + now.saturating_duration_since(then);
        let off = match wall.duration_since(expected) {
            Ok(off) => off,
            Err(error) => error.duration(),
        };
        if off > Self::DRIFT {
            self.next = now + Self::PAUSE;
        }
        if now < self.next {
            return None;
        }
        self.next = now + Self::PAUSE;
        Some(day_of(wall) - self.keep_days)
    }
}

/// Whole days, rounded up.
const fn days(time: Duration) -> u64 {
    time.as_secs().div_ceil(24 * 60 * 60)
}

fn day_of(wall: SystemTime) -> i64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() / (24 * 60 * 60)).cast_signed()
}

/// Days since 1970.
fn today() -> i64 {
    day_of(SystemTime::now())
}

/// Tells this start of the host from others, as far as 32 bits do.
fn boot() -> u32 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u32::from_str_radix(id.get(..8).unwrap_or_default(), 16).unwrap_or_default()
}
