//! Parsing and rewriting, over whatever bytes and packets chance brings.
//!
//! Packets are built by etherparse and verified by a sum over all bytes (RFC 1071), so that the incremental
//! arithmetic under test has no part in judging itself.

mod packets;

use forwarder_common::{
    address::V4,
    ethernet::Macs,
    flow::{FlowKey, Rewrite, Route},
    frame::{SliceFrame, Transport},
    parse::{Packet, parse},
    reason::Reason,
    rewrite,
};
use packets::{Sample, garbage, host, mutated, sample, verify};
use proptest::prelude::*;

const NEXT_HOP: Macs = Macs::new([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8]);

fn tuple() -> impl Strategy<Value = (u32, u32, u16, u16)> {
    let addresses =
        (host(), host()).prop_map(|(a, b)| (u32::from_ne_bytes(a), u32::from_ne_bytes(b)));
    (addresses, any::<(u16, u16)>()).prop_map(|((a, b), (c, d))| (a, b, c, d))
}

/// Parses `bytes` and says what was found; the pointers in it are not used any more.
fn look(bytes: &mut [u8]) -> Result<Packet, Reason> {
    parse(&SliceFrame::new(bytes))
}

/// Rewrites `bytes` to `to`, as the pipeline does.
fn translate(bytes: &mut [u8], to: &FlowKey<V4>) -> Packet {
    let mut frame = SliceFrame::new(bytes);
    let packet = parse(&frame).expect("a valid packet");
    let change = Rewrite::between(&packet.key, to);
    let route = Route::new(1, 1, NEXT_HOP, 1500, 0);
    rewrite::apply(&mut frame, &packet, &change, &route);
    packet
}

fn key(
    (source, destination, source_port, destination_port): (u32, u32, u16, u16),
    protocol: u8,
) -> FlowKey<V4> {
    FlowKey::new(
        V4::from_raw(source),
        V4::from_raw(destination),
        source_port.to_be(),
        destination_port.to_be(),
        protocol,
    )
}

/// Which bytes of a frame a rewrite may change.
fn may_change(packet: &Packet) -> impl Fn(usize) -> bool {
    let transport = packet.transport_offset;
    let checksum = transport + packet.transport.checksum_offset();
    move |at| {
        // MACs; TTL; header checksum and both addresses; both ports; the transport's checksum.
        at < 12
            || at == 22
            || (24..34).contains(&at)
            || (transport..transport + 4).contains(&at)
            || (checksum..checksum + 2).contains(&at)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsing_writes_nothing_and_stays_inside(bytes in garbage()) {
        let mut seen = bytes.clone();
        if let Ok(packet) = look(&mut seen) {
            prop_assert!(usize::from(packet.length) + 14 <= bytes.len());
            prop_assert!(packet.transport_offset >= 34);
            prop_assert!(packet.transport_offset + packet.transport.header_length() <= bytes.len());
        }
        prop_assert_eq!(seen, bytes);
    }

    #[test]
    fn a_damaged_packet_is_refused_or_rewritten_in_its_own_fields(
        (bytes, to) in (mutated(), tuple()),
    ) {
        let mut written = bytes.clone();
        if look(&mut written).is_err() {
            prop_assert_eq!(written, bytes);
            return Ok(());
        }
        let packet = translate(&mut written, &key(to, bytes[23]));
        let allowed = may_change(&packet);
        for (at, (before, after)) in bytes.iter().zip(&written).enumerate() {
            prop_assert!(before == after || allowed(at), "byte {}", at);
        }
    }

    #[test]
    fn what_is_parsed_is_what_was_built(sample in sample()) {
        let packet = look(&mut sample.bytes()).expect("a valid packet");
        prop_assert_eq!(packet.key, sample.key());
        prop_assert_eq!(packet.ttl, sample.ttl);
        prop_assert_eq!(packet.transport == Transport::Tcp, sample.tcp);
        prop_assert_eq!(packet.transport_offset, 34 + sample.options.len());
        prop_assert_eq!(usize::from(packet.length) + 14 + sample.trailer, sample.bytes().len());
    }

    #[test]
    fn checksums_agree_with_full_recomputation((sample, to) in (sample(), tuple())) {
        let before = sample.bytes();
        let mut bytes = before.clone();
        let to = key(to, sample.key().protocol);
        let packet = translate(&mut bytes, &to);
        verify(&bytes, sample.absent)?;
        prop_assert_eq!(parsed_key(&bytes), to);
        prop_assert_eq!(bytes[22], sample.ttl - 1);
        prop_assert_eq!(&bytes[..12], &[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8]);
        let allowed = may_change(&packet);
        for (at, (before, after)) in before.iter().zip(&bytes).enumerate() {
            prop_assert!(before == after || allowed(at), "byte {}", at);
        }
    }

    #[test]
    fn forth_and_back_restores_all_but_macs_and_ttl((sample, to) in (sample(), tuple())) {
        let original = sample.bytes();
        let mut bytes = original.clone();
        translate(&mut bytes, &key(unicast(to), sample.key().protocol));
        translate(&mut bytes, &sample.key());
        verify(&bytes, sample.absent)?;
        let back = Sample { ttl: sample.ttl - 2, ..sample };
        let mut expected = back.bytes();
        expected[..12].copy_from_slice(&bytes[..12]);
        for at in back.checksums() {
            // One's complement has two zeros, and both have just been verified.
            if matches!(expected[at..at + 2], [0, 0] | [0xff, 0xff]) {
                expected[at..at + 2].copy_from_slice(&bytes[at..at + 2]);
            }
        }
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn the_reply_is_the_way_back((sample, to) in (sample(), tuple())) {
        let from = sample.key();
        let to = key(to, from.protocol);
        let forth = Rewrite::between(&from, &to);
        let back = Rewrite::between(&to.reversed(), &from.reversed());
        prop_assert_eq!(forth.key(from.protocol), to);
        prop_assert_eq!(back.key(from.protocol), from.reversed());
        // Together they change nothing: a zero, of which one's complement has two.
        for joint in [forth.addresses.then(back.addresses), forth.ports.then(back.ports)] {
            prop_assert!(matches!(joint.raw(), 0 | 0xffff), "{:?}", joint);
        }
    }
}

/// The second rewrite parses what the first has made, so the first must make nothing that is refused.
fn unicast(
    (source, destination, source_port, destination_port): (u32, u32, u16, u16),
) -> (u32, u32, u16, u16) {
    let [first, rest @ ..] = destination.to_ne_bytes();
    let destination = u32::from_ne_bytes([first % 224, rest[0], rest[1], rest[2]]);
    (source, destination, source_port, destination_port)
}

fn parsed_key(bytes: &[u8]) -> FlowKey<V4> {
    let packet = etherparse::SlicedPacket::from_ethernet(bytes).expect("a packet");
    packets::key_of(&packet)
}
