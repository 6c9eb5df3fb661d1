//! UDP sockets that hear of errors, as traceroute and tracepath have them.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use crate::netns::Namespace;
use crate::process::wait_for;
use crate::responder::PATIENCE;

/// A connected UDP socket with its error queue (ip(7), `IP_RECVERR`).
#[derive(Debug)]
pub struct Probe {
    socket: UdpSocket,
    v4: bool,
}

/// An entry of the error queue: `struct sock_extended_err`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketError {
    /// What send and receive report.
    pub error: Errno,
    /// Whether it came in a packet; otherwise this host knew it already.
    pub from_network: bool,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The next hop's MTU, if it is about size.
    pub mtu: u32,
    /// Who sent it.
    pub offender: Option<IpAddr>,
    /// Where the datagram it is about went.
    pub destination: Option<SocketAddr>,
    /// What of the datagram was quoted.
    pub data: Vec<u8>,
}

impl Probe {
    /// Opens one.
    ///
    /// # Errors
    /// If the source is taken or there is no route.
    pub fn open(namespace: &Namespace, source: SocketAddr, target: SocketAddr) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind(source))?
            .with_context(|| format!("binding {source}"))?;
        Self::on(socket, target)
    }

    /// Makes one of a socket that is there. A second one at the same address could not be sure to get it, even if the
    /// first were closed: a child that is just being started has all descriptors for a moment.
    ///
    /// # Errors
    /// If there is no route.
    pub fn on(socket: UdpSocket, target: SocketAddr) -> Result<Self> {
        let connected = socket.connect(target);
        connected.with_context(|| format!("connecting to {target}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let probe = Self {
            socket,
            v4: target.is_ipv4(),
        };
        probe.set([libc::IP_RECVERR, libc::IPV6_RECVERR], 1)?;
        Ok(probe)
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// If this host refuses it.
    pub fn send(&self, data: &[u8]) -> io::Result<()> {
        self.past_errors(|socket| socket.send(data).map(drop))
    }

    /// Receives a datagram.
    ///
    /// # Errors
    /// If none comes in time.
    pub fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        let length = self.past_errors(|socket| socket.recv(&mut buffer))?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Each ICMP error makes one call fail, whichever comes next, although it has nothing to do with it. An error is in
    /// the queue a moment before that, so it cannot be cleared beforehand.
    fn past_errors<T>(&self, mut call: impl FnMut(&UdpSocket) -> io::Result<T>) -> io::Result<T> {
        call(&self.socket).or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Err(error),
            _ => call(&self.socket),
        })
    }

    /// Sets TTL or hop limit of what is sent from now on.
    ///
    /// # Errors
    /// If it is 0.
    pub fn set_ttl(&self, ttl: u8) -> Result<()> {
        self.set([libc::IP_TTL, libc::IPV6_UNICAST_HOPS], ttl.into())
    }

    /// Has nothing fragmented, here or on the way, and what is too large refused.
    ///
    /// # Errors
    /// Never, on Linux.
    pub fn discover_mtu(&self) -> Result<()> {
        let options = [libc::IP_MTU_DISCOVER, libc::IPV6_MTU_DISCOVER];
        self.set(options, libc::IP_PMTUDISC_DO)
    }

    /// The MTU of the way as this host knows it.
    ///
    /// # Errors
    /// Never for a connected socket.
    pub fn mtu(&self) -> Result<u32> {
        let (level, name) = self.option([libc::IP_MTU, libc::IPV6_MTU]);
        let mut value: libc::c_int = 0;
        let mut size = libc::socklen_t::try_from(size_of_val(&value))?;
        // SAFETY: value and size are live, and the size is the value's.
        let got = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                level,
                name,
                (&raw mut value).cast(),
                &raw mut size,
            )
        };
        Errno::result(got).context("asking for the MTU")?;
        Ok(u32::try_from(value)?)
    }

    /// Waits for the next error that came in a packet.
    ///
    /// # Errors
    /// If none comes in time.
    pub fn error(&self) -> Result<SocketError> {
        wait_for("an ICMP error", PATIENCE, || self.next_error().transpose())?
    }

    /// The next error in the queue, if there is one.
    ///
    /// # Errors
    /// If the kernel's report has another form than expected.
    pub fn next_error(&self) -> Result<Option<SocketError>> {
        let mut data = vec![0; 1 << 16];
        let mut control = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let mut parts = [IoSliceMut::new(&mut data)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let received = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            flags,
        );
        let received = match received {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error).context("reading the error queue"),
        };
        let (report, offender) = received
            .cmsgs()?
            .find_map(|message| match message {
                ControlMessageOwned::Ipv4RecvErr(report, from) => {
                    let from = from.filter(|from| from.sin_family != 0);
                    Some((
                        report,
                        from.map(|it| IpAddr::from(u32::from_be(it.sin_addr.s_addr).to_be_bytes())),
                    ))
                }
                ControlMessageOwned::Ipv6RecvErr(report, from) => {
                    let from = from.filter(|from| from.sin6_family != 0);
                    Some((report, from.map(|it| IpAddr::from(it.sin6_addr.s6_addr))))
                }
                _ => None,
            })
            .context("an error without a report")?;
        let destination = received.address.as_ref().and_then(socket_addr);
        let length = received.bytes;
        data.truncate(length);
        Ok(Some(SocketError {
            error: Errno::from_raw(i32::try_from(report.ee_errno)?),
            from_network: report.ee_origin != libc::SO_EE_ORIGIN_LOCAL,
            kind: report.ee_type,
            code: report.ee_code,
            mtu: report.ee_info,
            offender,
            destination,
            data,
        }))
    }

    fn set(&self, names: [libc::c_int; 2], value: libc::c_int) -> Result<()> {
        let (level, name) = self.option(names);
        let size = libc::socklen_t::try_from(size_of_val(&value))?;
        // SAFETY: the value is a live integer of the size given.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size,
            )
        };
        Errno::result(set).context("setting a socket option")?;
        Ok(())
    }

    /// Level and name of an option that both families have.
    fn option(&self, [v4, v6]: [libc::c_int; 2]) -> (libc::c_int, libc::c_int) {
        if self.v4 {
            (libc::IPPROTO_IP, v4)
        } else {
            (libc::IPPROTO_IPV6, v6)
        }
    }
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|it| SocketAddr::new(it.ip().into(), it.port()));
    let v6 = || {
        let it = address.as_sockaddr_in6()?;
        Some(SocketAddr::new(it.ip().into(), it.port()))
    };
    v4.or_else(v6)
}
