//! The source port that a new flow gets, its reservation, and both entries in the tables.
//!
//! A stage of its own that looks at no byte of the packet: all it needs is in [`Entries`].

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_get_prandom_u32};
use forwarder_common::{
    entries::{Choice, Entries},
    event::OPENED,
    flow::Rewrite,
    mapping::{INSIDE, Mapping, MappingKey, OUTSIDE},
    parse::{TCP, UDP},
    port::{ATTEMPTS, Ports},
    reason::Reason,
    rule::{ENDPOINT_INDEPENDENT, TO_LOCAL, UNFILTERED},
    settings::Settings,
    stage::{Exit, Stage},
};

use crate::{
    account, event, half_open, lookup,
    maps::{self, Family, SETTINGS},
    shadow,
};

/// `BPF_NOEXIST` as the map helpers take it.
pub const IF_ABSENT: u64 = BPF_NOEXIST as u64;

/// Puts the flow that [`crate::open`] has prepared into the tables, both directions or neither, and sends the
/// packet through the main program once more.
#[inline(always)]
pub fn run<A: Family>() -> Result<i32, Exit> {
    let entries = maps::entries::<A>()?;
    let made = make(entries);
    Err(match made {
        Ok(()) => Exit::To(Stage::Main),
        Err(exit) if entries.shadow != 0 => shadow::instead(
            exit,
            entries.original.rule,
            maps::scratch()?.facts.length,
            false,
        ),
        Err(exit) => exit,
    })
}

#[inline(always)]
fn make<A: Family>(entries: &mut Entries<A>) -> Result<(), Exit> {
    if entries.from.protocol == TCP && half_open::is_full::<A>() {
        return Err(Exit::Refused(Reason::HalfOpenFull));
    }
    reserve(entries, SETTINGS.get()).map_err(Exit::Answered)?;
    finish(entries)
}

/// Finds a source port for `to` that no other flow uses towards the same backend, by inserting `reply`,
/// completed with the rewrite back to `from`, under the key that this port gives. `to` leaves with the
/// port that was reserved.
///
/// The port that stands for the client's socket already is first, then the client's own. Under a translated
/// address that must lie in the allowed range: outside it the host's own connections live. What goes to this
/// host keeps it in any case.
#[inline(always)]
fn reserve<A: Family>(entries: &mut Entries<A>, settings: &Settings) -> Result<(), Reason> {
    let (from, to) = (&entries.from, &entries.to);
    let translated = to.source != from.source && entries.rule_flags & TO_LOCAL == 0;
    let independent =
        entries.rule_flags & ENDPOINT_INDEPENDENT != 0 && to.protocol == UDP && translated;
    let ports = Ports::new(settings);
    let own = from.source_port_be;
    // What an echo's identifier is to the host's own pings is not known, and seldom the same.
    // Where a rule only watches, the client keeps it, as netfilter lets it, so that replies are known again.
    let own_is_free = !translated
        || entries.shadow != 0
        || ports.contains(u16::from_be(own))
        || to.protocol != TCP && to.protocol != UDP;
    let mapped = if independent { mapped(entries) } else { None };
    entries.choice = Choice {
        independent: u32::from(independent),
        mapped: some(mapped),
        own: some(own_is_free.then_some(own)),
    };
    // SAFETY: the helper takes no argument.
    let random = unsafe { bpf_get_prandom_u32() };
    for attempt in 0..ATTEMPTS + 2 {
        // Read anew every time: to the verifier all rounds are then alike.
        // SAFETY: a reference to a live map value.
        let choice = unsafe { (&raw const entries.choice).read_volatile() };
        let port = match attempt {
            0 => choice.mapped,
            1 => choice.own,
            _ => some(ports.candidate(random, attempt - 2).map(u16::to_be)),
        };
        if port == 0 {
            continue;
        }
        entries.to.source_port_be = port as u16;
        // A mapping has the port already; no other client can have it.
        let maps = choice.independent != 0 && attempt != 0;
        if maps && !map(entries) {
            continue;
        }
        if take(entries)? {
            if choice.independent != 0 {
                note(entries);
            }
            return Ok(());
        }
        if maps {
            outside(entries);
            // Absent is as good as removed.
            let _absent = A::MAPPINGS.remove(&entries.socket);
        }
    }
    Err(Reason::PortsExhausted)
}

