//! The kit's own tests: golden bytes, round trips, and faults that must be seen.

use rstest::rstest;

use super::*;

/// The example of the IPv4 checksum in Wikipedia's article on it: a sum nobody here computed.
const TEXTBOOK_HEADER: &str = "45 00 00 73 00 00 40 00 40 11 b8 61 c0 a8 00 01 c0 a8 00 c7";

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("hex"))
        .collect()
}

#[test]
fn the_textbook_header_has_the_textbook_checksum() {
    let header = unhex(TEXTBOOK_HEADER);
    assert_eq!(checksum::check_ipv4_header(&header), Ok(()));

    let mut packet = Packet::udp("192.168.0.1:1", "192.168.0.199:2").with_payload(&[0; 87]);
    packet.ipv4_mut().id = 0;
    assert_eq!(packet.to_bytes()[ETHERNET_LEN..][..20], header);
}

#[rstest]
#[case::syn(Packet::syn("198.51.100.7:40000", "203.0.113.5:110"))]
#[case::data(Packet::tcp("198.51.100.7:40000", "203.0.113.5:110", tcp_flags::ACK | tcp_flags::PSH).with_payload(b"odd"))]
#[case::ip_options(Packet::syn("198.51.100.7:40000", "203.0.113.5:110").with_ip_options(&[1; 40]))]
#[case::udp(Packet::udp("198.51.100.7:40000", "203.0.113.5:53").with_payload(b"query"))]
#[case::udp_without_checksum(Packet::udp("198.51.100.7:4", "203.0.113.5:53").with_checksum(Checksum::Absent))]
#[case::padded(Packet::udp("198.51.100.7:40000", "203.0.113.5:53").with_padding())]
#[case::vlan(Packet::syn("198.51.100.7:40000", "203.0.113.5:110").with_vlan(7).with_vlan(8))]
#[case::later_fragment(Packet::other("198.51.100.7", "203.0.113.5", 17).with_fragment(185, true).with_payload(b"tail"))]
#[case::echo(Packet::icmp("198.51.100.7", "203.0.113.5", 8, 0, [0, 7, 0, 1]).with_payload(b"ping"))]
#[case::esp(Packet::other("198.51.100.7", "203.0.113.5", 50).with_payload(b"opaque"))]
#[case::tcp6(Packet::syn("[2001:db8::7]:40000", "[2001:db8:1::5]:110"))]
#[case::udp6(Packet::udp("[2001:db8::7]:40000", "[2001:db8:1::5]:53").with_payload(b"query"))]
#[case::echo6(Packet::icmp("2001:db8::7", "2001:db8:1::5", 128, 0, [0, 7, 0, 1]).with_payload(b"ping"))]
fn what_is_built_decodes_to_itself(#[case] packet: Packet) {
    let bytes = packet.to_bytes();
    assert_eq!(checksum::faults(&bytes), []);
    assert_frame(&bytes, &packet);
}

#[test]
fn an_error_quotes_and_the_quote_decodes() {
    let quoted = Packet::syn("198.51.100.7:40000", "203.0.113.5:110");
    let error = Packet::icmp_error(
        ("192.0.2.1", "198.51.100.7"),
        (3, 4),
        [0, 0, 0x05, 0xdc],
        &quoted,
        None,
    );
    assert_eq!(checksum::faults(&error.to_bytes()), []);
    let inner = decode_network(&error.payload).expect("a whole packet was quoted");
    assert_eq!((inner.ip, inner.transport), (quoted.ip, quoted.transport));
}

#[test]
fn a_fault_in_a_quoted_header_is_seen() {
    let mut quoted = Packet::syn("198.51.100.7:40000", "203.0.113.5:110");
    quoted.ipv4_mut().checksum = Checksum::Wire(0xdead);
    let error = Packet::icmp_error(
        ("192.0.2.1", "198.51.100.7"),
        (11, 0),
        [0; 4],
        &quoted,
        Some(28),
    );
    let faults = checksum::faults(&error.to_bytes());
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(
        (faults[0].field, faults[0].found),
        ("IPv4 header checksum", 0xdead)
    );
}

