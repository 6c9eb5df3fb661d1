//! Checksums recomputed in full, straight from RFC 1071 and the raw bytes.
//!
//! Nothing here comes from etherparse or from the product: three implementations have to agree before a test passes.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What is wrong with a frame's checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which checksum.
    pub field: &'static str,
    /// What the frame has.
    pub found: u16,
    /// What a full computation gives.
    pub expected: u16,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            field,
            found,
            expected,
        } = self;
        write!(f, "{field} is {found:#06x}, should be {expected:#06x}")
    }
}

/// Sum of 16-bit big-endian words with end-around carry; an odd last byte is padded with zero.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut total: u64 = 0;
    for pair in bytes.chunks(2) {
        total += u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from);
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).expect("folded to 16 bits")
}

/// The bytes a TCP, UDP or ICMPv6 checksum covers before the segment itself (RFC 9293 3.1, RFC 8200 8.1).
#[must_use]
pub fn pseudo_header(addresses: Addresses, protocol: u8, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).expect("a segment fits 32 bits");
    match addresses {
        Addresses::V4(source, destination) => {
            let length = u16::try_from(length).expect("an IPv4 segment fits 16 bits");
            let mut bytes = [source.octets(), destination.octets()].concat();
            bytes.extend([0, protocol]);
            bytes.extend(length.to_be_bytes());
            bytes
        }
        Addresses::V6(source, destination) => {
            let mut bytes = [source.octets(), destination.octets()].concat();
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
            bytes
        }
    }
}

/// Source and destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

/// Checks an IPv4 header, options included.
///
/// # Errors
/// The fault, if the sum over the header is not all ones.
pub fn check_ipv4_header(header: &[u8]) -> Result<(), Fault> {
    check("IPv4 header checksum", &[], header, 10)
}

/// Checks a TCP, UDP, ICMP or ICMPv6 segment; other protocols have nothing to check.
///
/// A zero UDP checksum over IPv4 means "none" and is right; over IPv6 it is a fault (RFC 8200 8.1).
///
/// # Errors
/// The fault, if the sum over pseudo header and segment is not all ones.
pub fn check_segment(addresses: Addresses, protocol: u8, segment: &[u8]) -> Result<(), Fault> {
    let pseudo = pseudo_header(addresses, protocol, segment.len());
    match (protocol, addresses) {
        (1, Addresses::V4(..)) => check("ICMP checksum", &[], segment, 2),
        (6, _) => check("TCP checksum", &pseudo, segment, 16),
        (17, _) => {
            let absent = segment.get(6..8) == Some(&[0, 0]);
            match addresses {
                Addresses::V4(..) if absent => Ok(()),
                // An all-zero field would also pass the sum if the rest happened to be all ones.
                Addresses::V6(..) if absent => Err(fault("UDP checksum", &pseudo, segment, 6)),
                _ => check("UDP checksum", &pseudo, segment, 6),
            }
        }
        (58, Addresses::V6(..)) => check("ICMPv6 checksum", &pseudo, segment, 2),
        _ => Ok(()),
    }
}

fn check(field: &'static str, pseudo: &[u8], bytes: &[u8], offset: usize) -> Result<(), Fault> {
    // The pseudo header has an even length, so the words line up.
    if sum(&[pseudo, bytes].concat()) == 0xffff {
        Ok(())
    } else {
        Err(fault(field, pseudo, bytes, offset))
    }
}

fn fault(field: &'static str, pseudo: &[u8], bytes: &[u8], offset: usize) -> Fault {
    let Some(found) = bytes.get(offset..offset + 2) else {
        // Too short to hold the field at all; show that nothing was found.
        return Fault {
            field,
            found: 0,
            expected: 0,
        };
    };
    let found = u16::from_be_bytes([found[0], found[1]]);
    let mut zeroed = bytes.to_vec();
    zeroed[offset..offset + 2].fill(0);
    let mut expected = !sum(&[pseudo, &zeroed].concat());
    if field == "UDP checksum" && expected == 0 {
        // RFC 768: a computed zero is sent as all ones.
        expected = 0xffff;
    }
    Fault {
        field,
        found,
        expected,
    }
}

