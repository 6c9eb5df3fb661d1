//! The last packet that each reason has ended, read.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use forwarder_common::{last::LastPacket, reason::Reason};

use super::View;

/// What is known of a packet that was not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When it was met, in jiffies.
    pub at: u64,
    /// Index of the device that it was on.
    pub device: u32,
    /// IP protocol number; the first extension header's if it has any.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source and destination port of TCP and UDP, if they are known.
    pub ports: Option<[u16; 2]>,
}

impl View {
    /// The last IP packet of each CPU that ended for `reason`, the latest first. Which of two in one jiffy came first
    /// is not known.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn last_refused(&self, reason: Reason) -> anyhow::Result<Vec<Refused>> {
        let per_cpu = self.last.get(&(reason as u32), 0)?;
        let mut packets: Vec<Refused> = per_cpu.iter().filter_map(read).collect();
        packets.sort_by_key(|packet| Reverse(packet.at));
        Ok(packets)
    }
}

/// The packet whose beginning was kept.
fn read(last: &LastPacket) -> Option<Refused> {
    let bytes: Vec<u8> = last
        .words
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let bytes = bytes.get(..last.kept as usize)?;
    let (protocol, source, destination, header, is_tail) = match bytes.first()? >> 4 {
        4 => (
            *bytes.get(9)?,
            v4(bytes.get(12..16)?)?,
            v4(bytes.get(16..20)?)?,
            usize::from(bytes[0] & 0xf) * 4,
            // Of a fragment that is not the first: no ports follow.
            u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff != 0,
        ),
        6 => (
            *bytes.get(6)?,
            v6(bytes.get(8..24)?)?,
            v6(bytes.get(24..40)?)?,
            40,
            false,
        ),
        _ => return None,
    };
    let ports = bytes.get(header..header + 4);
    let ports = ports.filter(|_| matches!(protocol, 6 | 17) && !is_tail);
    Some(Refused {
        at: last.at,
        device: last.device,
        protocol,
        source,
        destination,
        ports: ports.map(|ports| {
            let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
            [port(0), port(2)]
        }),
    })
}

fn v4(bytes: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn v6(bytes: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use forwarder_common::last::{KEPT, KEPT_SHORT};
    use rstest::rstest;

    use super::*;

    /// One that begins with `bytes`, of which so many were kept.
    fn kept(bytes: &[u8], kept: usize) -> LastPacket {
        let mut all = [0; KEPT];
        all[..bytes.len()].copy_from_slice(bytes);
        let word = |at: usize| u32::from_ne_bytes([all[at], all[at + 1], all[at + 2], all[at + 3]]);
        LastPacket {
            at: 5,
            device: 2,
            kept: kept as u32,
            words: std::array::from_fn(|index| word(4 * index)),
            padding: 0,
        }
    }

    fn v4_header(first: u8, fragment: u16, protocol: u8) -> Vec<u8> {
        let mut bytes = vec![first, 0, 0, 60, 0, 0, (fragment >> 8) as u8, fragment as u8];
        bytes.extend([64, protocol, 0, 0, 198, 51, 100, 7, 203, 0, 113, 5]);
        bytes
    }

    #[rstest]
    #[case::tcp(v4_header(0x45, 0x4000, 6), Some([40_000, 110]))]
    #[case::udp(v4_header(0x45, 0, 17), Some([40_000, 110]))]
    #[case::icmp(v4_header(0x45, 0, 1), None)]
    #[case::first_fragment(v4_header(0x45, 0x2000, 17), Some([40_000, 110]))]
    #[case::later_fragment(v4_header(0x45, 0x0010, 17), None)]
    fn ports_of_ipv4(#[case] mut bytes: Vec<u8>, #[case] ports: Option<[u16; 2]>) {
        bytes.extend([0x9c, 0x40, 0, 110]);
        for length in [KEPT, KEPT_SHORT] {
            let packet = read(&kept(&bytes, length)).unwrap();
            assert_eq!(packet.ports, ports);
            assert_eq!(packet.source, IpAddr::from([198, 51, 100, 7]));
            assert_eq!(packet.destination, IpAddr::from([203, 0, 113, 5]));
            assert_eq!((packet.at, packet.device), (5, 2));
        }
    }

    #[test]
    fn ports_lie_behind_options() {
        let mut bytes = v4_header(0x46, 0, 6);
        bytes.extend([1, 1, 1, 0, 0x9c, 0x40, 0, 110]);
        assert_eq!(
            read(&kept(&bytes, KEPT)).unwrap().ports,
            Some([40_000, 110])
        );
        assert_eq!(read(&kept(&bytes, 22)).unwrap().ports, None);
    }

    #[test]
    fn ports_of_ipv6() {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
        bytes.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("2001:db8::5".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend([0x9c, 0x40, 0, 110]);
        let packet = read(&kept(&bytes, KEPT)).unwrap();
        assert_eq!(packet.ports, Some([40_000, 110]));
        assert_eq!(packet.source.to_string(), "2001:db8::7");
        assert_eq!(packet.destination.to_string(), "2001:db8::5");
    }

    #[rstest]
    #[case::none(kept(&[], 0))]
    #[case::no_ip(kept(&[0x15; 44], KEPT))]
    #[case::cut_short(kept(&[0x60; 44], KEPT_SHORT))]
    fn what_is_no_ip_packet_is_none(#[case] packet: LastPacket) {
        assert_eq!(read(&packet), None);
    }
}
