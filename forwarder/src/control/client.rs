//! The asking end, for the command line.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Answer, CaptureGrant, CaptureQuery, ControlError, FlowQuery, Request, RequestLine};
use crate::events::{EventQuery, Heard};
use crate::explain::ExplainQuery;
use crate::history::{WhoQuery, WhoReport};
use crate::report::{Explanation, FlowReport};

/// A reload of the largest file and a listing of the largest table take seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the daemon on `socket`; `T` is the report that belongs to the request.
///
/// # Errors
/// There is no daemon, it may not be asked, or it refuses; every error says what to do next.
pub fn ask<T: DeserializeOwned>(socket: &Path, request: Request) -> Result<T, ControlError> {
    Conversation::begin(socket, &RequestLine::of(request))?.next()
}

/// Asks the daemon on `socket` for flows and calls `each` with some of them at a time, until it breaks or there are no
/// more.
///
/// # Errors
/// As [`ask`].
pub fn ask_flows(
    socket: &Path,
    query: &FlowQuery,
    mut each: impl FnMut(Vec<FlowReport>) -> ControlFlow<()>,
) -> Result<(), ControlError> {
    let request = RequestLine {
        query: Some(query.clone()),
        ..RequestLine::of(Request::Flows)
    };
    let mut conversation = Conversation::begin(socket, &request)?;
    loop {
        let flows: Vec<FlowReport> = conversation.next()?;
        if flows.is_empty() || each(flows).is_break() {
            return Ok(());
        }
    }
}

/// Asks the daemon on `socket` for copies of packets. It makes them until the stream is closed.
///
/// # Errors
/// As [`ask`].
pub fn hold(
    socket: &Path,
    query: CaptureQuery,
) -> Result<(CaptureGrant, UnixStream), ControlError> {
    let request = RequestLine {
        capture: Some(query),
        ..RequestLine::of(Request::Capture)
    };
    let mut conversation = Conversation::begin(socket, &request)?;
    let grant = conversation.next()?;
    Ok((grant, conversation.stream.into_inner()))
}

/// Asks the daemon on `socket` what becomes of a packet.
///
/// # Errors
/// As [`ask`].
pub fn explain(socket: &Path, query: ExplainQuery) -> Result<Explanation, ControlError> {
    let request = RequestLine {
        explain: Some(query),
        ..RequestLine::of(Request::Explain)
    };
    Conversation::begin(socket, &request)?.next()
}

/// Calls `each` with events as they happen, and with none now and then, until it breaks.
///
/// # Errors
/// As [`ask`]; and the daemon has ended.
pub fn ask_events(
    socket: &Path,
    query: &EventQuery,
    mut each: impl FnMut(Heard) -> ControlFlow<()>,
) -> Result<(), ControlError> {
    let request = RequestLine {
        events: Some(query.clone()),
        ..RequestLine::of(Request::Events)
    };
    let mut conversation = Conversation::begin(socket, &request)?;
    while each(conversation.next()?).is_continue() {}
    Ok(())
}

/// Asks who was behind a translated connection.
///
/// # Errors
/// As [`ask`].
pub fn ask_who(socket: &Path, query: WhoQuery) -> Result<WhoReport, ControlError> {
    let request = RequestLine {
        who: Some(query),
        ..RequestLine::of(Request::Who)
    };
    Conversation::begin(socket, &request)?.next()
}

/// A request that was sent, and what comes back.
struct Conversation<'a> {
    socket: &'a Path,
    stream: BufReader<UnixStream>,
}

impl<'a> Conversation<'a> {
    fn begin(socket: &'a Path, request: &RequestLine) -> Result<Self, ControlError> {
        let send = || {
            let mut stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            stream.write_all(&line)?;
            Ok(BufReader::new(stream))
        };
        match send() {
            Ok(stream) => Ok(Self { socket, stream }),
            Err(error) => Err(problem(socket, error)),
        }
    }

    /// The next line.
    fn next<T: DeserializeOwned>(&mut self) -> Result<T, ControlError> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        read.map_err(|error| problem(self.socket, error))?;
        let unexpected = |reason: String| ControlError::Answer {
            path: self.socket.to_owned(),
            reason,
        };
        match serde_json::from_slice(&line) {
            Ok(Answer::Ok(value)) => Ok(value),
            Ok(Answer::Error(message)) => Err(ControlError::Refused(message)),
            Err(_) if line.is_empty() => {
                Err(unexpected("it is empty or ends too early".to_owned()))
            }
            Err(error) => Err(unexpected(error.to_string())),
        }
    }
}

fn problem(socket: &Path, error: io::Error) -> ControlError {
    let path: PathBuf = socket.to_owned();
    let other = fs::metadata(&path).is_ok_and(|found| !found.file_type().is_socket());
    match error.kind() {
        io::ErrorKind::ConnectionRefused if other => ControlError::NotASocket(path),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning(path)
        }
        io::ErrorKind::PermissionDenied => ControlError::Permission(path),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ControlError::Timeout(path),
        _ => ControlError::Io { path, error },
    }
}
