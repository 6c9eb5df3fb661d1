//! Many connections at once.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use super::connect;
use crate::netns::Namespace;

/// Bytes each connection exchanges: more than one segment.
const EXCHANGED: usize = 4096;

/// Opens `count` connections to an echo server, holds them all open, sends something else over each, and checks that
/// each gets its own back.
///
/// # Errors
/// If a connection cannot be made, breaks, or brings what belongs to another.
pub fn crowd(namespace: &Namespace, server: SocketAddr, count: usize) -> Result<()> {
    allow_files(count * 2 + 1000)?;
    let mut streams = (0..count)
        .map(|number| {
            connect(namespace, server).with_context(|| format!("connection {number} of {count}"))
        })
        .collect::<Result<Vec<TcpStream>>>()?;
    // All in flight before the first is read.
    for (number, stream) in streams.iter_mut().enumerate() {
        stream
            .write_all(&data(number))
            .with_context(|| format!("sending on connection {number}"))?;
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut answer = vec![0; EXCHANGED];
        stream
            .read_exact(&mut answer)
            .with_context(|| format!("reading on connection {number}"))?;
        ensure!(
            answer == data(number),
            "connection {number} got what it did not send"
        );
    }
    Ok(())
}

/// What only this connection sends.
fn data(number: usize) -> Vec<u8> {
    format!("{number:08x}")
        .bytes()
        .cycle()
        .take(EXCHANGED)
        .collect()
}

/// Raises the limit of open files, which is 1024 on many systems; both ends of every connection are in this process.
fn allow_files(count: usize) -> io::Result<()> {
    let wanted = libc::rlim_t::try_from(count).map_err(io::Error::other)?;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live rlimit.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    nix::errno::Errno::result(read)?;
    if limit.rlim_cur >= wanted {
        return Ok(());
    }
    limit.rlim_cur = wanted;
    limit.rlim_max = limit.rlim_max.max(wanted);
    // SAFETY: the pointer is to a live rlimit.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    nix::errno::Errno::result(set)?;
    Ok(())
}
