//! ICMP errors.

use forwarder_common::{
    flow::Rewrite,
    frame::SliceFrame,
    icmp, parse,
    rewrite::{self, Hop},
};
use proptest::prelude::*;

use crate::{
    NEXT_HOP, Tuple, judge, look,
    packets::{Kind, Sample, key, sample},
    tuple,
    wire::Wire,
};

/// An error about a packet that has left, of which it quotes some: from whom, and how much more than the least.
pub type Complaint<A> = (Sample<A>, Tuple<A>, A, prop::sample::Index);

pub fn complaint<A: Wire>() -> impl Strategy<Value = Complaint<A>> {
    (sample(), tuple(), A::host(), any::<prop::sample::Index>())
}

pub fn errors_are_translated_with_all_checksums<A: Wire>(
    (about, (source, destination, ports), reporter, quoted): Complaint<A>,
) -> Result<(), TestCaseError> {
    let mut packet = about.packet();
    let least = A::HEADER + about.options.len() + 8;
    let length = least + quoted.index(packet.len() - least + 1);
    let complete = length == packet.len();
    // A checksum that is cut in half cannot be made right.
    let field = least - 8 + if about.kind == Kind::Tcp { 16 } else { 6 };
    prop_assume!(length != field + 1);
    packet.truncate(length);
    let mut bytes = error(&about, reporter, packet);
    judge::error::<A>(&bytes[14..])?;

    let mut frame = SliceFrame::new(&mut bytes);
    let link = parse::link(&frame).expect("an Ethernet header");
    let header = parse::header::<A, _>(&frame, &link).expect("an IP header");
    let (packet, inner) = icmp::parse(&frame, &link, &header).expect("an ICMP error");
    prop_assert_eq!(packet.key, about.key().reversed());
    let original = key(about.kind, source, destination, ports);
    let to = Rewrite::to(&original.reversed());
    rewrite::apply_error(&mut frame, &packet, &inner, &to, Hop::Next(NEXT_HOP));

    judge::error::<A>(&bytes[14..])?;
    let quote = &bytes[14 + A::HEADER + 8..];
    judge::header::<A>(quote)?;
    if complete {
        judge::whole(quote, &about)?;
    }
    let mut frame = [&[0; 12][..], &A::ETHER_TYPE.to_ne_bytes(), quote].concat();
    let whole = about.packet().len();
    frame.resize(14 + whole, 0);
    if about.kind != Kind::Tcp || length >= field + 4 {
        let again = look::<A>(&SliceFrame::new(&mut frame)).expect("the packet in it");
        prop_assert_eq!(again.key, original);
    }
    Ok(())
}

/// The frame of an error of `reporter` that quotes `packet`, which was `about` once.
fn error<A: Wire>(about: &Sample<A>, reporter: A, packet: Vec<u8>) -> Vec<u8> {
    let mut message = vec![if A::IPV6 { 1 } else { 3 }, 1, 0, 0, 0, 0, 0, 0];
    message.extend(packet);
    let outer = Sample {
        source: reporter,
        destination: about.source,
        options: Vec::new(),
        ..about.clone()
    };
    let header = A::write_header(&outer, A::ICMP, message.len());
    let pseudo = match A::ICMP_PSEUDO_HEADER {
        true => A::pseudo(reporter, about.source, A::ICMP, message.len()),
        false => Vec::new(),
    };
    let check = !judge::sum(&[&pseudo[..], &message].concat());
    message[2..4].copy_from_slice(&check.to_be_bytes());
    let mut bytes = vec![0; 12];
    bytes.extend(A::ETHER_TYPE.to_ne_bytes());
    bytes.extend([header, message].concat());
    bytes
}
