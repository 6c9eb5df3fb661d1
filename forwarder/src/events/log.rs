//! The flow log: a line for each event in a file, or a record in the journal.
//!
//! A thread of its own writes it. Whatever is wrong with the disk is logged once and counted, and tried again with the
//! next events; forwarding and everything else go on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::{info, warn};

use super::{
    FlowEvent, Hub, Kind, Listener, Overrun, Place, Queue,
    journal::{self, Journal},
};
use crate::config::{FlowLog, Format};

/// Lines that come closer together than this are written together.
const LINGER: Duration = Duration::from_millis(100);
/// How long the thread sleeps where nothing happens.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events that may wait to be written: some 50 megabytes.
const WAITING: usize = 1 << 17;
/// The owner writes, the group reads: it tells who talks to whom.
const MODE: u32 = 0o640;

/// The running log; what is waiting is written when it is dropped.
#[derive(Debug)]
pub struct FlowLogger {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    /// Leaves the hub before the thread is waited for.
    listener: Option<Listener>,
}

impl FlowLogger {
    /// Begins to write what `settings` ask for. A file is opened anew, so that another one may have taken its place.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(hub: &Arc<Hub>, settings: &FlowLog) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(WAITING));
        let kinds = Kind::bits(settings.events.iter().copied());
        let writer = Writer {
            hub: Arc::clone(hub),
            queue: Arc::clone(&queue),
            format: settings.format,
            file: settings.path.clone().map(LogFile::new),
            journal: settings.journald.then(|| PathBuf::from(journal::SOCKET)),
            failing: false,
            overrun: Overrun::default(),
        };
        let thread = thread::Builder::new().name("flow-log".to_owned());
        let thread = thread.spawn(move || writer.run())?;
        let listener = hub.join(Place::FlowLog, kinds, Arc::clone(&queue));
        Ok(Self {
            queue,
            thread: Some(thread),
            listener: Some(listener),
        })
    }
}

impl Drop for FlowLogger {
    fn drop(&mut self) {
        self.listener = None;
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has said so.
            let _panicked = thread.join();
        }
    }
}

struct Writer {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    format: Format,
    file: Option<LogFile>,
    /// journald's socket.
    journal: Option<PathBuf>,
    /// What is wrong has been said.
    failing: bool,
    overrun: Overrun,
}

impl Writer {
    fn run(mut self) {
        loop {
            let taken = self.queue.take(LINGER, PATIENCE);
            self.overrun.note(taken.lost, "the flow log");
            if !taken.events.is_empty() {
                self.write(&taken.events);
                self.queue.done(taken.events.len());
            }
            if taken.closed && taken.events.is_empty() {
                return;
            }
        }
    }

    fn write(&mut self, events: &[FlowEvent]) {
        if let Some(file) = &mut self.file {
            let (written, result) = file.append(&lines(events, self.format));
            let place = format!("the flow log {}", file.path.display());
            self.note(events.len() as u64, written, result, &place);
        }
        if let Some(path) = self.journal.clone() {
            let (written, result) = send(&path, events);
            self.note(events.len() as u64, written, result, "the journal");
        }
    }

    /// Counts, and says once what is wrong and once that it is well again.
    fn note(&mut self, all: u64, written: u64, result: io::Result<()>, place: &str) {
        self.hub.wrote(Place::FlowLog, written);
        self.hub.lose(Place::FlowLog, all - written);
        match result {
            Err(error) if !self.failing => {
                warn!(
                    "cannot write to {place}: {error}; events are counted as lost until it can be written to again"
                );
                self.failing = true;
            }
            Ok(()) if self.failing => {
                info!("{place} can be written to again");
                self.failing = false;
            }
            _ => {}
        }
    }
}

fn send(path: &Path, events: &[FlowEvent]) -> (u64, io::Result<()>) {
    let journal = match Journal::new() {
        Ok(journal) => journal,
        Err(error) => return (0, Err(error)),
    };
    let mut sent = 0;
    for event in events {
        if let Err(error) = journal.send(path, event) {
            return (sent, Err(error));
        }
        sent += 1;
    }
    (sent, Ok(()))
}

fn lines(events: &[FlowEvent], format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        match format {
            Format::Text => out.extend_from_slice(event.to_string().as_bytes()),
            // String keys and plain numbers only, which is all that JSON asks.
            Format::Json => serde_json::to_writer(&mut out, event).unwrap_or_default(),
        }
        out.push(b'\n');
    }
    out
}

/// The file, which may be moved away, removed or truncated at any time.
pub(super) struct LogFile {
    path: PathBuf,
    open: Option<File>,
    /// It ends in the middle of a line.
    torn: bool,
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
            torn: false,
        }
    }

    /// Appends whole lines; returns how many of them are in the file.
    pub(super) fn append(&mut self, lines: &[u8]) -> (u64, io::Result<()>) {
        if let Err(error) = self.ready() {
            return (0, Err(error));
        }
        let Some(file) = &self.open else {
            return (0, Err(io::ErrorKind::NotFound.into()));
        };
        if self.torn {
            if let Err(error) = write(file, b"\n").1 {
                return (0, Err(error));
            }
            self.torn = false;
        }
        let (count, result) = write(file, lines);
        let written = &lines[..count];
        self.torn = written.last().is_some_and(|last| *last != b'\n');
        let whole = written.iter().filter(|byte| **byte == b'\n').count();
        (whole as u64, result)
    }

    /// Has the file open that has the name now: a log that was rotated away gets no more lines.
    fn ready(&mut self) -> io::Result<()> {
        let is_named = |open: &File| {
            let (here, named) = (open.metadata()?, fs::symlink_metadata(&self.path)?);
            Ok::<_, io::Error>((here.dev(), here.ino()) == (named.dev(), named.ino()))
        };
        let stays = self.open.as_ref().is_some_and(|open| {
            // A name that is gone is made anew.
            is_named(open).unwrap_or(false)
        });
        if !stays {
            let file = open(&self.path)?;
            self.torn = !ends_a_line(&file)?;
            self.open = Some(file);
        }
        Ok(())
    }
}

/// Writes as much as it can; returns how many bytes that were.
fn write(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut count = 0;
    while count < bytes.len() {
        match file.write(&bytes[count..]) {
            Ok(0) => return (count, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (count, Err(error)),
        }
    }
    (count, Ok(()))
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).create(true).append(true).mode(MODE);
    // Neither a link nor a pipe that nobody reads may lead elsewhere or stop the thread.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Whether the last line is whole: an earlier daemon may have met a full disk.
fn ends_a_line(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(at) = length.checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    Ok(last == [b'\n'])
}
