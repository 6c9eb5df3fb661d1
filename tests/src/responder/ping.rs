//! ICMP echo with an identifier of the caller's choice.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::PATIENCE;
use crate::netns::Namespace;

/// Type, code, checksum, identifier and sequence number.
const HEADER: usize = 8;

/// A socket that sends echo requests and hears the replies to them. The kernel has one kind for this, in which the
/// identifier is the port, and it fills in identifier and checksum.
#[derive(Debug)]
pub struct Ping {
    socket: OwnedFd,
    target: IpAddr,
}

impl Ping {
    /// Opens one in a namespace. No second one there can have the same identifier.
    ///
    /// # Errors
    /// If the identifier is in use or there is no route.
    pub fn open(namespace: &Namespace, target: IpAddr, identifier: u16) -> Result<Self> {
        // Group 0 is root's; without it nobody may, root included. It covers IPv6 as well.
        namespace.sysctl("net/ipv4/ping_group_range", "0 0")?;
        let attempt = || -> nix::Result<OwnedFd> {
            let (family, protocol, any) = match target {
                IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, "0.0.0.0"),
                IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, "::"),
            };
            let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
            let any: IpAddr = any.parse().expect("a wildcard address");
            let at = |address, port| SockaddrStorage::from(SocketAddr::new(address, port));
            bind(socket.as_raw_fd(), &at(any, identifier))?;
            connect(socket.as_raw_fd(), &at(target, 0))?;
            let limit = TimeVal::milliseconds(PATIENCE.as_millis() as i64);
            setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
            Ok(socket)
        };
        let socket = namespace
            .run(attempt)?
            .map_err(io::Error::from)
            .with_context(|| format!("opening a socket to ping {target}"))?;
        Ok(Self { socket, target })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// If it cannot be sent, or an earlier one was answered with an error.
    pub fn ask(&self, sequence: u16, data: &[u8]) -> Result<()> {
        let kind = match self.target {
            IpAddr::V4(_) => 8,
            IpAddr::V6(_) => 128,
        };
        let mut message = vec![kind, 0, 0, 0, 0, 0];
        message.extend(sequence.to_be_bytes());
        message.extend(data);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())
            .map_err(io::Error::from)
            .with_context(|| format!("pinging {}", self.target))?;
        Ok(())
    }

    /// Waits for a reply and returns its sequence number and data.
    ///
    /// # Errors
    /// If none comes in time.
    pub fn hear(&self) -> Result<(u16, Vec<u8>)> {
        let mut message = vec![0; 65536];
        let length = recv(self.socket.as_raw_fd(), &mut message, MsgFlags::empty())
            .map_err(io::Error::from)
            .with_context(|| format!("no echo from {}", self.target))?;
        ensure!(length >= HEADER, "an echo of {length} bytes");
        let sequence = u16::from_be_bytes([message[6], message[7]]);
        Ok((sequence, message[HEADER..length].to_vec()))
    }
}
