//! The `proxy-helper` datagram, by which a mail proxy asks where a connection that it has got was going before it was
//! translated. One layout for query and answer, packed, in network byte order.

use crate::{
    address::V4,
    flow::{FlowKey, Rewrite},
    frame,
    parse::TCP,
    reason::Reason,
};

/// What the programs are told of queries: entry 0 of its table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuerySettings {
    /// `secret` of every query, network byte order.
    pub secret_be: u32,
    /// The port that queries are sent to, network byte order; 0 if none are answered.
    pub port_be: u16,
    /// Zero.
    pub padding: u16,
}

const _: () = assert!(size_of::<QuerySettings>() == 8);

// SAFETY: integers only, no padding (8 bytes).
#[cfg(feature = "user")]
unsafe impl aya::Pod for QuerySettings {}

/// Bytes of a datagram's payload.
pub const LENGTH: usize = 66;
/// Bytes of [`ident`].
pub const IDENT: usize = 32;

/// "RPHD".
const MAGIC: u32 = 0x5250_4844;
/// The one version there is.
const VERSION: u16 = 0x0402;
/// `flags` of a query.
const QUERY: u16 = 0x0001;
/// `flags` of an answer that says where to.
const FOUND: u16 = 0x0012;
/// `flags` of an answer that says that nothing is known.
const NOT_FOUND: u16 = 0x0022;

/// Offsets of the fields.
mod at {
    pub const MAGIC: usize = 0;
    pub const SECRET: usize = 8;
    pub const VERSION: usize = 12;
    pub const FLAGS: usize = 14;
    pub const SOURCE: usize = 16;
    pub const DESTINATION: usize = 20;
    pub const SOURCE_PORT: usize = 24;
    pub const DESTINATION_PORT: usize = 26;
    pub const IDENT: usize = 28;
    pub const MAC: usize = 60;
}

/// Reads a query that has come from `sender`: the tuple that replies of the connection have which it is about.
///
/// # Errors
/// Why it is not answered.
///
/// # Safety
/// `start` must lead to [`LENGTH`] readable bytes.
#[inline(always)]
pub unsafe fn read(
    start: *const u8,
    sender: V4,
    settings: &QuerySettings,
) -> Result<FlowKey<V4>, Reason> {
    macro_rules! field {
        ($name:ident) => {
            // SAFETY: the caller's promise; every field lies inside.
            unsafe { frame::read_field(start, at::$name) }
        };
    }
    let magic: u32 = field!(MAGIC);
    let version: u16 = field!(VERSION);
    let flags: u16 = field!(FLAGS);
    if magic != MAGIC.to_be() || version != VERSION.to_be() || flags != QUERY.to_be() {
        return Err(Reason::QueryMalformed);
    }
    let secret: u32 = field!(SECRET);
    if secret != settings.secret_be {
        return Err(Reason::QuerySecret);
    }
    let proxy = V4::from_raw(field!(DESTINATION));
    if proxy != sender {
        return Err(Reason::QueryForeign);
    }
    let peer = V4::from_raw(field!(SOURCE));
    Ok(FlowKey::new(
        proxy,
        peer,
        field!(DESTINATION_PORT),
        field!(SOURCE_PORT),
        TCP,
    ))
}

/// Makes a query its answer. `reply` is what becomes of the connection's replies, `ident` its client's name as
/// [`ident`] has it.
///
/// # Safety
/// `start` must lead to [`LENGTH`] readable and writable bytes.
#[inline(always)]
pub unsafe fn write_found(start: *mut u8, reply: &Rewrite<V4>, ident: &[u32; IDENT / 4]) {
    macro_rules! put {
        ($at:expr, $value:expr) => {
            // SAFETY: the caller's promise; every field lies inside.
            unsafe { frame::write_field(start, $at, $value) }
        };
    }
    put!(at::FLAGS, FOUND.to_be());
    put!(at::SOURCE, reply.destination.raw());
    put!(at::DESTINATION, reply.source.raw());
    put!(at::SOURCE_PORT, reply.destination_port_be);
    put!(at::DESTINATION_PORT, reply.source_port_be);
    for (index, word) in ident.iter().enumerate() {
        put!(at::IDENT + 4 * index, *word);
    }
    put!(at::MAC, 0_u32);
    put!(at::MAC + 4, 0_u16);
}

/// Makes a query the answer that nothing is known of the connection.
///
/// # Safety
/// As for [`write_found`].
#[inline(always)]
pub unsafe fn write_unknown(start: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { frame::write_field(start, at::FLAGS, NOT_FOUND.to_be()) };
}

