//! Frames as they arrive at a device.

use std::cell::{Ref, RefCell};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

use crate::netns::Namespace;
use crate::packet::{Packet, Transport, checksum, decode};
use crate::process::{wait_for, wait_until};
use crate::responder::PATIENCE;

/// Room for a few thousand frames that nobody has looked at yet.
const BUFFER: usize = 16 << 20;

/// Keeps what arrives at one device from its start on.
#[derive(Debug)]
pub struct Capture {
    socket: File,
    frames: RefCell<Vec<Vec<u8>>>,
}

impl Capture {
    /// Starts.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn start(namespace: &Namespace, device: &str) -> Result<Self> {
        let socket = namespace
            .run(|| open(device))?
            .with_context(|| format!("capturing on {device} in {}", namespace.name()))?;
        Ok(Self {
            socket: socket.into(),
            frames: RefCell::default(),
        })
    }

    /// Every frame so far.
    ///
    /// # Errors
    /// If the device has gone.
    pub fn frames(&self) -> Result<Ref<'_, [Vec<u8>]>> {
        let mut buffer = vec![0; 1 << 17];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(length) => self.frames.borrow_mut().push(buffer[..length].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("reading captured frames"),
            }
        }
        Ok(Ref::map(self.frames.borrow(), Vec::as_slice))
    }

    /// Every IP packet so far, with the frame it was.
    ///
    /// # Errors
    /// As [`Capture::frames`].
    pub fn packets(&self) -> Result<Vec<(Packet, Vec<u8>)>> {
        let frames = self.frames()?;
        let decoded = frames
            .iter()
            .filter_map(|frame| Some((decode(frame).ok()?, frame.clone())));
        Ok(decoded.collect())
    }

    /// Waits for the first packet that `wanted` takes.
    ///
    /// # Errors
    /// If none arrives; `what` completes the sentence "… did not happen within 10s".
    pub fn wait(&self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Result<(Packet, Vec<u8>)> {
        wait_for(what, PATIENCE, || {
            let packets = self.packets().ok()?;
            packets.into_iter().find(|(packet, _)| wanted(packet))
        })
        .with_context(|| self.listing())
    }

    /// Waits for the first ICMP error and describes it.
    ///
    /// # Errors
    /// If none arrives.
    pub fn wait_error(&self) -> Result<(Packet, String)> {
        let (packet, frame) = self.wait("an ICMP error", |packet| packet.quote().is_ok())?;
        let description = describe(&packet, &frame);
        Ok((packet, description))
    }

    /// Every ICMP error so far, described.
    ///
    /// # Errors
    /// As [`Capture::frames`].
    pub fn errors(&self) -> Result<Vec<String>> {
        let packets = self.packets()?.into_iter();
        let errors = packets.filter(|(packet, _)| packet.quote().is_ok());
        Ok(errors
            .map(|(packet, frame)| describe(&packet, &frame))
            .collect())
    }

    /// Waits until so many ICMP errors have arrived in all.
    ///
    /// # Errors
    /// If fewer do.
    pub fn wait_errors(&self, count: usize) -> Result<()> {
        wait_until("the arrival of ICMP errors", PATIENCE, || {
            self.errors().is_ok_and(|errors| errors.len() >= count)
        })
        .with_context(|| self.listing())
    }

    fn listing(&self) -> String {
        let packets = self.packets().unwrap_or_default();
        let lines = packets
            .iter()
            .map(|(packet, frame)| format!("  {}\n", describe(packet, frame)));
        format!("captured:\n{}", lines.collect::<String>())
    }
}

/// A packet in one line, with what is wrong with its checksums. For an ICMP error also what it quotes.
#[must_use]
pub fn describe(packet: &Packet, frame: &[u8]) -> String {
    let (ip, transport) = (&packet.ip, &packet.transport);
    let mut text = format!("{} to {} ttl {}", ip.source(), ip.destination(), ip.ttl());
    match transport {
        Transport::Icmp(icmp) => {
            let rest = u32::from_be_bytes(icmp.rest);
            text += &format!(": ICMP {}/{} {rest}", icmp.kind, icmp.code);
        }
        other => text += &format!(": {other:?} and {} bytes", packet.payload.len()),
    }
    if let Ok(quote) = packet.quote() {
        text += &format!(
            " quotes {} of {} bytes, {} to {} ttl {} protocol {}, checksum {:?}",
            quote.length,
            quote.stated,
            quote.source(),
            quote.destination(),
            quote.ip.ttl(),
            quote.protocol,
            quote.checksum,
        );
    }
    let faults = checksum::faults(frame);
    if !faults.is_empty() {
        text += &format!(" (wrong: {faults:?})");
    }
    text
}

fn open(device: &str) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without a protocol it hears nothing until it is bound to the one device.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)
        .context("opening a packet socket")?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    let yes: libc::c_int = 1;
    // SAFETY: the value is a live integer of the size given.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const yes).cast(),
            libc::socklen_t::try_from(size_of_val(&yes))?,
        )
    };
    Errno::result(set).context("leaving out what is sent")?;
    let index = nix::net::if_::if_nametoindex(device)?;
    // SAFETY: an all-zero address is a valid one, of no family.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    address.sll_ifindex = i32::try_from(index)?;
    let length = libc::socklen_t::try_from(size_of_val(&address))?;
    // SAFETY: the address is live and of the length given.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(bound).context("binding to the device")?;
    Ok(socket)
}