#[rstest]
#[case::ip(14 + 10, "IPv4 header checksum")]
#[case::payload(14 + 20 + 20 + 3, "TCP checksum")]
fn one_flipped_bit_is_one_fault(#[case] byte: usize, #[case] field: &str) {
    let packet =
        Packet::tcp("198.51.100.7:1", "203.0.113.5:2", tcp_flags::ACK).with_payload(b"payload");
    let mut bytes = packet.to_bytes();
    bytes[byte] ^= 0x10;
    let faults = checksum::faults(&bytes);
    assert_eq!(
        faults.iter().map(|fault| fault.field).collect::<Vec<_>>(),
        [field]
    );
    assert!(!differences(&decode(&bytes).expect("still a packet"), &packet).is_empty());
}

#[test]
fn a_computed_zero_goes_out_as_all_ones() {
    // RFC 768. Search for a payload whose sum is all ones, so that its complement is zero.
    let zero = (0..=u16::MAX)
        .map(|word| {
            Packet::udp("198.51.100.7:1", "203.0.113.5:2").with_payload(&word.to_be_bytes())
        })
        .find(|packet| packet.to_bytes()[packet.transport_offset() + 6..][..2] == [0xff, 0xff])
        .expect("one of all words completes the sum");
    assert_eq!(checksum::faults(&zero.to_bytes()), []);
    assert_frame(&zero.to_bytes(), &zero);
}

#[test]
fn udp_over_ipv6_must_have_a_checksum() {
    let packet =
        Packet::udp("[2001:db8::7]:1", "[2001:db8:1::5]:2").with_checksum(Checksum::Absent);
    let faults = checksum::faults(&packet.to_bytes());
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn differences_name_the_field() {
    let sent = Packet::syn("198.51.100.7:40000", "203.0.113.5:110");
    let came = sent
        .clone()
        .with_ttl(63)
        .with_destination("195.228.245.1:110");
    assert_eq!(
        differences(&came, &sent),
        [
            "ipv4.ttl: found 63, expected 64",
            "ipv4.destination: found 195.228.245.1, expected 203.0.113.5",
        ]
    );
}

#[rstest]
#[case::ihl_below_five(|bytes: &mut Vec<u8>| bytes[14] = 0x44)]
#[case::cut_in_the_header(|bytes: &mut Vec<u8>| bytes.truncate(30))]
#[case::cut_before_the_stated_length(|bytes: &mut Vec<u8>| bytes.truncate(50))]
#[case::version(|bytes: &mut Vec<u8>| bytes[14] = 0x55)]
fn what_is_no_packet_is_not_decoded(#[case] spoil: fn(&mut Vec<u8>)) {
    let mut bytes = Packet::syn("198.51.100.7:40000", "203.0.113.5:110").to_bytes();
    spoil(&mut bytes);
    decode(&bytes).expect_err("spoilt");
}

const CLIENT6: &str = "[2001:db8::7]:40000";
const LISTENER6: &str = "[2001:db8:1::5]:53";

#[rstest]
#[case::hop_by_hop(&[Extension::hop_by_hop()])]
#[case::destination(&[Extension::destination()])]
#[case::long_options(&[Extension::Destination(vec![0; 30])])]
#[case::route(&[Extension::route(1, "2001:db8:1::99")])]
#[case::route_at_its_end(&[Extension::route(0, "2001:db8:1::99")])]
#[case::segments(&[Extension::Routing { kind: 4, segments_left: 1, data: vec![7; 36] }])]
#[case::atomic_fragment(&[Extension::Fragment { offset: 0, more: false, id: 9 }])]
#[case::all(&[
    Extension::hop_by_hop(),
    Extension::destination(),
    Extension::route(1, "2001:db8:1::99"),
    Extension::Fragment { offset: 0, more: false, id: 9 },
    Extension::destination(),
])]
fn extension_headers_decode_to_themselves(
    #[case] extensions: &[Extension],
    #[values(
        Packet::syn(CLIENT6, LISTENER6),
        Packet::udp(CLIENT6, LISTENER6).with_payload(b"query"),
        Packet::echo_request("2001:db8::7", "2001:db8:1::5", 7, 1)
    )]
    packet: Packet,
) {
    let plain = packet.to_bytes().len();
    let packet = extensions
        .iter()
        .cloned()
        .fold(packet, Packet::with_extension);
    let bytes = packet.to_bytes();
    assert_eq!(bytes.len() - plain, packet.ip.header_len() - 40);
    assert_eq!(checksum::faults(&bytes), []);
    assert_frame(&bytes, &packet);
}

