//! Having both ends of an ended connection learn of it at once, even if neither has anything to send.
//!
//! Only who knows the sequence numbers can reset a connection, and nobody here does: the programs do not follow them.
//! But an end answers a segment that lies outside of its window with an ACK (RFC 9293 section 3.10.7.4). That meets the
//! flow, which has ended, and is answered by a RST, whose number is then the one the end waits for. So each end is sent
//! such a segment in the other's name.

use std::net::IpAddr;

use etherparse::{PacketBuilder, TcpOptionElement};
use forwarder_common::{ethernet::Macs, tcp::State};

use super::{Datapath, Entry, Flow, compile::TCP};

/// Hops that a prompt may take (RFC 1700 "IP TIME TO LIVE PARAMETER").
const HOPS: u8 = 64;
/// Two numbers of which one at least is outside of any window, which is at most 2^30 bytes (RFC 7323 section 2.2).
const NUMBERS: [u32; 2] = [0, 1 << 31];

/// Frames that make one end of a connection speak, and the device by which they leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Index of the device.
    pub device: u32,
    /// Whole frames.
    pub frames: Vec<Vec<u8>>,
}

impl Prompt {
    /// For both ends of `flow`, as far as they are other hosts whose MAC is known and have something to be told.
    pub fn both(flow: &Flow) -> Vec<Self> {
        let is_open = matches!(
            flow.state(),
            State::SynReceived | State::Established | State::FinWait
        );
        if flow.original.protocol != TCP || !is_open {
            return Vec::new();
        }
        let entries = [flow.original_entry, flow.reply_entry];
        entries.iter().filter_map(Self::onward).collect()
    }

    /// As if a packet of this direction had been sent on.
    fn onward(entry: &Entry) -> Option<Self> {
        let route = entry.route;
        if route.egress.index() == 0 || route.macs == Macs::default() {
            return None;
        }
        let frames = NUMBERS.into_iter().map(|number| segment(entry, number));
        Some(Self {
            device: route.egress.index(),
            frames: frames.collect::<Option<_>>()?,
        })
    }
}

/// An ACK of nothing. With a timestamp, which whoever has not agreed to any must ignore and whoever has must see (RFC
/// 7323 section 3.2).
fn segment(entry: &Entry, number: u32) -> Option<Vec<u8>> {
    let (to, macs) = (&entry.rewrite, entry.route.macs);
    let frame = PacketBuilder::ethernet2(macs.source(), macs.destination());
    let (source, destination) = (
        u16::from_be(to.source_port_be),
        u16::from_be(to.destination_port_be),
    );
    let packet = match (to.source, to.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.ipv4(source.octets(), destination.octets(), HOPS)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.ipv6(source.octets(), destination.octets(), HOPS)
        }
        _ => return None,
    };
    let segment = packet
        .tcp(source, destination, number, 0)
        .ack(0)
        .options(&[
            TcpOptionElement::Noop,
            TcpOptionElement::Noop,
            TcpOptionElement::Timestamp(0, 0),
        ])
        .ok()?;
    let mut bytes = Vec::with_capacity(segment.size(0));
    segment.write(&mut bytes, &[]).ok()?;
    Some(bytes)
}

impl Datapath {
    /// Sends the frames of `prompt`.
    ///
    /// # Errors
    /// The device is gone, or takes nothing.
    pub fn send(&mut self, prompt: &Prompt) -> anyhow::Result<()> {
        for frame in &prompt.frames {
            self.programs.send(frame, prompt.device)?;
        }
        Ok(())
    }
}
