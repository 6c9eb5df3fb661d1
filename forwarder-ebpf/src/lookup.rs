//! From a packet to its flow entry.

use forwarder_common::{
    flow::{EMIT, ENDED, FlowEntry, FlowKey},
    frame::Transport,
    parse::{Packet, TCP},
    reason::Reason,
    stage::{Exit, Stage},
    tcp::Seen,
};

use crate::{
    cache,
    hook::Hook,
    maps::{self, Family},
    reserve::IF_ABSENT,
    route,
};

/// `E2BIG`: what inserting into a full table gives (kernel/bpf/hashtab.c).
const FULL: i32 = -7;

/// The table a flow begins in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// TCP before its handshake is complete.
    HalfOpen,
    /// Everything else.
    Flows,
}

impl Table {
    /// Where new flows of `protocol` go.
    #[inline(always)]
    pub const fn of(protocol: u8) -> Self {
        if protocol == TCP {
            Self::HalfOpen
        } else {
            Self::Flows
        }
    }

    /// Inserts `entry` if neither table has `key`.
    ///
    /// For TCP the half-open table is the place of reservation. A flow that moves to the other table is
    /// inserted there before it is removed here, so whoever gets the place here and then finds nothing
    /// there has it alone.
    #[inline(always)]
    pub fn reserve<A: Family>(self, key: &FlowKey<A>, entry: &FlowEntry<A>) -> Result<(), Reason> {
        self.insert(key, entry)?;
        if self == Self::HalfOpen && A::FLOWS.get_ptr(key).is_some() {
            self.remove(key);
            return Err(Reason::Raced);
        }
        Ok(())
    }

    #[inline(always)]
    fn insert<A: Family>(self, key: &FlowKey<A>, entry: &FlowEntry<A>) -> Result<(), Reason> {
        let (result, full) = match self {
            Self::HalfOpen => (
                A::HALF_OPEN.insert(key, entry, IF_ABSENT),
                Reason::HalfOpenFull,
            ),
            Self::Flows => (
                A::FLOWS.insert(key, entry, IF_ABSENT),
                Reason::FlowTableFull,
            ),
        };
        match result {
            Ok(()) => Ok(()),
            Err(FULL) => Err(full),
            Err(_) => Err(Reason::Raced),
        }
    }

    /// Removes `key`, if it is there.
    #[inline(always)]
    pub fn remove<A: Family>(self, key: &FlowKey<A>) {
        // Absent is as good as removed.
        let _absent = match self {
            Self::HalfOpen => A::HALF_OPEN.remove(key),
            Self::Flows => A::FLOWS.remove(key),
        };
    }

    /// The entry of `key`.
    #[inline(always)]
    pub fn get<A: Family>(self, key: &FlowKey<A>) -> Option<&'static mut FlowEntry<A>> {
        let pointer = match self {
            Self::HalfOpen => A::HALF_OPEN.get_ptr_mut(key),
            Self::Flows => A::FLOWS.get_ptr_mut(key),
        }?;
        // SAFETY: a live map value until the program ends. Another CPU may write it too, which the fields'
        // documentation allows for.
        Some(unsafe { &mut *pointer })
    }
}

/// The entry of `key` in whichever table it is.
#[inline(always)]
pub fn entry<A: Family>(key: &FlowKey<A>) -> Option<&'static mut FlowEntry<A>> {
    if let Some(entry) = Table::Flows.get(key) {
        return Some(entry);
    }
    match key.protocol {
        TCP => Table::HalfOpen.get(key),
        _ => None,
    }
}

/// The flow that `packet` belongs to.
#[inline(always)]
pub fn flow<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
) -> Result<&'static mut FlowEntry<A>, Exit> {
    if let Some(flow) = Table::Flows.get(&packet.key) {
        check::<H, A>(flow)?;
        if !reopens(hook, packet, flow, Table::Flows) {
            return usable(flow);
        }
    } else if packet.transport == Transport::Tcp
        && let Some(flow) = Table::HalfOpen.get(&packet.key)
    {
        check::<H, A>(flow)?;
        if !reopens(hook, packet, flow, Table::HalfOpen) {
            return usable(complete(hook, packet, flow));
        }
    }
    Err(Exit::To(Stage::Open))
}