#[test]
fn a_route_decides_what_the_checksum_covers() {
    let to = |address: &str| Packet::udp(CLIENT6, &format!("[{address}]:53"));
    let sum = |packet: Packet| packet.to_bytes().split_off(packet.transport_offset());
    let routed = |left| to("2001:db8:1::5").with_extension(Extension::route(left, "2001:db8::99"));
    assert_eq!(sum(routed(1)), sum(to("2001:db8::99")));
    assert_eq!(sum(routed(0)), sum(to("2001:db8:1::5")));
}

/// What the receiver makes of fragments.
fn reassemble(fragments: &[Packet]) -> Vec<u8> {
    let mut fragments: Vec<&Packet> = fragments.iter().collect();
    fragments.sort_by_key(|fragment| fragment.ip.fragment());
    let mut bytes = Vec::new();
    for fragment in fragments {
        let (offset, _) = fragment.ip.fragment().expect("a fragment");
        assert_eq!(usize::from(offset) * 8, bytes.len());
        let frame = fragment.to_bytes();
        let start = match &fragment.ip {
            Ip::V4(_) => fragment.transport_offset(),
            Ip::V6(ip) => {
                let headers = ip.extensions.iter();
                let until = headers.scan(false, |done, it| {
                    let before = *done;
                    *done |= matches!(it, Extension::Fragment { .. });
                    (!before).then_some(it.len())
                });
                fragment.network_offset() + 40 + until.sum::<usize>()
            }
        };
        bytes.extend(&frame[start..]);
    }
    bytes
}

#[rstest]
#[case::udp(Packet::udp("198.51.100.7:4", "203.0.113.5:53").with_payload(&[7; 3001]), 20)]
#[case::tcp(Packet::syn("198.51.100.7:4", "203.0.113.5:53").with_payload(&[7; 1999]), 20)]
#[case::echo(Packet::echo_request("198.51.100.7", "203.0.113.5", 1, 2).with_payload(&[7; 1900]), 20)]
#[case::udp6(Packet::udp(CLIENT6, LISTENER6).with_payload(&[7; 3001]), 40)]
#[case::echo6(Packet::echo_request("2001:db8::7", "2001:db8:1::5", 1, 2).with_payload(&[7; 1900]), 40)]
#[case::extensions(
    Packet::udp(CLIENT6, LISTENER6)
        .with_extension(Extension::hop_by_hop())
        .with_extension(Extension::destination())
        .with_payload(&[7; 3001]),
    48
)]
fn fragments_are_packets_and_become_the_whole_again(
    #[case] packet: Packet,
    #[case] headers: usize,
    #[values(8, 16, 512, 1480)] size: usize,
) {
    let fragments = packet.fragments(0x1_0009, size);
    for fragment in &fragments {
        let bytes = fragment.to_bytes();
        assert_eq!(checksum::faults(&bytes), []);
        assert_frame(&bytes, fragment);
    }
    let whole = packet.to_bytes().split_off(ETHERNET_LEN + headers);
    assert_eq!(reassemble(&fragments), whole);
    let last = fragments.last().and_then(|last| last.ip.fragment());
    assert_eq!(last.map(|(_, more)| more), Some(false));
    let with_header = |packet: &Packet| !matches!(packet.transport, Transport::Other(_));
    assert!(!fragments[1..].iter().any(with_header));
    // The headers of TCP, or an extension header and that of UDP, take more than 16 bytes.
    assert!(size < 512 || with_header(&fragments[0]));
}

