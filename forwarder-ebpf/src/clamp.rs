//! SYNs of flows whose rule lowers TCP's maximum segment size.
//!
//! A SYN comes by here before the main program translates it. What is changed needs no taking back: a smaller
//! segment size is as good for whoever gets the packet otherwise.

use core::hint::black_box;

use forwarder_common::{
    checksum::Delta,
    frame::Transport,
    mss,
    network::Header,
    parse::{self, Link, Packet},
    reason::Reason,
    stage::{Exit, Stage},
};

use crate::{
    hook::Hook,
    maps::{self, DEVICES, Family},
    route,
};

/// Lowers what the packet says of segment sizes, and sends it through the main program once more.
#[inline(always)]
pub fn run<H: Hook, A: Family>(hook: &mut H, link: &Link) -> Result<i32, Exit> {
    let scratch = maps::scratch()?;
    let header: Header<A> = parse::header(hook, link)?;
    let packet: Packet<A> = parse::packet(hook, link, &header)?;
    scratch.clamped = packet.key.ports();
    scratch.fragment = header.part;
    scratch.checked = header.part.is_fragment();
    // Extension headers in a SYN are left alone.
    if packet.transport != Transport::Tcp || A::IPV6 && usize::from(header.length) != A::HEADER {
        return Err(Exit::To(Stage::Main));
    }
    // SAFETY: nothing writes devices but userspace and a flag.
    let device = unsafe { DEVICES.get(hook.near()) }.ok_or(Reason::UnknownDevice)?;
    // Both directions count: what this side sends, and what it is sent.
    let arrival = route::mtu(device, 0);
    let mtu = if scratch.mtu < arrival && scratch.mtu != 0 {
        scratch.mtu
    } else {
        arrival
    };
    let limit = mss::limit::<A>(scratch.mss, mtu);
    let change = mss::clamp(hook, &packet, limit, &mut scratch.options);
    if change != Delta::NONE {
        let checksum = packet.transport_offset + Transport::Tcp.checksum_offset();
        // The compiler would leave out a bounds check that the verifier does not remember.
        let checksum = black_box(checksum);
        hook.update_transport_checksum(Transport::Tcp, checksum, Delta::NONE, change);
    }
    Err(Exit::To(Stage::Main))
}
