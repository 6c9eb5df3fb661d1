//! A server that has something to say to every request.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::config::Control;
use crate::control::server::{Hearer, Held, Sink, Source, serve};
use crate::control::{CaptureGrant, CaptureQuery, FlowQuery, Listener};
use crate::events::{EventQuery, Heard};
use crate::explain::ExplainQuery;
use crate::history::{WhoQuery, WhoReport};
use crate::report::{DropReport, Explanation, FlowReport, RuleReport, Status};

/// Always says the same.
struct Fixed;

/// How many clients something is held for.
pub static HELD: AtomicUsize = AtomicUsize::new(0);

/// Counted in [`HELD`] for as long as it lives.
struct Token;

impl Token {
    fn new() -> Self {
        HELD.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Source for Fixed {
    fn status(&self) -> anyhow::Result<Status> {
        Ok(Status {
            pid: 42,
            ..Status::default()
        })
    }
    fn rules(&self) -> anyhow::Result<Vec<RuleReport>> {
        Ok(vec![RuleReport {
            name: "pop3".to_owned(),
            ..RuleReport::default()
        }])
    }
    fn flows(&self, query: &FlowQuery, sink: Sink<'_>) -> anyhow::Result<()> {
        anyhow::ensure!(query.rule.as_deref() != Some("none"), "no such rule");
        for chunk in 0..20 {
            let flow = FlowReport {
                rule: "pop3".to_owned(),
                age_seconds: chunk,
                ..FlowReport::default()
            };
            if sink(vec![flow; query.limit.unwrap_or(1000)]).is_break() {
                break;
            }
        }
        Ok(())
    }
    fn drops(&self) -> anyhow::Result<Vec<DropReport>> {
        Ok(Vec::new())
    }
    fn explain(&self, query: &ExplainQuery) -> anyhow::Result<Explanation> {
        Ok(Explanation {
            interface: query.interface.clone(),
            ..Explanation::default()
        })
    }
    fn capture(self: Arc<Self>, query: &CaptureQuery) -> anyhow::Result<(CaptureGrant, Held)> {
        anyhow::ensure!(query.rule.as_deref() != Some("none"), "no such rule");
        let grant = CaptureGrant {
            directory: "/there".into(),
        };
        Ok((grant, Box::new(Token::new())))
    }
    fn events(&self, query: &EventQuery, hear: Hearer<'_>) -> anyhow::Result<()> {
        for lost in 1..=u64::from(query.port.unwrap_or(3)) {
            let heard = Heard {
                events: Vec::new(),
                lost,
            };
            if hear(heard).is_break() {
                break;
            }
        }
        Ok(())
    }
    fn who(&self, query: &WhoQuery) -> anyhow::Result<WhoReport> {
        Ok(WhoReport {
            left_out: u64::from(query.translated.port()),
            ..WhoReport::default()
        })
    }
    fn reload(&self) -> anyhow::Result<String> {
        Err(anyhow::anyhow!("line one\nline two").context("refused"))
    }
}

/// A server on a socket of its own, until it is dropped.
pub struct Daemon {
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&at(&directory.path().join("sock"))).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            runtime
                .block_on(serve(listener, Arc::new(Fixed), shutdown))
                .unwrap();
        });
        Self {
            directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    /// What it answers to these bytes.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        // The daemon may answer and close before it has read all of it.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        assert!(!self.socket().exists(), "the socket is removed");
    }
}

/// A socket with the default's permissions.
pub fn at(path: &Path) -> Control {
    Control {
        socket: path.to_owned(),
        ..Control::default()
    }
}
