//! The asking end, for the command line.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Answer, ControlError, Request, RequestLine};

/// A reload of the largest file and a listing of the largest table take seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the daemon on `socket`; `T` is the report that belongs to the request.
///
/// # Errors
/// There is no daemon, it may not be asked, or it refuses; every error says what to do next.
pub fn ask<T: DeserializeOwned>(socket: &Path, request: Request) -> Result<T, ControlError> {
    let answer = exchange(socket, request).map_err(|error| problem(socket, error))?;
    let unexpected = |reason: String| ControlError::Answer {
        path: socket.to_owned(),
        reason,
    };
    match serde_json::from_slice(&answer) {
        Ok(Answer::Ok(value)) => Ok(value),
        Ok(Answer::Error(message)) => Err(ControlError::Refused(message)),
        Err(_) if answer.is_empty() => Err(unexpected("it is empty".to_owned())),
        Err(error) => Err(unexpected(error.to_string())),
    }
}

fn exchange(socket: &Path, request: Request) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_vec(&RequestLine { command: request })?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut answer)?;
    Ok(answer)
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
