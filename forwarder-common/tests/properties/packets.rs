//! Packets by chance, and the judge of their checksums.

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv4Options, NetSlice, SlicedPacket,
    TcpHeader, TransportSlice, UdpHeader,
};
use forwarder_common::{address::V4, flow::FlowKey};
use proptest::prelude::*;

/// What a valid packet is made from.
#[derive(Clone, Debug)]
pub struct Sample {
    pub tcp: bool,
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub ports: (u16, u16),
    pub ttl: u8,
    pub options: Vec<u8>,
    pub tcp_options: Vec<u8>,
    pub payload: Vec<u8>,
    /// UDP without checksum.
    pub absent: bool,
    /// Bytes of Ethernet padding.
    pub trailer: usize,
}

/// Any address that a packet on the wire may carry as one host's.
pub fn host() -> impl Strategy<Value = [u8; 4]> {
    let first = prop_oneof![1_u8..127, 128_u8..224];
    (first, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| [a, b, c, d])
}

/// Any valid unicast TCP or UDP packet.
pub fn sample() -> impl Strategy<Value = Sample> {
    let words = |most: usize| {
        (0..=most).prop_flat_map(|words: usize| proptest::collection::vec(any::<u8>(), words * 4))
    };
    let addresses = (host(), host(), any::<(u16, u16)>());
    let sizes = (
        words(10),
        words(10),
        proptest::collection::vec(any::<u8>(), 0..64),
        0..20_usize,
    );
    (any::<bool>(), any::<bool>(), 3_u8.., addresses, sizes).prop_map(
        |(
            tcp,
            absent,
            ttl,
            (source, destination, ports),
            (options, tcp_options, payload, trailer),
        )| {
            Sample {
                tcp,
                source,
                destination,
                ports,
                ttl,
                options,
                tcp_options,
                payload,
                absent: absent && !tcp,
                trailer,
            }
        },
    )
}

/// A valid packet with up to four bits flipped and perhaps its end cut off.
pub fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let flips = proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..5);
    (
        sample(),
        flips,
        proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    )
        .prop_map(|(sample, flips, cut)| {
            let mut bytes = sample.bytes();
            for (at, bit) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        })
}

/// Bytes of every length, half of them with what gets a parser beyond its first questions.
pub fn garbage() -> impl Strategy<Value = Vec<u8>> {
    (
        proptest::collection::vec(any::<u8>(), 0..160),
        any::<bool>(),
        any::<bool>(),
        0x45..=0x4f_u8,
    )
        .prop_map(|(mut bytes, plausible, tcp, version)| {
            let length = u16::try_from(bytes.len().saturating_sub(14)).expect("at most 160");
            if plausible && bytes.len() >= 34 {
                bytes[12..14].copy_from_slice(&[8, 0]);
                bytes[14] = version;
                bytes[16..18].copy_from_slice(&length.to_be_bytes());
                bytes[20..22].copy_from_slice(&[0x40, 0]);
                bytes[23] = if tcp { 6 } else { 17 };
            }
            bytes
        })
}

impl Sample {
    /// The tuple as the product has it.
    pub fn key(&self) -> FlowKey<V4> {
        FlowKey::new(
            V4::new(self.source),
            V4::new(self.destination),
            self.ports.0.to_be(),
            self.ports.1.to_be(),
            if self.tcp { 6 } else { 17 },
        )
    }

    /// Where the two checksums are in the frame.
    pub fn checksums(&self) -> [usize; 2] {
        let transport = 34 + self.options.len();
        [24, transport + if self.tcp { 16 } else { 6 }]
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let segment = if self.tcp {
            self.tcp_segment()
        } else {
            self.udp_segment()
        };
        let mut ip = Ipv4Header {
            time_to_live: self.ttl,
            protocol: IpNumber(self.key().protocol),
            source: self.source,
            destination: self.destination,
            options: Ipv4Options::try_from(&self.options[..]).expect("up to ten words"),
            ..Ipv4Header::default()
        };
        ip.set_payload_len(segment.len()).expect("a short packet");
        ip.header_checksum = ip.calc_header_checksum();
        let ethernet = Ethernet2Header {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            ether_type: EtherType::IPV4,
        };
        let mut bytes = ethernet.to_bytes().to_vec();
        bytes.extend(&ip.to_bytes()[..]);
        bytes.extend(segment);
        bytes.resize(bytes.len() + self.trailer, 0);
        bytes
    }

    fn tcp_segment(&self) -> Vec<u8> {
        let mut tcp = TcpHeader::new(self.ports.0, self.ports.1, 0x0102_0304, 1000);
        tcp.set_options_raw(&self.tcp_options)
            .expect("up to ten words");
        tcp.checksum = tcp
            .calc_checksum_ipv4_raw(self.source, self.destination, &self.payload)
            .expect("a short packet");
        [&tcp.to_bytes()[..], &self.payload].concat()
    }

    fn udp_segment(&self) -> Vec<u8> {
        let length = 8 + self.payload.len();
        let mut udp = UdpHeader {
            source_port: self.ports.0,
            destination_port: self.ports.1,
            length: length.try_into().expect("a short packet"),
            checksum: 0,
        };
        if !self.absent {
            udp.checksum = udp
                .calc_checksum_ipv4_raw(self.source, self.destination, &self.payload)
                .expect("a short packet");
        }
        [&udp.to_bytes()[..], &self.payload].concat()
    }
}

/// The tuple as etherparse reads it.
pub fn key_of(packet: &SlicedPacket<'_>) -> FlowKey<V4> {
    let Some(NetSlice::Ipv4(ip)) = &packet.net else {
        panic!("not IPv4")
    };
    let ip = ip.header();
    let (source, destination, protocol) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port(), 6),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port(), 17),
        other => panic!("{other:?}"),
    };
    FlowKey::new(
        V4::new(ip.source()),
        V4::new(ip.destination()),
        source.to_be(),
        destination.to_be(),
        protocol,
    )
}

/// Sums both checksums in full; `absent` says that there is no second one.
pub fn verify(frame: &[u8], absent: bool) -> Result<(), TestCaseError> {
    let header = 14 + usize::from(frame[14] & 0xf) * 4;
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    prop_assert_eq!(sum(&frame[14..header]), 0xffff, "IPv4 header");
    let segment = &frame[header..end];
    if frame[23] == 17 {
        prop_assert_eq!(segment[6..8] == [0, 0], absent, "UDP checksum of zero");
        if absent {
            return Ok(());
        }
    }
    let length = u16::try_from(segment.len()).expect("a short packet");
    let pseudo = [&frame[26..34], &[0, frame[23]], &length.to_be_bytes()].concat();
    prop_assert_eq!(sum(&[&pseudo, segment].concat()), 0xffff, "transport");
    Ok(())
}

/// RFC 1071 over big-endian words.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
