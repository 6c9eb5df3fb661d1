//! What differs between the families' packets.

use etherparse::{IpNumber, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header, Ipv6RawExtHeader};
use forwarder_common::{
    address::{V4, V6},
    network::Network,
};
use proptest::prelude::*;

use crate::packets::Sample;

/// Up to `most` words of any bytes.
pub fn words(most: usize) -> BoxedStrategy<Vec<u8>> {
    (0..=most)
        .prop_flat_map(|words| proptest::collection::vec(any::<u8>(), words * 4))
        .boxed()
}

/// What a family's packets are made of.
pub trait Wire: Network {
    /// Any address that a packet on the wire may carry as one host's.
    fn host() -> BoxedStrategy<Self>;

    /// What may stand between the fixed header and the transport header, in bytes: options, extension headers.
    fn options() -> BoxedStrategy<Vec<u8>>;

    /// The header of a packet with this `protocol`, options included, for `length` bytes behind it.
    fn write_header(sample: &Sample<Self>, protocol: u8, length: usize) -> Vec<u8>;

    /// What checksums of the transport cover in front of it.
    fn pseudo(source: Self, destination: Self, protocol: u8, length: usize) -> Vec<u8>;

    /// Types of an echo request and its reply.
    const ECHO: [u8; 2];
}

impl Wire for V4 {
    fn host() -> BoxedStrategy<Self> {
        let first = prop_oneof![1_u8..127, 128_u8..224];
        (first, any::<[u8; 3]>())
            .prop_map(|(a, [b, c, d])| Self::new([a, b, c, d]))
            .boxed()
    }

    fn options() -> BoxedStrategy<Vec<u8>> {
        words(10)
    }

    fn write_header(sample: &Sample<Self>, protocol: u8, length: usize) -> Vec<u8> {
        let mut ip = Ipv4Header {
            time_to_live: sample.hops,
            protocol: IpNumber(protocol),
            source: sample.source.octets(),
            destination: sample.destination.octets(),
            options: Ipv4Options::try_from(&sample.options[..]).expect("up to ten words"),
            ..Ipv4Header::default()
        };
        ip.set_payload_len(length).expect("a short packet");
        ip.header_checksum = ip.calc_header_checksum();
        ip.to_bytes().to_vec()
    }

    fn pseudo(source: Self, destination: Self, protocol: u8, length: usize) -> Vec<u8> {
        let length = u16::try_from(length).expect("a short packet");
        let addresses = [source.octets(), destination.octets()].concat();
        [&addresses[..], &[0, protocol], &length.to_be_bytes()].concat()
    }

    const ECHO: [u8; 2] = [8, 0];
}

impl Wire for V6 {
    fn host() -> BoxedStrategy<Self> {
        (0x20_u8..0xfe, any::<[u8; 15]>())
            .prop_map(|(first, rest)| {
                let mut octets = [first; 16];
                octets[1..].copy_from_slice(&rest);
                Self::new(octets)
            })
            .boxed()
    }

    /// Destination options of any contents, twice at most.
    fn options() -> BoxedStrategy<Vec<u8>> {
        let header = (0..=3_usize)
            .prop_flat_map(|units| proptest::collection::vec(any::<u8>(), units * 8 + 6));
        proptest::collection::vec(header, 0..=2)
            .prop_map(|headers| {
                // Each announces the next one; the last is announced anew when the packet is made.
                let raw = |payload: &Vec<u8>| {
                    let header = Ipv6RawExtHeader::new_raw(IpNumber(60), payload);
                    header.expect("a whole number of units").to_bytes().to_vec()
                };
                headers.iter().flat_map(raw).collect()
            })
            .boxed()
    }

    fn write_header(sample: &Sample<Self>, protocol: u8, length: usize) -> Vec<u8> {
        let mut options = sample.options.clone();
        let (mut at, mut last) = (0, None);
        while at < options.len() {
            last = Some(at);
            at += 8 + 8 * usize::from(options[at + 1]);
        }
        if let Some(last) = last {
            options[last] = protocol;
        }
        let ip = Ipv6Header {
            traffic_class: 0x2a,
            flow_label: Ipv6FlowLabel::try_new(0x12345).expect("twenty bits"),
            payload_length: (options.len() + length).try_into().expect("a short packet"),
            next_header: IpNumber(if last.is_some() { 60 } else { protocol }),
            hop_limit: sample.hops,
            source: sample.source.octets(),
            destination: sample.destination.octets(),
        };
        [&ip.to_bytes()[..], &options].concat()
    }

    fn pseudo(source: Self, destination: Self, protocol: u8, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).expect("a short packet");
        let addresses = [source.octets(), destination.octets()].concat();
        [&addresses[..], &length.to_be_bytes(), &[0, 0, 0, protocol]].concat()
    }

    const ECHO: [u8; 2] = [128, 129];
}
