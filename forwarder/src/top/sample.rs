//! One look at the daemon, over its control socket.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    control::{ControlError, FlowOrder, FlowQuery, Request, client},
    report::{DropReport, FlowReport, RuleReport, Status},
};

/// Flows that are looked at: those that have carried most.
const FLOWS: usize = 500;

/// Asking takes the daemon time if there are many flows; it gets so many times as long to rest.
const REST: u32 = 9;

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was asked for.
    pub at: Instant,
    /// `forwarder status`.
    pub status: Status,
    /// `forwarder rules`.
    pub rules: Vec<RuleReport>,
    /// The flows that have carried most bytes.
    pub flows: Vec<FlowReport>,
    /// `forwarder drops`.
    pub drops: Vec<DropReport>,
}

impl Sample {
    /// Asks the daemon on `socket`.
    ///
    /// # Errors
    /// It does not answer; the message says what to do.
    pub fn take(socket: &Path) -> Result<Self, ControlError> {
        let at = Instant::now();
        let query = FlowQuery {
            sort: Some(FlowOrder::Bytes),
            limit: Some(FLOWS),
            ..FlowQuery::default()
        };
        let mut flows = Vec::new();
        client::ask_flows(socket, &query, |some| {
            flows.extend(some);
            ControlFlow::Continue(())
        })?;
        Ok(Self {
            at,
            status: client::ask(socket, Request::Status)?,
            rules: client::ask(socket, Request::Rules)?,
            drops: client::ask(socket, Request::Drops)?,
            flows,
        })
    }
}

/// Takes samples on a thread of its own, so that keys are answered meanwhile.
pub(super) struct Sampler {
    samples: Receiver<Result<Sample, ControlError>>,
    /// Ends the thread when it is dropped.
    _stop: Sender<()>,
}

impl Sampler {
    /// Asks every `interval`, or less often if asking takes long.
    pub(super) fn start(socket: PathBuf, interval: Duration) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (send, samples) = mpsc::channel();
        // It ends by itself soon after; a terminal must not wait for a daemon that hangs.
        let _detached = thread::spawn(move || {
            loop {
                let began = Instant::now();
                if send.send(Sample::take(&socket)).is_err() {
                    return;
                }
                let rest = interval.max(began.elapsed() * REST);
                if stopped.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self {
            samples,
            _stop: stop,
        }
    }

    /// What has come since the last time.
    pub(super) fn next(&self) -> Option<Result<Sample, ControlError>> {
        self.samples.try_recv().ok()
    }
}
