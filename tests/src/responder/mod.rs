//! Small servers for the far side of a gateway, and the clients that go with them.
//!
//! They keep what the far side is asked to prove: which address the connection came from, and what it carried.

mod bulk;
mod crowd;
mod echo;
mod ping;
mod pop3;
mod smtp;
mod talk;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrStorage, bind, setsockopt, shutdown,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::netns::Namespace;

pub use bulk::{Bulk, Direction, bulk_transfer};
pub use crowd::crowd;
pub use echo::{
    UdpEcho, echo, exchange, tcp_exchange, tell_ends, tell_port, udp_client, udp_client_from,
    udp_exchange, udp_exchange_without_checksum,
};
pub use ping::Ping;
pub use pop3::{MESSAGE, pop3, pop3_client};
pub use smtp::{smtp, smtp_client};
pub use talk::{Talk, Transcript};

/// How long one read or write may take before a conversation counts as broken.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Threads that only move bytes need little stack, and there may be two thousand.
const STACK: usize = 256 * 1024;

/// A TCP server with one thread per connection; dropping it stops the listening.
#[derive(Debug)]
pub struct Server {
    listener: Arc<TcpListener>,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens inside a namespace and has `serve` talk to whoever connects.
    ///
    /// # Errors
    /// If the address cannot be bound there.
    pub fn start<S>(namespace: &Namespace, address: &str, serve: S) -> Result<Self>
    where
        S: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        let listener = namespace
            .run(|| TcpListener::bind(address))?
            .with_context(|| format!("listening on {address} in {}", namespace.name()))?;
        Self::on(listener, serve)
    }

    /// Serves a socket that listens already.
    ///
    /// # Errors
    /// If its backlog cannot be raised.
    pub fn on<S>(listener: TcpListener, serve: S) -> Result<Self>
    where
        S: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        // The standard library's backlog of 128 loses SYNs when a thousand clients connect at once.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096)?)?;
        let listener = Arc::new(listener);
        let peers = Arc::new(Mutex::new(Vec::new()));
        let acceptor = {
            let (listener, peers, serve) =
                (Arc::clone(&listener), Arc::clone(&peers), Arc::new(serve));
            std::thread::spawn(move || accept_all(&listener, &peers, &serve))
        };
        Ok(Self {
            listener,
            peers,
            acceptor: Some(acceptor),
        })
    }

    /// Who connected, in order, as the server saw them.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        lock(&self.peers).clone()
    }

    /// The distinct addresses of [`Server::peers`], sorted.
    #[must_use]
    pub fn peer_addresses(&self) -> Vec<IpAddr> {
        distinct(self.peers())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes the accept() of a listening socket; closing the descriptor would not.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept_all<S>(listener: &TcpListener, peers: &Mutex<Vec<SocketAddr>>, serve: &Arc<S>)
where
    S: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    while let Ok((stream, peer)) = listener.accept() {
        lock(peers).push(peer);
        let serve = Arc::clone(serve);
        let thread = std::thread::Builder::new().stack_size(STACK);
        // A conversation that breaks off is the client's to report; it is the one that waits for an answer.
        let _ = thread.spawn(move || patient(&stream).and_then(|()| serve(stream)));
    }
}

/// Connects inside a namespace.
///
/// # Errors
/// If nobody answers within [`PATIENCE`], or the answer is a refusal.
pub fn connect(namespace: &Namespace, address: SocketAddr) -> Result<TcpStream> {
    connect_within(namespace, address, PATIENCE)
}

/// Connects inside a namespace, or gives up after `limit`.
///
/// # Errors
/// If nobody answers in time, or the answer is a refusal.
pub fn connect_within(
    namespace: &Namespace,
    address: SocketAddr,
    limit: Duration,
) -> Result<TcpStream> {
    let stream = namespace
        .run(|| TcpStream::connect_timeout(&address, limit))?
        .with_context(|| format!("connecting from {} to {address}", namespace.name()))?;
    patient(&stream)?;
    Ok(stream)
}

/// Connects from one of the namespace's addresses, or gives up after `limit`.
///
/// # Errors
/// As [`connect_within`]; the cause is the [`io::Error`] of connect(2).
pub fn connect_from(
    namespace: &Namespace,
    source: impl Into<IpAddr>,
    address: impl Into<SocketAddr>,
    limit: Duration,
) -> Result<TcpStream> {
    let (source, address) = (source.into(), address.into());
    let attempt = || -> nix::Result<TcpStream> {
        let family = match source {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(source, 0)),
        )?;
        // On Linux the send timeout is also that of connect.
        setsockopt(
            &socket,
            sockopt::SendTimeout,
            &TimeVal::microseconds(limit.as_micros() as i64),
        )?;
        nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        Ok(TcpStream::from(socket))
    };
    let stream = namespace
        .run(attempt)?
        .map_err(io::Error::from)
        .with_context(|| format!("connecting from {source} to {address}"))?;
    patient(&stream)?;
    Ok(stream)
}

/// The first line the server says, or else how connecting ended, as [`kind`] has it.
///
/// # Errors
/// If the connection is made and then breaks.
pub fn first_line(stream: Result<TcpStream>) -> Result<String> {
    Ok(match stream {
        Ok(stream) => Talk::client(stream).hear()?,
        Err(error) => kind(&error),
    })
}

/// What a system call said, by its kind: `ConnectionRefused` and the like.
#[must_use]
pub fn kind(error: &anyhow::Error) -> String {
    let cause = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    cause.map_or_else(
        || format!("{error:#}"),
        |cause| format!("{:?}", cause.kind()),
    )
}

/// Gives every read and write of a stream a limit, so that lost packets fail a test instead of hanging it.
fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// A lock that a panicking thread does not take away from the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn distinct(peers: Vec<SocketAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
