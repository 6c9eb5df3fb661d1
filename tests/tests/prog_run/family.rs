//! Address families: tests are written in IPv4, and the bench puts them into IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tests::packet::{Icmp, Ip, Ipv6, Packet, Transport};

/// The family that a test runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// As it is written.
    V4,
    /// With every address `a.b.c.d` as `2001:db8::a.b.c.d`, and prefixes 96 bits longer.
    V6,
}

impl Family {
    /// An IPv4 address in this family.
    pub fn address(self, address: Ipv4Addr) -> IpAddr {
        match self {
            Self::V4 => address.into(),
            Self::V6 if address.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
            Self::V6 => {
                let low = address.to_bits();
                Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(low)).into()
            }
        }
    }

    /// The length of a prefix.
    pub fn prefix(self, length: u8) -> u8 {
        match self {
            Self::V4 => length,
            Self::V6 => length + 96,
        }
    }

    /// `text` with every IPv4 address in it, alone, with a port or with a prefix length, in this family.
    pub fn text(self, text: &str) -> String {
        if self == Self::V4 {
            return text.to_owned();
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c: char| !c.is_ascii_digit() && c != '.');
            let (word, behind) = from.split_at(end.unwrap_or(from.len()));
            out += before;
            rest = behind;
            match word.parse() {
                Ok(address) => rest = self.put(&mut out, address, behind),
                Err(_) => out += word,
            }
        }
        out + rest
    }

    /// Writes an address; returns what follows it and its prefix length.
    fn put<'a>(self, out: &mut String, address: Ipv4Addr, behind: &'a str) -> &'a str {
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let written = self.address(address).to_string();
        if behind.strip_prefix(':').is_some_and(digit) {
            *out += &format!("[{written}]");
            return behind;
        }
        *out += &written;
        let Some(prefix) = behind.strip_prefix('/').filter(|text| digit(text)) else {
            return behind;
        };
        let end = prefix.find(|c: char| !c.is_ascii_digit());
        let (length, rest) = prefix.split_at(end.unwrap_or(prefix.len()));
        let length: u8 = length.parse().expect("a prefix length");
        let length = if address.is_unspecified() {
            0
        } else {
            self.prefix(length)
        };
        *out += &format!("/{length}");
        rest
    }

    /// `packet` in this family: an IPv4 packet without options, whose ICMP is an echo if it is ICMP. One that is in
    /// this family already stays as it is.
    pub fn packet(self, packet: &Packet) -> Packet {
        let (Self::V6, Ip::V4(ip)) = (self, &packet.ip) else {
            return packet.clone();
        };
        let of = |address| match self.address(address) {
            IpAddr::V6(address) => address,
            IpAddr::V4(address) => unreachable!("{address}"),
        };
        assert!(ip.options.is_empty(), "IPv6 has no options");
        let transport = match &packet.transport {
            Transport::Icmp(icmp) => Transport::Icmp(Icmp {
                kind: match icmp.kind {
                    8 => 128,
                    0 => 129,
                    kind => panic!("ICMP of type {kind} is of one family"),
                },
                ..icmp.clone()
            }),
            other => other.clone(),
        };
        Packet {
            ip: Ip::V6(Ipv6 {
                traffic_class: ip.tos,
                flow_label: 0x12345,
                hop_limit: ip.ttl,
                source: of(ip.source),
                destination: of(ip.destination),
                extensions: Vec::new(),
            }),
            transport,
            ..packet.clone()
        }
    }

    /// Bytes of an IP header without options.
    pub fn header(self) -> u32 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// `ipv4` or `ipv6`, as sysctls are called.
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

#[test]
fn texts_change_family() {
    for (v4, v6) in [
        ("10.0.0.2", "2001:db8::a00:2"),
        ("to 10.0.0.2:110,", "to [2001:db8::a00:2]:110,"),
        ("10.0.0.0/24 x", "2001:db8::a00:0/120 x"),
        ("0.0.0.0/0", "::/0"),
        ("10.0.0.254-10.0.1.1", "2001:db8::a00:fe-2001:db8::a00:101"),
        ("*:110 7", "*:110 7"),
    ] {
        assert_eq!(Family::V6.text(v4), v6);
        assert_eq!(Family::V4.text(v4), v4);
    }
}
