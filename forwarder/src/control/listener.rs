//! The daemon's end of the socket: never open to everybody, never taken from a daemon that still uses it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use super::ControlError;
use crate::config::Control;

const BACKLOG: i32 = 64;

/// A bound socket, removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Held as long as this daemon lives. The file stays: removing it could let two daemons lock two files.
    _lock: File,
}

impl Listener {
    /// Takes the socket, replacing one nobody listens on any more.
    ///
    /// # Errors
    /// Another daemon uses it, something else is there, the directory may not be written to, or there is no such group.
    pub fn bind(control: &Control) -> Result<Self, ControlError> {
        let path = control.socket.as_path();
        let group = control.group.as_deref().map(group).transpose()?;
        let lock = lock(path)?;
        remove_stale(path)?;
        let socket = open(path, group, control.mode).map_err(|error| refusal(path, error))?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn socket(&self) -> io::Result<UnixListener> {
        self.socket.set_nonblocking(true)?;
        self.socket.try_clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another one's socket cannot be here while the lock is held. If it cannot be removed, the next daemon
        // finds it stale.
        let _ = fs::remove_file(&self.path);
    }
}

/// Two daemons that start at once would both find a stale socket, and one would remove the other's new one.
fn lock(path: &Path) -> Result<File, ControlError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        // A link left in a directory that others may write to must not make root create files elsewhere.
        .custom_flags(libc::O_NOFOLLOW)
        .open(&name);
    let file = file.map_err(|error| refusal(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ControlError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(refusal(path, error)),
    }
}

fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refusal(path, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ControlError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ControlError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| refusal(path, error))
        }
        Err(error) => Err(refusal(path, error)),
    }
}

/// The number of a group. From the file itself: the C library's look-up wants modules that a static binary does not have.
fn group(name: &str) -> Result<u32, ControlError> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    number.ok_or_else(|| ControlError::NoGroup(name.to_owned()))
}

/// The umask belongs to the whole process, so it is not touched: between `bind` and `listen` nobody can
/// connect, and that is when group and mode are set.
fn open(path: &Path, group: Option<u32>, mode: u32) -> io::Result<UnixListener> {
    let socket: OwnedFd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(from_errno)?;
    bind(
        socket.as_raw_fd(),
        &UnixAddr::new(path).map_err(from_errno)?,
    )
    .map_err(from_errno)?;
    if group.is_some() {
        chown(path, None, group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&socket, Backlog::new(BACKLOG).map_err(from_errno)?).map_err(from_errno)?;
    Ok(socket.into())
}

fn from_errno(errno: Errno) -> io::Error {
    errno.into()
}

fn refusal(path: &Path, error: io::Error) -> ControlError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => ControlError::Permission(path),
        io::ErrorKind::AddrInUse => ControlError::InUse(path),
        _ => ControlError::Io { path, error },
    }
}
