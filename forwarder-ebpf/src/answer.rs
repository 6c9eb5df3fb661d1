//! Telling the sender of a packet why it is not sent on.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use forwarder_common::{
    answer::{self, Answer, Back, Notice, Segment},
    frame::{self, Transport},
    network::Header,
    parse::{self, Link, Packet},
    reason::{Reason, Verdict},
    stage::Exit,
};

use crate::{
    hook::Hook,
    maps::{self, DEVICES, Family},
    source, tell,
};

/// Answers that one CPU gives in [`PERIOD`], as the kernel's `net.ipv4.icmp_msgs_per_sec` has it.
const MOST: u32 = 1000;
/// Bounds where a checksum field may be, for the verifier.
const MASK: u32 = 0x0fff;
/// One second in nanoseconds.
const PERIOD: u64 = 1_000_000_000;

/// Turns the packet into an answer, and sends it back. The packet has been counted; one that cannot be
/// answered ends here.
#[inline(always)]
pub fn run<H: Hook, A: Family>(hook: &mut H, link: &Link) -> Result<i32, Exit> {
    Ok(match answer::<H, A>(hook, link) {
        Some(value) => value,
        None => hook.refuse(Verdict::Drop),
    })
}

#[inline(always)]
fn answer<H: Hook, A: Family>(hook: &mut H, link: &Link) -> Option<i32> {
    let (reason, mtu) = {
        let scratch = maps::scratch().ok()?;
        (scratch.reason, scratch.mtu)
    };
    if reason == Reason::PortsExhausted
        && let Ok(entries) = maps::entries::<A>()
    {
        tell::ports_exhausted(&entries.to);
    }
    // A flow has only so many senders, and each is to hear that it has ended.
    if reason != Reason::FlowEnded && !allowed()? {
        return None;
    }
    let header: Header<A> = parse::header(hook, link).ok()?;
    if header.part.offset != 0 {
        return None;
    }
    let packet: Packet<A> = parse::packet(hook, link, &header).ok()?;
    // SAFETY: nothing writes devices but userspace and a flag.
    let device = unsafe { DEVICES.get(hook.ingress()) }?;
    let flags = device.flags;
    let back = Back {
        macs: link.macs,
        tag: link.tag,
    };
    match Answer::to(reason, packet.transport == Transport::Tcp, mtu)? {
        Answer::Reset => reset(hook, &packet, back)?,
        notice => error(hook, link, &packet, notice, back)?,
    }
    Some(hook.bounce(flags))
}

/// Whether this CPU may answer once more.
#[inline(always)]
fn allowed() -> Option<bool> {
    let scratch = maps::scratch().ok()?;
    // SAFETY: the helper takes no argument and only reads a clock.
    let now = unsafe { bpf_ktime_get_ns() };
    if now - scratch.answers_since > PERIOD {
        scratch.answers_since = now;
        scratch.answers = 0;
    }
    scratch.answers += 1;
    Some(scratch.answers <= MOST)
}

#[inline(always)]
fn reset<H: Hook, A: Family>(hook: &mut H, packet: &Packet<A>, back: Back) -> Option<()> {
    let segment = Segment::read(hook, packet)?;
    let key = packet.key.reversed();
    let length = packet.network as u32 + answer::reset_length::<A>();
    if !hook.reshape(length, 0) {
        return None;
    }
    answer::write_reset(hook, &segment, &key, back)
}

#[inline(always)]
fn error<H: Hook, A: Family>(
    hook: &mut H,
    link: &Link,
    packet: &Packet<A>,
    answer: Answer,
    back: Back,
) -> Option<()> {
    let to = packet.key.source;
    let from = source::own(hook.ingress(), to)?.address;
    let quote = answer::quote::<A>(packet.length);
    let unfinished = unfinished(hook, packet, quote);
    let sum = answer::sum_quote(hook, link.network, quote, unfinished)?;
    let room = answer::room::<A>() as u32;
    if !hook.reshape(link.network as u32 + quote, room) {
        return None;
    }
    answer::write_error(
        hook,
        &Notice {
            answer,
            from,
            to,
            back,
            quote,
            sum,
        },
    )
}

/// Where the transport header begins in the quote, and the checksum field's value, if that holds no more
/// than the pseudo-header's sum.
#[inline(always)]
fn unfinished<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    quote: u32,
) -> Option<(usize, u16)> {
    let field = match packet.transport {
        Transport::Tcp | Transport::Udp => packet.transport.checksum_offset(),
        _ => return None,
    };
    let header = packet.transport_offset - packet.network;
    if (header + field + 2) as u32 > quote {
        return None;
    }
    // Bounds-checked anew, as in `Segment::read`.
    let offset = hook.forget((packet.transport_offset + field) as u32) & MASK;
    // SAFETY: `at` bounds-checks it.
    let check: u16 = unsafe { frame::read(hook.at(offset as usize)?) };
    let length = packet.length - header as u32;
    let pseudo = answer::Sum::pseudo(&packet.key, packet.key.protocol, length).fold();
    (check == pseudo).then_some((header, check))
}
