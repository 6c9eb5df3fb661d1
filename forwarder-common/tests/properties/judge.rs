//! The judge of checksums: full sums over all bytes (RFC 1071), which share nothing with the product's arithmetic.

use proptest::prelude::*;

use crate::{
    packets::{Kind, Sample},
    wire::Wire,
};

/// RFC 1071 over big-endian words.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Checks an IP header, where the family has a checksum there.
pub fn header<A: Wire>(packet: &[u8]) -> Result<(), TestCaseError> {
    if !A::IPV6 {
        let length = usize::from(packet[0] & 0xf) * 4;
        prop_assert_eq!(sum(&packet[..length]), 0xffff, "IPv4 header");
    }
    Ok(())
}

/// Checks both checksums of a packet that was `sample` once, from its IP header on.
pub fn whole<A: Wire>(packet: &[u8], sample: &Sample<A>) -> Result<(), TestCaseError> {
    header::<A>(packet)?;
    let start = A::HEADER + sample.options.len();
    let segment = &packet[start..];
    if sample.kind == Kind::Udp {
        let absent = segment[6..8] == [0, 0];
        prop_assert_eq!(absent, sample.absent, "UDP checksum of zero");
        if absent {
            return Ok(());
        }
    }
    let echo = matches!(sample.kind, Kind::Echo | Kind::EchoReply);
    let pseudo = if echo && !A::ICMP_PSEUDO_HEADER {
        Vec::new()
    } else {
        pseudo::<A>(packet, sample.protocol(), segment.len())
    };
    prop_assert_eq!(sum(&[&pseudo, segment].concat()), 0xffff, "transport");
    Ok(())
}

/// Checks an ICMP error without options: its header, and the sum over all that it holds.
pub fn error<A: Wire>(packet: &[u8]) -> Result<(), TestCaseError> {
    header::<A>(packet)?;
    let message = &packet[A::HEADER..];
    let pseudo = if A::ICMP_PSEUDO_HEADER {
        pseudo::<A>(packet, A::ICMP, message.len())
    } else {
        Vec::new()
    };
    prop_assert_eq!(sum(&[&pseudo, message].concat()), 0xffff, "ICMP");
    Ok(())
}

/// The addresses as they stand in the packet, summed like any other bytes.
fn pseudo<A: Wire>(packet: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    let addresses = if A::IPV6 {
        &packet[8..40]
    } else {
        &packet[12..20]
    };
    let rest = A::pseudo(A::default(), A::default(), protocol, length);
    [addresses, &rest[addresses.len()..]].concat()
}
