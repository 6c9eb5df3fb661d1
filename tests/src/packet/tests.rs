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