/// Every checksum fault of a frame: IP header, transport, and the IP header an ICMP error quotes. Fragments and
/// truncated segments have no transport checksum that could be verified.
///
/// # Panics
/// If the frame is neither IPv4 nor IPv6, or too short to have the header it announces.
#[must_use]
pub fn faults(frame: &[u8]) -> Vec<Fault> {
    let mut offset = 12;
    while matches!(word(frame, offset), 0x8100 | 0x88a8) {
        offset += 4;
    }
    match word(frame, offset) {
        0x0800 => ipv4_faults(&frame[offset + 2..]),
        0x86dd => ipv6_faults(&frame[offset + 2..]),
        other => panic!("EtherType {other:#06x} is neither IPv4 nor IPv6"),
    }
}

fn ipv4_faults(packet: &[u8]) -> Vec<Fault> {
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    let total_len = usize::from(word(packet, 2));
    let mut found: Vec<Fault> = check_ipv4_header(&packet[..header_len])
        .err()
        .into_iter()
        .collect();
    let fragment = word(packet, 6) & 0x3fff != 0;
    if fragment || packet.len() < total_len {
        return found;
    }
    let segment = &packet[header_len..total_len];
    found.extend(check_segment(ipv4_addresses(packet), packet[9], segment).err());
    // Destination unreachable, time exceeded, parameter problem quote the packet they complain about.
    if packet[9] == 1 && matches!(segment.first(), Some(3 | 11 | 12)) && segment.len() >= 28 {
        found.extend(ipv4_faults(&segment[8..]));
    }
    found
}

fn ipv6_faults(packet: &[u8]) -> Vec<Fault> {
    let end = 40 + usize::from(word(packet, 4));
    let Some((addresses, protocol, start)) = ipv6_transport(packet) else {
        return Vec::new();
    };
    if packet.len() < end {
        return Vec::new();
    }
    let segment = &packet[start..end];
    let mut found: Vec<Fault> = check_segment(addresses, protocol, segment)
        .err()
        .into_iter()
        .collect();
    if protocol == 58 && matches!(segment.first(), Some(1..=4)) && segment.len() >= 48 {
        found.extend(ipv6_faults(&segment[8..]));
    }
    found
}

/// The pseudo header's addresses, the protocol and where it begins, behind all extension headers; `None` for fragments
/// and for what was cut.
fn ipv6_transport(packet: &[u8]) -> Option<(Addresses, u8, usize)> {
    let (mut next, mut at) = (packet[6], 40);
    let Addresses::V6(source, mut destination) = ipv6_addresses(packet) else {
        return None;
    };
    while matches!(next, 0 | 43 | 44 | 60) {
        let header = packet.get(at..)?;
        let [following, units, kind, left, ..] = *header else {
            return None;
        };
        let length = if next == 44 {
            8
        } else {
            8 + 8 * usize::from(units)
        };
        let header = header.get(..length)?;
        if next == 44 && word(header, 2) & 0xfff9 != 0 {
            return None;
        }
        if next == 43 && left > 0 {
            // RFC 8754 lists the addresses in reverse, the older types do not.
            let last = if kind == 4 {
                header.get(8..24)?
            } else {
                header.last_chunk::<16>()?
            };
            destination = Ipv6Addr::from(<[u8; 16]>::try_from(last).ok()?);
        }
        (next, at) = (following, at + length);
    }
    Some((Addresses::V6(source, destination), next, at))
}

fn ipv4_addresses(packet: &[u8]) -> Addresses {
    let address =
        |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    Addresses::V4(address(12), address(16))
}

fn ipv6_addresses(packet: &[u8]) -> Addresses {
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&packet[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    Addresses::V6(address(8), address(24))
}

fn word(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}
