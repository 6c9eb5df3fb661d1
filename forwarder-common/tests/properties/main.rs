//! Parsing and rewriting, over whatever bytes and packets chance brings, in both families.
//!
//! Packets are built by etherparse and verified by a sum over all bytes (RFC 1071), so that the incremental
//! arithmetic under test has no part in judging itself.

mod errors;
mod judge;
mod packets;
mod wire;

use errors::{complaint, errors_are_translated_with_all_checksums};
use forwarder_common::{
    address::{V4, V6},
    ethernet::Macs,
    flow::{FlowKey, Rewrite},
    frame::{SliceFrame, Transport},
    parse::{self, Packet},
    reason::Reason,
    rewrite::{self, Hop},
    stage::{Exit, Stage},
};
use packets::{Kind, Sample, garbage, key, mutated, sample};
use proptest::prelude::*;
use wire::Wire;

const NEXT_HOP: Macs = Macs::new([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8]);

/// New addresses and ports.
type Tuple<A> = (A, A, (u16, u16));

fn tuple<A: Wire>() -> impl Strategy<Value = Tuple<A>> {
    (A::host(), A::host(), any::<(u16, u16)>())
}

/// Parses `frame` as the pipeline does.
fn look<A: Wire>(frame: &SliceFrame<'_>) -> Result<Packet<A>, Exit> {
    let link = parse::link(frame)?;
    if link.ether_type != A::ETHER_TYPE {
        return Err(Exit::Refused(Reason::NotIp));
    }
    let header = parse::header::<A, _>(frame, &link)?;
    if header.part.offset != 0 {
        return Err(Exit::To(Stage::Fragment));
    }
    parse::packet(frame, &link, &header)
}

/// Rewrites `bytes` to `to`, as the pipeline does.
fn translate<A: Wire>(bytes: &mut [u8], to: &FlowKey<A>) -> Packet<A> {
    let mut frame = SliceFrame::new(bytes);
    let packet = look(&frame).expect("a valid packet");
    let to = Rewrite::to(to);
    let change = to.change(&packet.key);
    rewrite::apply(&mut frame, &packet, &to, change, Hop::Next(NEXT_HOP));
    packet
}

/// The tuple of a packet like `packet` with other addresses and ports.
fn like<A: Wire>(packet: &Packet<A>, (source, destination, ports): Tuple<A>) -> FlowKey<A> {
    let kind = match packet.transport {
        Transport::Echo => Kind::Echo,
        Transport::EchoReply => Kind::EchoReply,
        _ => Kind::Tcp,
    };
    let to = key(kind, source, destination, ports);
    FlowKey::new(
        source,
        destination,
        to.source_port_be,
        to.destination_port_be,
        packet.key.protocol,
    )
}

/// Which bytes of a frame a rewrite may change.
fn may_change<A: Wire>(packet: &Packet<A>) -> impl Fn(usize) -> bool + use<A> {
    let (network, segment, transport) = (packet.network, packet.transport_offset, packet.transport);
    let ip = if A::IPV6 { 7..40 } else { 8..20 };
    let ports = match transport {
        Transport::Tcp | Transport::Udp => 0..4,
        Transport::Echo | Transport::EchoReply => 4..6,
        _ => 0..0,
    };
    move |at| {
        // MACs; hops, header checksum and both addresses, but not IPv4's protocol; ports; the checksum.
        let in_ip = at >= network && ip.contains(&(at - network));
        let in_segment = at >= segment && ports.contains(&(at - segment));
        let checksum = segment + transport.checksum_offset();
        let translated = !matches!(transport, Transport::Other | Transport::Tail);
        at < 12
            || in_ip && (A::IPV6 || at != network + 9)
            || in_segment
            || translated && (checksum..checksum + 2).contains(&at)
    }
}

fn only_allowed_bytes<A: Wire>(
    before: &[u8],
    after: &[u8],
    packet: &Packet<A>,
) -> Result<(), TestCaseError> {
    let allowed = may_change(packet);
    for (at, (before, after)) in before.iter().zip(after).enumerate() {
        prop_assert!(before == after || allowed(at), "byte {}", at);
    }
    Ok(())
}

fn parsing_writes_nothing_and_stays_inside<A: Wire>(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let mut seen = bytes.clone();
    if let Ok(packet) = look::<A>(&SliceFrame::new(&mut seen)) {
        let end = packet.network + packet.length as usize;
        prop_assert!(end <= bytes.len());
        prop_assert!(packet.transport_offset >= packet.network + A::HEADER);
        prop_assert!(packet.network + usize::from(packet.headers) <= end);
    }
    prop_assert_eq!(seen, bytes);
    Ok(())
}

fn a_damaged_packet_is_refused_or_rewritten_in_its_own_fields<A: Wire>(
    (bytes, to): (Vec<u8>, Tuple<A>),
) -> Result<(), TestCaseError> {
    let mut written = bytes.clone();
    let to = match look::<A>(&SliceFrame::new(&mut written)) {
        Ok(packet) => like(&packet, to),
        Err(_) => {
            prop_assert_eq!(written, bytes);
            return Ok(());
        }
    };
    let packet = translate(&mut written, &to);
    only_allowed_bytes(&bytes, &written, &packet)
}