/// Writes `address` as text, padded with zeros: at most 15 characters, of which the client uses 20.
#[inline(always)]
pub fn ident(address: V4, text: &mut [u8; IDENT]) {
    /// Keeps the verifier sure of what the compiler knows.
    const MASK: usize = IDENT - 1;
    *text = [0; IDENT];
    let mut length = 0;
    let mut put = |character: u32| {
        text[length & MASK] = character as u8;
        length += 1;
    };
    for (index, octet) in address.raw().to_ne_bytes().into_iter().enumerate() {
        let octet = u32::from(octet);
        if index != 0 {
            put(u32::from(b'.'));
        }
        if octet >= 100 {
            put(u32::from(b'0') + octet / 100);
        }
        if octet >= 10 {
            put(u32::from(b'0') + octet / 10 % 10);
        }
        put(u32::from(b'0') + octet % 10);
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    /// What the real client asked, and what it took for an answer: "127.0.0.1:34908 → 127.0.0.1:9199 was
    /// 10.1.1.1:10943 → 127.0.0.2:2525".
    const ASKED: &str = "52504844ee91ec3b12345678040200017f0000017f000001885c23ef";
    const ANSWERED: &str =
        "52504844ee91ec3b12345678040200120a0101017f0000022abf09dd31302e312e312e31";

    const SETTINGS: QuerySettings = QuerySettings {
        secret_be: 0x1234_5678_u32.to_be(),
        port_be: 114_u16.to_be(),
        padding: 0,
    };
    const PROXY: V4 = V4::from_raw(u32::from_ne_bytes([127, 0, 0, 1]));

    fn bytes(text: &str) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        for (index, byte) in bytes.iter_mut().enumerate() {
            if let Some(digits) = text.get(2 * index..2 * index + 2) {
                *byte = u8::from_str_radix(digits, 16).unwrap();
            }
        }
        bytes
    }

    fn reads(bytes: &[u8; LENGTH]) -> Result<FlowKey<V4>, Reason> {
        // SAFETY: as many bytes.
        unsafe { read(bytes.as_ptr(), PROXY, &SETTINGS) }
    }

    fn named(address: [u8; 4]) -> [u32; IDENT / 4] {
        let mut text = [0; IDENT];
        ident(V4::from(Ipv4Addr::from(address)), &mut text);
        let mut words = [0; IDENT / 4];
        for (word, bytes) in words.iter_mut().zip(text.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        words
    }

    #[test]
    fn the_golden_pair() {
        let mut datagram = bytes(ASKED);
        let key = reads(&datagram).unwrap();
        assert_eq!(u16::from_be(key.source_port_be), 9199);
        assert_eq!(u16::from_be(key.destination_port_be), 34_908);
        assert_eq!(key.source, PROXY);
        let reply = Rewrite {
            source: V4::from(Ipv4Addr::new(127, 0, 0, 2)),
            destination: V4::from(Ipv4Addr::new(10, 1, 1, 1)),
            source_port_be: 2525_u16.to_be(),
            destination_port_be: 10_943_u16.to_be(),
        };
        let name = named([10, 1, 1, 1]);
        // SAFETY: as many bytes.
        unsafe { write_found(datagram.as_mut_ptr(), &reply, &name) };
        assert_eq!(datagram, bytes(ANSWERED));
    }

    #[test]
    fn what_is_not_known_is_said_at_once() {
        let mut datagram = bytes(ASKED);
        // SAFETY: as many bytes.
        unsafe { write_unknown(datagram.as_mut_ptr()) };
        let mut expected = bytes(ASKED);
        expected[15] = 0x22;
        assert_eq!(datagram, expected);
    }

    #[test]
    fn every_field_that_is_wrong() {
        for byte in 0..LENGTH {
            let mut datagram = bytes(ASKED);
            datagram[byte] ^= 0x40;
            let expected = match byte {
                0..4 | 12..16 => Err(Reason::QueryMalformed),
                8..12 => Err(Reason::QuerySecret),
                20..24 => Err(Reason::QueryForeign),
                // A cookie is anything, a tuple may be any, and what follows is not read.
                _ => Ok(()),
            };
            assert_eq!(reads(&datagram).map(|_| ()), expected, "byte {byte}");
        }
    }

    #[test]
    fn addresses_as_text() {
        for address in [[0, 0, 0, 0], [1, 20, 100, 255], [255; 4], [10, 9, 99, 110]] {
            let mut text = [7; IDENT];
            ident(V4::from(Ipv4Addr::from(address)), &mut text);
            let expected = Ipv4Addr::from(address).to_string();
            let (name, padding) = text.split_at(expected.len());
            assert_eq!(name, expected.as_bytes());
            assert!(padding.iter().all(|byte| *byte == 0));
        }
    }
}