/// A port as [`Choice`] has it.
#[inline(always)]
fn some(port: Option<u16>) -> u32 {
    match port {
        Some(port) => 1 << 16 | u32::from(port),
        None => 0,
    }
}

/// Tries the tuple that `to` has: false if another flow has it.
#[inline(always)]
fn take<A: Family>(entries: &mut Entries<A>) -> Result<bool, Reason> {
    entries.key = entries.to.reversed();
    entries.reply.rewrite = Rewrite::to(&entries.from.reversed());
    match lookup::reserve(&entries.key, &entries.reply) {
        Ok(()) => Ok(true),
        Err(Reason::Raced) => Ok(false),
        Err(reason) => Err(reason),
    }
}

/// Inserts the original direction behind the reply direction, and takes that one back where this fails.
#[inline(always)]
fn finish<A: Family>(entries: &mut Entries<A>) -> Result<(), Exit> {
    entries.original.rewrite = Rewrite::to(&entries.to);
    if let Err(reason) = lookup::reserve(&entries.from, &entries.original) {
        lookup::remove(&entries.key);
        // Another CPU has opened the same flow at the same moment: the packet goes by that one.
        return match lookup::entry(&entries.from) {
            Some(_) if reason == Reason::Raced => Ok(()),
            _ => Err(Exit::Refused(reason)),
        };
    }
    if entries.from.protocol == TCP {
        half_open::made::<A>();
    }
    if entries.shadow != 0 {
        shadow::opened(entries.original.rule);
        return Ok(());
    }
    account::opened(entries.original.rule);
    if event::is_wanted(OPENED) {
        event::tell(OPENED, &entries.from, &entries.original, &entries.reply);
    }
    Ok(())
}

/// Makes the key of the client's side.
#[inline(always)]
fn inside<A: Family>(entries: &mut Entries<A>) {
    entries.socket = MappingKey {
        address: entries.from.source,
        port_be: entries.from.source_port_be,
        protocol: UDP,
        side: INSIDE,
    };
}

/// Makes the key of the other side.
#[inline(always)]
fn outside<A: Family>(entries: &mut Entries<A>) {
    entries.socket = MappingKey {
        address: entries.to.source,
        port_be: entries.to.source_port_be,
        protocol: UDP,
        side: OUTSIDE,
    };
}

/// [`Mapping::unfiltered`] of the rule's mappings.
#[inline(always)]
fn unfiltered<A: Family>(entries: &Entries<A>) -> u16 {
    u16::from(entries.rule_flags & UNFILTERED != 0)
}

/// The port that stands for the client's socket already, at the address that it is to have.
#[inline(always)]
fn mapped<A: Family>(entries: &mut Entries<A>) -> Option<u16> {
    inside(entries);
    // SAFETY: a live map value; a torn read is of a mapping that is going.
    let mapping = unsafe { A::MAPPINGS.get(&entries.socket) }?;
    (mapping.address == entries.to.source).then_some(mapping.port_be)
}

/// Makes the port that `to` has stand for the client's socket. False if it stands for another.
#[inline(always)]
fn map<A: Family>(entries: &mut Entries<A>) -> bool {
    outside(entries);
    entries.mapping = Mapping {
        address: entries.from.source,
        port_be: entries.from.source_port_be,
        unfiltered: unfiltered(entries),
        rule: entries.reply.rule,
        last_used: entries.reply.last_seen,
    };
    A::MAPPINGS
        .insert(&entries.socket, &entries.mapping, IF_ABSENT)
        .is_ok()
}

/// Notes for which port the socket is known, and that it is in use.
#[inline(always)]
fn note<A: Family>(entries: &mut Entries<A>) {
    outside(entries);
    if let Some(outside) = A::MAPPINGS.get_ptr_mut(&entries.socket) {
        // SAFETY: `get_ptr_mut` returned a live map value.
        unsafe { (*outside).last_used = entries.reply.last_seen };
    }
    inside(entries);
    entries.mapping = Mapping {
        address: entries.to.source,
        port_be: entries.to.source_port_be,
        unfiltered: unfiltered(entries),
        rule: entries.reply.rule,
        last_used: entries.reply.last_seen,
    };
    // An older one is of an address that this rule does not use any more. Where there is no room the next
    // flow gets another port.
    let _full = A::MAPPINGS.insert(&entries.socket, &entries.mapping, 0);
}