fn what_is_parsed_is_what_was_built<A: Wire>(sample: Sample<A>) -> Result<(), TestCaseError> {
    let mut bytes = sample.bytes();
    let packet = look::<A>(&SliceFrame::new(&mut bytes)).expect("a valid packet");
    let network = 14 + if sample.tag.is_some() { 4 } else { 0 };
    prop_assert_eq!(packet.key, sample.key());
    prop_assert_eq!(packet.hops, sample.hops);
    prop_assert_eq!(packet.tos, if A::IPV6 { 0x2a } else { 0 });
    prop_assert_eq!(packet.network, network);
    let transport = network + A::HEADER + sample.options.len();
    prop_assert_eq!(packet.transport_offset, transport);
    let length = packet.length as usize;
    prop_assert_eq!(network + length + sample.trailer, bytes.len());
    prop_assert_eq!(usize::from(packet.headers) + sample.payload.len(), length);
    Ok(())
}

fn checksums_agree_with_full_recomputation<A: Wire>(
    (sample, (source, destination, ports)): (Sample<A>, Tuple<A>),
) -> Result<(), TestCaseError> {
    let before = sample.bytes();
    let mut bytes = before.clone();
    let to = key(sample.kind, source, destination, ports);
    let packet = translate(&mut bytes, &to);
    let end = bytes.len() - sample.trailer;
    judge::whole(&bytes[packet.network..end], &sample)?;
    prop_assert_eq!(&bytes[..12], &[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8]);
    only_allowed_bytes(&before, &bytes, &packet)?;
    let again = look::<A>(&SliceFrame::new(&mut bytes)).expect("a valid packet");
    prop_assert_eq!(again.key, to);
    prop_assert_eq!(again.hops, sample.hops - 1);
    Ok(())
}

fn forth_and_back_restores_all_but_macs_and_hops<A: Wire>(
    (sample, (source, destination, ports)): (Sample<A>, Tuple<A>),
) -> Result<(), TestCaseError> {
    let mut bytes = sample.bytes();
    translate(&mut bytes, &key(sample.kind, source, destination, ports));
    let packet = translate(&mut bytes, &sample.key());
    let back = Sample {
        hops: sample.hops - 2,
        ..sample
    };
    let end = bytes.len() - back.trailer;
    judge::whole(&bytes[packet.network..end], &back)?;
    let mut expected = back.bytes();
    expected[..12].copy_from_slice(&bytes[..12]);
    let transport = packet.transport_offset + packet.transport.checksum_offset();
    for at in [packet.network + 10, transport] {
        // One's complement has two zeros, and both have just been verified.
        if matches!(expected[at..at + 2], [0, 0] | [0xff, 0xff]) {
            expected[at..at + 2].copy_from_slice(&bytes[at..at + 2]);
        }
    }
    prop_assert_eq!(bytes, expected);
    Ok(())
}

fn the_reply_is_the_way_back<A: Wire>(
    (sample, (source, destination, ports)): (Sample<A>, Tuple<A>),
) -> Result<(), TestCaseError> {
    let from = sample.key();
    let to = key(sample.kind, source, destination, ports);
    let forth = Rewrite::to(&to);
    let back = Rewrite::to(&from.reversed());
    prop_assert_eq!(forth.key(from.protocol), to);
    prop_assert_eq!(back.key(from.protocol), from.reversed());
    // Together they change nothing: a zero, of which one's complement has two.
    let (forth, back) = (forth.change(&from), back.change(&to.reversed()));
    for joint in [
        forth.addresses.then(back.addresses),
        forth.ports.then(back.ports),
    ] {
        prop_assert!(matches!(joint.raw(), 0 | 0xffff), "{:?}", joint);
    }
    Ok(())
}

/// Makes each property a test of both families.
macro_rules! properties {
    ($($name:ident($strategy:expr);)+) => {
        properties!(v4, V4: $($name($strategy);)+);
        properties!(v6, V6: $($name($strategy);)+);
    };
    ($module:ident, $family:ident: $($name:ident($strategy:expr);)+) => {
        mod $module {
            use super::*;
            type A = $family;

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(2000))]
                $(
                    #[test]
                    fn $name(input in $strategy) {
                        super::$name::<A>(input)?;
                    }
                )+
            }
        }
    };
}

properties! {
    parsing_writes_nothing_and_stays_inside(garbage::<A>());
    a_damaged_packet_is_refused_or_rewritten_in_its_own_fields((mutated::<A>(), tuple::<A>()));
    what_is_parsed_is_what_was_built(sample::<A>());
    checksums_agree_with_full_recomputation((sample::<A>(), tuple::<A>()));
    forth_and_back_restores_all_but_macs_and_hops((sample::<A>(), tuple::<A>()));
    the_reply_is_the_way_back((sample::<A>(), tuple::<A>()));
    errors_are_translated_with_all_checksums(complaint::<A>());
}
