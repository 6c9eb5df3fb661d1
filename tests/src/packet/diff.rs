//! Comparison of packets that says which field differs instead of printing two hex dumps.

use std::fmt::{Debug, Write as _};

use super::{Ethernet, Icmp, Ip, Ipv4, Ipv6, Packet, Tcp, Transport, Udp, checksum, decode};

/// Asserts that `frame` is exactly `expected`, first field by field and then byte by byte, and that every checksum
/// in it is right unless `expected` says otherwise.
///
/// # Panics
/// With one line per field that differs.
#[track_caller]
pub fn assert_frame(frame: &[u8], expected: &Packet) {
    let actual = match decode(frame) {
        Ok(actual) => actual,
        Err(error) => panic!("not a packet: {error}\n{}", hex(frame)),
    };
    let differences = differences(&actual, expected);
    assert!(differences.is_empty(), "{}", report(frame, &differences));
    let wanted = expected.to_bytes();
    if frame != wanted {
        // Only fields with two spellings of one value end here: a checksum of 0x0000 and one of 0xffff, say.
        panic!(
            "the same fields, other bytes:\nfound\n{}\nexpected\n{}",
            hex(frame),
            hex(&wanted)
        );
    }
}

fn report(frame: &[u8], differences: &[String]) -> String {
    let mut text = String::from("the packet is not the expected one:\n");
    for line in differences {
        let _ = writeln!(text, "  {line}");
    }
    for fault in checksum::faults(frame) {
        let _ = writeln!(text, "  ({fault})");
    }
    text + &hex(frame)
}

/// One line per field in which two packets differ: `ipv4.ttl: found 63, expected 64`.
#[must_use]
pub fn differences(actual: &Packet, expected: &Packet) -> Vec<String> {
    let mut lines = Lines::default();
    let Packet {
        ethernet,
        ip,
        transport,
        payload,
        trailer,
    } = actual;
    lines.ethernet(ethernet, &expected.ethernet);
    lines.ip(ip, &expected.ip);
    lines.transport(transport, &expected.transport);
    lines.bytes("payload", payload, &expected.payload);
    lines.bytes("trailer", trailer, &expected.trailer);
    lines.0
}

#[derive(Default)]
struct Lines(Vec<String>);

/// Compares the named fields of two structs of one type.
macro_rules! compare {
    ($lines:ident, $layer:literal, $actual:ident, $expected:ident, [$($field:ident),*]) => {
        $($lines.field(concat!($layer, ".", stringify!($field)), &$actual.$field, &$expected.$field);)*
    };
}

impl Lines {
    fn field<T: PartialEq + Debug>(&mut self, name: &str, actual: &T, expected: &T) {
        if actual != expected {
            self.0
                .push(format!("{name}: found {actual:?}, expected {expected:?}"));
        }
    }

    fn ethernet(&mut self, actual: &Ethernet, expected: &Ethernet) {
        let mut mac = |name: &str, actual: [u8; 6], expected: [u8; 6]| {
            if actual != expected {
                let (actual, expected) = (format_mac(actual), format_mac(expected));
                self.0
                    .push(format!("{name}: found {actual}, expected {expected}"));
            }
        };
        mac("ethernet.source", actual.source, expected.source);
        mac(
            "ethernet.destination",
            actual.destination,
            expected.destination,
        );
        compare!(self, "ethernet", actual, expected, [vlans]);
    }

    fn ip(&mut self, actual: &Ip, expected: &Ip) {
        match (actual, expected) {
            (Ip::V4(actual), Ip::V4(expected)) => self.ipv4(actual, expected),
            (Ip::V6(actual), Ip::V6(expected)) => self.ipv6(actual, expected),
            _ => self.field("ip", actual, expected),
        }
    }

    fn ipv4(&mut self, actual: &Ipv4, expected: &Ipv4) {
        compare!(
            self,
            "ipv4",
            actual,
            expected,
            [tos, id, ttl, source, destination, options, checksum]
        );
        compare!(
            self,
            "ipv4",
            actual,
            expected,
            [dont_fragment, more_fragments, fragment_offset]
        );
    }

    fn ipv6(&mut self, actual: &Ipv6, expected: &Ipv6) {
        compare!(
            self,
            "ipv6",
            actual,
            expected,
            [
                traffic_class,
                flow_label,
                hop_limit,
                source,
                destination,
                extensions
            ]
        );
    }

    fn transport(&mut self, actual: &Transport, expected: &Transport) {
        match (actual, expected) {
            (Transport::Tcp(a), Transport::Tcp(e)) => self.tcp(a, e),
            (Transport::Udp(a), Transport::Udp(e)) => self.udp(a, e),
            (Transport::Icmp(a), Transport::Icmp(e)) => self.icmp(a, e),
            _ => self.field("transport", actual, expected),
        }
    }

    fn tcp(&mut self, actual: &Tcp, expected: &Tcp) {
        compare!(
            self,
            "tcp",
            actual,
            expected,
            [
                source_port,
                destination_port,
                sequence,
                acknowledgment,
                flags,
                window,
                urgent,
                options,
                checksum
            ]
        );
    }

    fn udp(&mut self, actual: &Udp, expected: &Udp) {
        compare!(
            self,
            "udp",
            actual,
            expected,
            [source_port, destination_port, length, checksum]
        );
    }

    fn icmp(&mut self, actual: &Icmp, expected: &Icmp) {
        compare!(self, "icmp", actual, expected, [kind, code, rest, checksum]);
    }

    fn bytes(&mut self, name: &str, actual: &[u8], expected: &[u8]) {
        if actual.len() != expected.len() {
            let (actual, expected) = (actual.len(), expected.len());
            self.0
                .push(format!("{name}: found {actual} bytes, expected {expected}"));
        } else if let Some(at) = (0..actual.len()).find(|&at| actual[at] != expected[at]) {
            let (actual, expected) = (actual[at], expected[at]);
            self.0.push(format!(
                "{name}: byte {at} is {actual:#04x}, expected {expected:#04x}"
            ));
        }
    }
}

fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate().take(16) {
        let _ = write!(text, "  {:04x} ", row * 16);
        for byte in chunk {
            let _ = write!(text, " {byte:02x}");
        }
        text.push('\n');
    }
    text
}