#[rstest]
#[case::v4("192.0.2.1", Packet::syn("198.51.100.7:40000", "203.0.113.5:110").with_payload(&[7; 1000]), (3, 4), 548)]
#[case::v6("2001:db8::1", Packet::syn(CLIENT6, LISTENER6).with_payload(&[7; 2000]), (2, 0), 1232)]
fn a_quote_is_as_long_as_the_kernel_s(
    #[case] from: &str,
    #[case] about: Packet,
    #[case] kind: (u8, u8),
    #[case] length: usize,
) {
    let error = Packet::error_about(from, IcmpError::TooBig(1300), &about);
    let bytes = error.to_bytes();
    assert_eq!(checksum::faults(&bytes), []);
    assert_frame(&bytes, &error);
    assert_eq!(error.ip.destination(), about.ip.source());
    let Transport::Icmp(icmp) = &error.transport else {
        panic!("{error:?}")
    };
    assert_eq!((icmp.kind, icmp.code), kind);
    assert_eq!(u32::from_be_bytes(icmp.rest), 1300);
    let quote = error.quote().expect("a quote");
    assert_eq!((quote.ip.clone(), quote.length), (about.ip.clone(), length));
    assert_eq!(quote.stated, about.to_bytes().len() - ETHERNET_LEN);
    assert_eq!(quote.checksum, None);
    assert_eq!(quote.source().port(), 40000);
    assert_eq!(quote.destination().ip(), about.ip.destination());
}

#[rstest]
#[case::udp(Packet::udp("198.51.100.7:4", "203.0.113.5:53"), Some([4, 53]))]
#[case::udp6(Packet::udp(CLIENT6, LISTENER6), Some([40000, 53]))]
#[case::echo(Packet::echo_reply("198.51.100.7", "203.0.113.5", 7, 1), Some([7, 7]))]
#[case::echo6(Packet::echo_reply("2001:db8::7", "2001:db8:1::5", 7, 1), Some([7, 7]))]
#[case::first_fragment(Packet::udp("198.51.100.7:4", "203.0.113.5:53").with_payload(&[1; 64]).fragment(1, 0..32), Some([4, 53]))]
#[case::later_fragment(Packet::udp("198.51.100.7:4", "203.0.113.5:53").with_payload(&[1; 64]).fragment(1, 32..64), None)]
#[case::esp(Packet::other("198.51.100.7", "203.0.113.5", 50).with_payload(&[1; 64]), None)]
fn a_quote_has_the_tuple(#[case] about: Packet, #[case] ports: Option<[u16; 2]>) {
    let from = match about.ip {
        Ip::V4(_) => "192.0.2.1",
        Ip::V6(_) => "2001:db8::1",
    };
    let quote = Packet::error_about(from, IcmpError::PortUnreachable, &about).quote();
    let quote = quote.expect("a quote");
    assert_eq!(quote.ports, ports);
    let whole = about.ip.fragment().is_none();
    assert_eq!(quote.checksum, whole.then_some(Checksum::Correct));
}

#[rstest]
#[case::all_of_the_ports(24, Some([4, 53]))]
#[case::half_of_the_ports(22, None)]
#[case::none(20, None)]
fn a_quote_may_end_early(#[case] length: usize, #[case] ports: Option<[u16; 2]>) {
    let about = Packet::udp("198.51.100.7:4", "203.0.113.5:53");
    let ends = ("192.0.2.1", "198.51.100.7");
    let error = Packet::icmp_error(ends, (11, 0), [0; 4], &about, Some(length));
    let quote = error.quote().expect("a quote");
    assert_eq!(
        (quote.ports, quote.length, quote.stated),
        (ports, length, 28)
    );
    let error = Packet::icmp_error(ends, (11, 0), [0; 4], &about, Some(19));
    error.quote().expect_err("half a header");
}

#[test]
fn only_errors_quote() {
    let echo = Packet::echo_request("198.51.100.7", "203.0.113.5", 1, 1);
    echo.quote().expect_err("an echo request");
}

#[test]
fn a_fault_in_an_ipv6_quote_is_seen() {
    let about = Packet::udp(CLIENT6, LISTENER6).with_checksum(Checksum::Wire(0xdead));
    let error = Packet::error_about("2001:db8::1", IcmpError::PortUnreachable, &about);
    let faults = checksum::faults(&error.to_bytes());
    assert_eq!(faults.len(), 1, "{faults:?}");
    let quote = error.quote().expect("a quote");
    assert_eq!(quote.checksum, Some(Checksum::Wire(0xdead)));
}
