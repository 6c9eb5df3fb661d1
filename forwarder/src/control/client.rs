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
use crate::explain::ExplainQuery;
use crate::report::{Explanation, FlowReport};

/// A reload of the largest file and a listing of the largest table take seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the daemon on `socket`; `T` is the report that belongs to the request.
///
/// # Errors
/// There is no daemon, it may not be asked, or it refuses; every error says what to do next.
pub fn ask<T: DeserializeOwned>(socket: &Path, request: Request) -> Result<T, ControlError> {
    Conversation::begin(socket, request, None)?.next()
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
    let mut conversation = Conversation::begin(socket, Request::Flows, Some(query.clone()))?;
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
    let line = RequestLine {
        command: Request::Capture,
        query: None,
        capture: Some(query),
        explain: None,
    };
    let mut conversation = Conversation::open(socket, &line)?;
    let grant = conversation.next()?;
    Ok((grant, conversation.stream.into_inner()))
}

/// Asks the daemon on `socket` what becomes of a packet.
///
/// # Errors
/// As [`ask`].
pub fn explain(socket: &Path, query: ExplainQuery) -> Result<Explanation, ControlError> {
    let line = RequestLine {
        command: Request::Explain,
        query: None,
        capture: None,
        explain: Some(query),
    };
    Conversation::open(socket, &line)?.next()
}

/// A request that was sent, and what comes back.
struct Conversation<'a> {
    socket: &'a Path,
    stream: BufReader<UnixStream>,
}

impl<'a> Conversation<'a> {
    fn begin(
        socket: &'a Path,
        command: Request,
        query: Option<FlowQuery>,
    ) -> Result<Self, ControlError> {
        let line = RequestLine {
            command,
            query,
            capture: None,
            explain: None,
        };
        Self::open(socket, &line)
    }

    fn open(socket: &'a Path, line: &RequestLine) -> Result<Self, ControlError> {
        let send = || {
            let mut stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            let mut line = serde_json::to_vec(line)?;
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
