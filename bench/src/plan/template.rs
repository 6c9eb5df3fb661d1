//! The bytes that all packets of a plan have in common.

use std::net::Ipv6Addr;

use super::{Kind, Traffic};
use crate::net::Net;
use crate::tcp;
use crate::wire::{self, Offsets};

/// A frame without what differs from flow to flow.
pub(super) fn template(traffic: &Traffic) -> Vec<u8> {
    let mut frame = Vec::with_capacity(traffic.length());
    frame.extend(Net::ROUTER_IN_MAC);
    frame.extend(Net::GENERATOR_MAC);
    let protocol = if traffic.kind == Kind::Udp { 17 } else { 6 };
    let segment = traffic.segment();
    if traffic.v6 {
        frame.extend(0x86dd_u16.to_be_bytes());
        frame.extend([0x60, 0, 0, 0]);
        frame.extend((segment as u16).to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend(prefix(Net::CLIENTS.1));
        frame.extend(prefix(traffic.listener().1));
    } else {
        frame.extend(0x0800_u16.to_be_bytes());
        frame.extend([0x45, 0]);
        frame.extend(((20 + segment) as u16).to_be_bytes());
        // Not fragmented, and never to be.
        frame.extend([0, 0, 0x40, 0, 64, protocol]);
        frame.extend([0; 10]);
    }
    frame.extend([0; 4]);
    match traffic.kind {
        Kind::Udp => {
            frame.extend((segment as u16).to_be_bytes());
        }
        Kind::Syn => {
            frame.extend([0; 8]);
            frame.extend([0x70, tcp::SYN, 0xff, 0xff, 0, 0, 0, 0]);
            frame.extend(tcp::OPTIONS);
        }
        Kind::Ack | Kind::Segment { .. } => {
            frame.extend([0; 4]);
            frame.extend((tcp::SERVER_START + 1).to_be_bytes());
            frame.extend([0x50, tcp::ACK, 0xff, 0xff]);
        }
    }
    frame.resize(traffic.length(), 0);
    frame
}

/// An address less its last four bytes, which the generator writes.
fn prefix(address: Ipv6Addr) -> [u8; 16] {
    let mut octets = address.octets();
    octets[12..].fill(0);
    octets
}

/// Of the transport header with its pseudo-header (RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1); what the
/// template has no value for yet counts nothing.
pub(super) fn transport_sum(frame: &[u8], at: &Offsets, kind: Kind) -> u32 {
    let segment = &frame[at.transport..];
    let addresses = match at.header_check {
        Some(_) => &frame[26..34],
        None => &frame[22..54],
    };
    let protocol = if kind == Kind::Udp { 17_u16 } else { 6 };
    // A stamp and its complement are four words of all ones, which is zero in one's complement; but the template's
    // eight words of zeros are not distinguishable from them, so nothing is to be added.
    let parts = [
        sum(addresses),
        u32::from(protocol.to_be()),
        u32::from((segment.len() as u16).to_be()),
        sum(segment),
    ];
    u32::from(wire::fold(parts.iter().sum()))
}

/// The one's-complement sum of an even number of bytes, in their order.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]])));
    u32::from(wire::fold(words.sum()))
}
