//! Echo over TCP and UDP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{PATIENCE, distinct, lock};
use crate::netns::Namespace;

/// How long the UDP server sleeps in a read before it looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// Sends back what it reads. Pass it to [`Server::start`](super::Server::start).
///
/// # Errors
/// If the connection breaks.
pub fn echo(stream: TcpStream) -> io::Result<()> {
    io::copy(&mut &stream, &mut &stream).map(drop)
}

/// Says which port it was reached at: `port N`. Pass it to [`Server::start`](super::Server::start).
///
/// # Errors
/// If the connection breaks.
pub fn tell_port(mut stream: TcpStream) -> io::Result<()> {
    let port = stream.local_addr()?.port();
    writeln!(stream, "port {port}")
}

/// Says who connected, and to what: `from ADDR to ADDR:PORT`. Pass it to [`Server::start`](super::Server::start).
///
/// # Errors
/// If the connection breaks.
pub fn tell_ends(mut stream: TcpStream) -> io::Result<()> {
    let (peer, own) = (stream.peer_addr()?.ip(), stream.local_addr()?);
    // A socket bound to the wildcard of both families sees IPv4 addresses in IPv6 form.
    let own = SocketAddr::new(own.ip().to_canonical(), own.port());
    writeln!(stream, "from {} to {own}", peer.to_canonical())
}

/// Sends `data` to an echo server and returns what comes back, which is as much.
///
/// # Errors
/// If the connection breaks or less comes back.
pub fn tcp_exchange(stream: &mut TcpStream, data: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(data)?;
    let mut answer = vec![0; data.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A UDP echo server; dropping it stops it.
#[derive(Debug)]
pub struct UdpEcho {
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Binds inside a namespace and answers from then on.
    ///
    /// # Errors
    /// If the address cannot be bound there.
    pub fn start(namespace: &Namespace, address: &str) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind(address))?
            .with_context(|| format!("binding {address} in {}", namespace.name()))?;
        socket.set_read_timeout(Some(TICK))?;
        let peers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (peers, stop) = (Arc::clone(&peers), Arc::clone(&stop));
            std::thread::spawn(move || answer_all(&socket, &peers, &stop))
        };
        Ok(Self {
            peers,
            stop,
            thread: Some(thread),
        })
    }

    /// Where datagrams came from, in order.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        lock(&self.peers).clone()
    }

    /// The distinct addresses of [`UdpEcho::peers`], sorted.
    #[must_use]
    pub fn peer_addresses(&self) -> Vec<IpAddr> {
        distinct(self.peers())
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_all(socket: &UdpSocket, peers: &Mutex<Vec<SocketAddr>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        // An error is the timeout, or the echo of an ICMP message about an earlier answer: neither ends the server.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            lock(peers).push(peer);
            let _ = socket.send_to(&buffer[..length], peer);
        }
    }
}

/// Sends one datagram and returns the answer.
///
/// # Errors
/// If no answer comes in time.
pub fn udp_exchange(namespace: &Namespace, server: SocketAddr, data: &[u8]) -> Result<Vec<u8>> {
    exchange(&udp_client(namespace, server)?, data)
        .with_context(|| format!("no answer from {server}"))
}

/// The same without a checksum, as RFC 768 allows: zero stands in its place and must stay there.
///
/// # Errors
/// If no answer comes in time.
pub fn udp_exchange_without_checksum(
    namespace: &Namespace,
    server: SocketAddr,
    data: &[u8],
) -> Result<Vec<u8>> {
    let socket = udp_client(namespace, server)?;
    let yes: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&yes))?;
    // SAFETY: the value is a live integer of the given size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const yes).cast(),
            size,
        )
    };
    nix::errno::Errno::result(set).context("switching the checksum off")?;
    exchange(&socket, data).with_context(|| format!("no answer from {server}"))
}

/// A connected socket, so that only the true peer's answer counts, and so that ICMP errors are reported.
///
/// # Errors
/// If there is no route to the server.
pub fn udp_client(namespace: &Namespace, server: SocketAddr) -> Result<UdpSocket> {
    let any = if server.is_ipv4() {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0_u16; 8])
    };
    udp_client_from(namespace, any, server)
}

/// The same from one of the namespace's addresses.
///
/// # Errors
/// If the namespace has no such address, or no route to the server.
pub fn udp_client_from(
    namespace: &Namespace,
    source: IpAddr,
    server: SocketAddr,
) -> Result<UdpSocket> {
    let socket = namespace
        .run(|| {
            let socket = UdpSocket::bind((source, 0))?;
            socket.connect(server)?;
            io::Result::Ok(socket)
        })?
        .with_context(|| format!("a socket from {source} to {server}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends a datagram and returns the answer.
///
/// # Errors
/// If no answer comes in time, or an ICMP error comes instead.
pub fn exchange(socket: &UdpSocket, data: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(data)?;
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}
