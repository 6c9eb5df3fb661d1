//! Fragments: the first one's ports serve the others, and those that come before it wait.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use forwarder_common::{
    flow::FlowKey,
    fragment::{self, Datagram, FragmentKey, HELD_BYTES, HELD_MOST, HeldKey, KNOWN},
    network::Header,
    parse::{self, Link, Packet},
    reason::Reason,
    stage::{Exit, Stage},
};

use crate::{
    hook::Hook,
    lookup,
    maps::{self, Family},
};

/// Seconds after which a datagram counts as another one with the same identification, as
/// `net.ipv4.ipfrag_time` has it.
const PATIENCE: u32 = 30;

/// What only the slow path can do with a fragment: put it aside, and bring back what was.
pub trait Holder: Hook {
    /// Whether XDP has put the fragment on its datagram's record before it handed it over.
    fn is_on_record(&self) -> bool;

    /// Copies the whole frame, of `length` bytes, to `bytes`. False if the kernel refuses.
    fn save(&self, bytes: &mut [u8; HELD_BYTES], length: u32) -> bool;

    /// Has a copy of `bytes` arrive once more on the device this frame came in by. The frame is then
    /// something else; [`Holder::restore`] makes it what it was.
    fn replay(&mut self, bytes: &[u8; HELD_BYTES], length: u32);

    /// Makes the frame `bytes`.
    fn restore(&mut self, bytes: &[u8; HELD_BYTES], length: u32) -> bool;
}

/// Finds a fragment's ports, and sends it through the main program once more; or puts it aside.
#[inline(always)]
pub fn run<H: Holder, A: Family>(hook: &mut H, link: &Link) -> Result<i32, Exit> {
    let header: Header<A> = parse::header(hook, link)?;
    let length = fragment::check(&header)?;
    let scratch = maps::scratch()?;
    scratch.fragment = header.part;
    scratch.covered = false;
    let entries = maps::entries::<A>()?;
    entries.datagram = FragmentKey::of(&header);
    let datagram = datagram::<A>(&entries.datagram)?;
    if header.part.offset == 0 {
        let packet: Packet<A> = parse::packet(hook, link, &header).map_err(tiny)?;
        datagram.ports = [packet.key.source_port_be, packet.key.destination_port_be];
        datagram.protocol = packet.key.protocol;
        datagram.flags |= KNOWN;
        if datagram.held != 0 {
            release::<H, A>(hook, &entries.datagram, datagram)?;
        }
    } else if !datagram.has(KNOWN) {
        hold::<H, A>(hook, &entries.datagram, datagram)?;
    }
    let [source, destination] = datagram.ports;
    entries.key = FlowKey::new(
        entries.datagram.source,
        entries.datagram.destination,
        source,
        destination,
        datagram.protocol,
    );
    let part = scratch.fragment;
    if !hook.is_on_record() {
        let covered = datagram.cover(u32::from(part.offset), length, part.more);
        // What is not ours may overlap as it likes: the kernel will see to it.
        if lookup::entry(&entries.key).is_some() {
            covered?;
        }
    }
    scratch.covered = H::FAST;
    scratch.ports = datagram.ports;
    scratch.protocol = datagram.protocol;
    scratch.checked = true;
    Err(Exit::To(Stage::Main))
}

/// A first fragment without ports is no accident.
#[inline(always)]
fn tiny(exit: Exit) -> Exit {
    match exit {
        Exit::Refused(Reason::Malformed) => Exit::Refused(Reason::FragmentTiny),
        other => other,
    }
}

/// The record of a datagram; a new one if there is none, or an old one under the same identification.
#[inline(always)]
fn datagram<A: Family>(key: &FragmentKey<A>) -> Result<&'static mut Datagram, Reason> {
    // SAFETY: the helper takes no argument and only reads a clock.
    let now = (unsafe { bpf_ktime_get_ns() } / 1_000_000_000) as u32;
    if let Some(known) = A::DATAGRAMS.get_ptr_mut(key) {
        // SAFETY: `get_ptr_mut` returned a live map value.
        let known = unsafe { &mut *known };
        if now.wrapping_sub(known.since) < PATIENCE {
            return Ok(known);
        }
    }
    // All zeros but for the time, which is all that is ever written there: clearing a thousand bytes takes a while.
    let fresh = &mut maps::scratch()?.datagram;
    fresh.since = now;
    A::DATAGRAMS
        .insert(key, &*fresh, 0)
        .map_err(|_| Reason::FragmentLimit)?;
    let made = A::DATAGRAMS.get_ptr_mut(key).ok_or(Reason::Raced)?;
    // SAFETY: as above.
    Ok(unsafe { &mut *made })
}

/// Puts a fragment aside whose datagram's ports are not known. Returns only if they have become known.
#[inline(always)]
fn hold<H: Holder, A: Family>(
    hook: &H,
    key: &FragmentKey<A>,
    datagram: &mut Datagram,
) -> Result<(), Reason> {
    if H::FAST || H::EGRESS {
        return Err(if H::EGRESS {
            Reason::NoRule
        } else {
            Reason::FragmentEarly
        });
    }
    let length = hook.length();
    if datagram.held >= HELD_MOST || length as usize > HELD_BYTES {
        return Err(Reason::FragmentLimit);
    }
    let held = &mut maps::scratch()?.held;
    held.length = length;
    if !hook.save(&mut held.bytes, length) {
        return Err(Reason::SlowPathFailed);
    }
    let number = u32::from(datagram.held);
    datagram.held += 1;
    let slot = HeldKey {
        datagram: *key,
        number,
    };
    A::HELD
        .insert(slot, &*held, 0)
        .map_err(|_| Reason::FragmentLimit)?;
    // The first one may have come meanwhile on another CPU, and then it has not seen this one.
    // SAFETY: a reference, read as the volatile value that another CPU makes it.
    let flags = unsafe { (&raw const datagram.flags).read_volatile() };
    if flags & KNOWN != 0 && A::HELD.remove(slot).is_ok() {
        return Ok(());
    }
    Err(Reason::FragmentHeld)
}

/// Has the fragments that were put aside arrive once more, behind the first one, which the frame is.
#[inline(always)]
fn release<H: Holder, A: Family>(
    hook: &mut H,
    key: &FragmentKey<A>,
    datagram: &mut Datagram,
) -> Result<(), Reason> {
    if H::FAST {
        return Err(Reason::FragmentEarly);
    }
    let length = hook.length();
    let first = &mut maps::scratch()?.held;
    if length as usize > HELD_BYTES || !hook.save(&mut first.bytes, length) {
        return Err(Reason::FragmentLimit);
    }
    let count = datagram.held;
    datagram.held = 0;
    for number in 0..u32::from(HELD_MOST) {
        if number >= u32::from(count) {
            break;
        }
        let slot = HeldKey {
            datagram: *key,
            number,
        };
        if let Some(held) = A::HELD.get_ptr(slot) {
            // SAFETY: `get_ptr` returned a live map value.
            let held = unsafe { &*held };
            hook.replay(&held.bytes, held.length);
            let _absent = A::HELD.remove(slot);
        }
    }
    if !hook.restore(&first.bytes, length) {
        return Err(Reason::SlowPathFailed);
    }
    Ok(())
}