/// Checks that packets of `flow` are met at this hook: what this host itself sends is not to be had from
/// outside, and the other way round.
#[inline(always)]
pub fn check<H: Hook, A: Family>(flow: &FlowEntry<A>) -> Result<(), Exit> {
    if flow.has(EMIT) != H::EGRESS {
        return Err(Exit::Refused(Reason::NoRule));
    }
    Ok(())
}

#[inline(always)]
fn usable<A: Family>(flow: &'static mut FlowEntry<A>) -> Result<&'static mut FlowEntry<A>, Exit> {
    if flow.has(ENDED) {
        return Err(Exit::Answered(Reason::FlowEnded));
    }
    Ok(flow)
}

/// Whether the frame is for this host. One that is not must not move or remove the flow whose tuple it has.
#[inline(always)]
fn is_ours<H: Hook, A: Family>(hook: &H, packet: &Packet<A>) -> bool {
    H::EGRESS || route::check_addressee(hook, packet).is_ok()
}

/// Whether `packet` begins anew on the tuple of a connection that has ended; the old flow is then gone, and
/// the rules decide about the new one.
#[inline(always)]
fn reopens<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &FlowEntry<A>,
    table: Table,
) -> bool {
    let begins = packet.flags.opens() || flow.has(ENDED) && packet.transport != Transport::Tcp;
    if !begins || !flow.is_original() || !is_ours(hook, packet) {
        return false;
    }
    let reply_key = flow.other_key(packet.key.protocol);
    let reply_closing = match table.get(&reply_key) {
        Some(reply) => reply.seen.closing(),
        None => true,
    };
    if !flow.has(ENDED) && !flow.seen.closing() && !reply_closing {
        return false;
    }
    table.remove(&packet.key);
    table.remove(&reply_key);
    cache::forget_all();
    true
}

/// Moves a half-open flow to the flow table when `packet` is the client's answer to the server's SYN.
/// Returns the entry to go on with: where the flow table is full, the half-open one, so that the
/// connection works nevertheless.
#[inline(always)]
fn complete<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &'static mut FlowEntry<A>,
) -> &'static mut FlowEntry<A> {
    if !flow.is_original() || !packet.flags.acknowledges() || !is_ours(hook, packet) {
        return flow;
    }
    let reply_key = flow.other_key(packet.key.protocol);
    let Some(reply) = Table::HalfOpen.get(&reply_key) else {
        return flow;
    };
    if !reply.seen.has(Seen::SYN) {
        return flow;
    }
    flow.seen = flow.seen.and(Seen::CONFIRMED);
    let Ok(entries) = maps::entries::<A>() else {
        return flow;
    };
    copy(&mut entries.original, flow);
    copy(&mut entries.reply, reply);
    if Table::Flows.insert(&reply_key, &entries.reply).is_err() {
        return flow;
    }
    if Table::Flows.insert(&packet.key, &entries.original).is_err() {
        Table::Flows.remove(&reply_key);
        return flow;
    }
    Table::HalfOpen.remove(&packet.key);
    Table::HalfOpen.remove(&reply_key);
    match Table::Flows.get(&packet.key) {
        Some(moved) => moved,
        None => flow,
    }
}

/// Copies an entry, word by word. The compiler would call a function that copies bytes, and the verifier would
/// walk through each of them.
#[inline(always)]
fn copy<A: Family>(to: &mut FlowEntry<A>, from: &FlowEntry<A>) {
    const WORD: usize = size_of::<u64>();
    let (to, from) = (&raw mut *to, &raw const *from);
    for word in 0..size_of::<FlowEntry<A>>() / WORD {
        // SAFETY: an entry is a whole number of aligned words.
        let from = unsafe { from.cast::<u64>().add(word) };
        // SAFETY: as above.
        let to = unsafe { to.cast::<u64>().add(word) };
        // SAFETY: as above; volatile, so that it stays as it is written here.
        let value = unsafe { from.read_volatile() };
        // SAFETY: as above.
        unsafe { to.write_volatile(value) };
    }
}
