//! [`Packet`] to bytes. Header layout and checksums are etherparse's, so that what a test sends and what
//! [`checksum`](super::checksum) verifies do not share one mistake.

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Type, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    Ipv4Options, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader,
};

use super::{Checksum, Extension, Icmp, Ip, Ipv4, Ipv6, Packet, Tcp, Transport, Udp, tcp_flags};

impl Packet {
    /// The frame as it goes on the wire, without FCS.
    ///
    /// # Panics
    /// If a field does not fit its header (options of 41 bytes, an offset of 14 bits): a mistake in the test itself.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut bytes = self.link_header();
        match &self.ip {
            Ip::V4(ip) => bytes.extend(self.ipv4_header(ip, segment.len())),
            Ip::V6(ip) => bytes.extend(self.ipv6_headers(ip, segment.len())),
        }
        bytes.extend(segment);
        bytes.extend(&self.trailer);
        bytes
    }

    fn link_header(&self) -> Vec<u8> {
        let network = match self.ip {
            Ip::V4(_) => EtherType::IPV4,
            Ip::V6(_) => EtherType::IPV6,
        };
        let mut types: Vec<u16> = self
            .ethernet
            .vlans
            .iter()
            .map(|vlan| vlan.protocol)
            .collect();
        types.push(network.0);
        let ethernet = Ethernet2Header {
            source: self.ethernet.source,
            destination: self.ethernet.destination,
            ether_type: EtherType(types[0]),
        };
        let mut bytes = ethernet.to_bytes().to_vec();
        for (vlan, inner) in self.ethernet.vlans.iter().zip(&types[1..]) {
            bytes.extend(vlan.control.to_be_bytes());
            bytes.extend(inner.to_be_bytes());
        }
        bytes
    }

    fn ipv4_header(&self, ip: &Ipv4, segment_len: usize) -> Vec<u8> {
        let mut header = Ipv4Header {
            dscp: (ip.tos >> 2).try_into().expect("DSCP has 6 bits"),
            ecn: (ip.tos & 3).try_into().expect("ECN has 2 bits"),
            identification: ip.id,
            dont_fragment: ip.dont_fragment,
            more_fragments: ip.more_fragments,
            fragment_offset: IpFragOffset::try_new(ip.fragment_offset)
                .expect("the offset has 13 bits"),
            time_to_live: ip.ttl,
            protocol: IpNumber(self.protocol()),
            source: ip.source.octets(),
            destination: ip.destination.octets(),
            options: Ipv4Options::try_from(ip.options.as_slice())
                .expect("0 to 40 bytes of options, in fours"),
            ..Ipv4Header::default()
        };
        header
            .set_payload_len(segment_len)
            .expect("an IPv4 packet has at most 65535 bytes");
        header.header_checksum = resolve(ip.checksum, || header.calc_header_checksum());
        header.to_bytes().to_vec()
    }

    /// The fixed header and the extension headers, each of which announces the one behind it.
    fn ipv6_headers(&self, ip: &Ipv6, segment_len: usize) -> Vec<u8> {
        let mut numbers: Vec<IpNumber> = ip.extensions.iter().map(Extension::number).collect();
        numbers.push(IpNumber(self.protocol()));
        let length = self.ip.header_len() - Ipv6Header::LEN + segment_len;
        let header = Ipv6Header {
            traffic_class: ip.traffic_class,
            flow_label: Ipv6FlowLabel::try_new(ip.flow_label).expect("the flow label has 20 bits"),
            payload_length: length
                .try_into()
                .expect("an IPv6 payload has at most 65535 bytes"),
            next_header: numbers[0],
            hop_limit: ip.hop_limit,
            source: ip.source.octets(),
            destination: ip.destination.octets(),
        };
        let mut bytes = header.to_bytes().to_vec();
        for (extension, next) in ip.extensions.iter().zip(&numbers[1..]) {
            bytes.extend(extension.to_bytes(*next));
        }
        bytes
    }

    /// The number of the transport, which the IP header or its last extension header carries.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        match (&self.transport, &self.ip) {
            (Transport::Tcp(_), _) => IpNumber::TCP.0,
            (Transport::Udp(_), _) => IpNumber::UDP.0,
            (Transport::Icmp(_), Ip::V4(_)) => IpNumber::ICMP.0,
            (Transport::Icmp(_), Ip::V6(_)) => IpNumber::IPV6_ICMP.0,
            (Transport::Other(protocol), _) => *protocol,
        }
    }

    /// Transport header and payload.
    fn segment(&self) -> Vec<u8> {
        let header = match &self.transport {
            Transport::Tcp(tcp) => self.tcp_header(tcp),
            Transport::Udp(udp) => self.udp_header(udp),
            Transport::Icmp(icmp) => self.icmp_header(icmp),
            Transport::Other(_) => Vec::new(),
        };
        [header, self.payload.clone()].concat()
    }

    fn tcp_header(&self, tcp: &Tcp) -> Vec<u8> {
        let flag = |bit| tcp.flags & bit != 0;
        let mut header = TcpHeader {
            acknowledgment_number: tcp.acknowledgment,
            fin: flag(tcp_flags::FIN),
            syn: flag(tcp_flags::SYN),
            rst: flag(tcp_flags::RST),
            psh: flag(tcp_flags::PSH),
            ack: flag(tcp_flags::ACK),
            urg: flag(tcp_flags::URG),
            ece: flag(tcp_flags::ECE),
            cwr: flag(tcp_flags::CWR),
            urgent_pointer: tcp.urgent,
            ..TcpHeader::new(
                tcp.source_port,
                tcp.destination_port,
                tcp.sequence,
                tcp.window,
            )
        };
        header
            .set_options_raw(&tcp.options)
            .expect("0 to 40 bytes of options, in fours");
        header.checksum = resolve(tcp.checksum, || {
            match &self.ip {
                Ip::V4(ip) => header.calc_checksum_ipv4_raw(
                    ip.source.octets(),
                    ip.destination.octets(),
                    &self.payload,
                ),
                Ip::V6(ip) => header.calc_checksum_ipv6_raw(
                    ip.source.octets(),
                    ip.final_destination().octets(),
                    &self.payload,
                ),
            }
            .expect("a segment has at most 65535 bytes")
        });
        header.to_bytes().to_vec()
    }

    fn udp_header(&self, udp: &Udp) -> Vec<u8> {
        let length = UdpHeader::LEN + self.payload.len();
        let mut header = UdpHeader {
            source_port: udp.source_port,
            destination_port: udp.destination_port,
            length: udp.length.unwrap_or_else(|| {
                length
                    .try_into()
                    .expect("a datagram has at most 65535 bytes")
            }),
            checksum: 0,
        };
        header.checksum = resolve(udp.checksum, || {
            match &self.ip {
                Ip::V4(ip) => header.calc_checksum_ipv4_raw(
                    ip.source.octets(),
                    ip.destination.octets(),
                    &self.payload,
                ),
                Ip::V6(ip) => header.calc_checksum_ipv6_raw(
                    ip.source.octets(),
                    ip.final_destination().octets(),
                    &self.payload,
                ),
            }
            .expect("a datagram has at most 65535 bytes")
        });
        header.to_bytes().to_vec()
    }

    fn icmp_header(&self, icmp: &Icmp) -> Vec<u8> {
        let checksum = resolve(icmp.checksum, || match &self.ip {
            Ip::V4(_) => Icmpv4Type::Unknown {
                type_u8: icmp.kind,
                code_u8: icmp.code,
                bytes5to8: icmp.rest,
            }
            .calc_checksum(&self.payload),
            Ip::V6(ip) => Icmpv6Type::Unknown {
                type_u8: icmp.kind,
                code_u8: icmp.code,
                bytes5to8: icmp.rest,
            }
            .calc_checksum(
                ip.source.octets(),
                ip.final_destination().octets(),
                &self.payload,
            )
            .expect("a message has at most 65535 bytes"),
        });
        let mut bytes = vec![icmp.kind, icmp.code];
        bytes.extend(checksum.to_be_bytes());
        bytes.extend(icmp.rest);
        bytes
    }
}

fn resolve(checksum: Checksum, compute: impl FnOnce() -> u16) -> u16 {
    match checksum {
        Checksum::Correct => compute(),
        Checksum::Absent => 0,
        Checksum::Wire(value) => value,
    }
}
