//! From a packet to its flow entry.

use forwarder_common::{
    address::V4,
    flow::{FlowEntry, FlowKey},
    frame::Transport,
    parse::Packet,
    reason::Reason,
    settings::Settings,
    tcp::Seen,
};
use network_types::ip::IpProto;

use crate::{
    hook::Hook,
    maps::{FLOWS, HALF_OPEN, SCRATCH},
    open,
    ports::IF_ABSENT,
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
        if protocol == IpProto::Tcp as u8 {
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
    pub fn reserve(self, key: &FlowKey<V4>, entry: &FlowEntry<V4>) -> Result<(), Reason> {
        self.insert(key, entry)?;
        if self == Self::HalfOpen && FLOWS.get_ptr(key).is_some() {
            self.remove(key);
            return Err(Reason::Raced);
        }
        Ok(())
    }

    #[inline(always)]
    fn insert(self, key: &FlowKey<V4>, entry: &FlowEntry<V4>) -> Result<(), Reason> {
        let (result, full) = match self {
            Self::HalfOpen => (
                HALF_OPEN.insert(key, entry, IF_ABSENT),
                Reason::HalfOpenFull,
            ),
            Self::Flows => (FLOWS.insert(key, entry, IF_ABSENT), Reason::FlowTableFull),
        };
        match result {
            Ok(()) => Ok(()),
            Err(FULL) => Err(full),
            Err(_) => Err(Reason::Raced),
        }
    }

    /// Removes `key`, if it is there.
    #[inline(always)]
    pub fn remove(self, key: &FlowKey<V4>) {
        // Absent is as good as removed.
        let _absent = match self {
            Self::HalfOpen => HALF_OPEN.remove(key),
            Self::Flows => FLOWS.remove(key),
        };
    }

    /// The entry of `key`.
    #[inline(always)]
    pub fn get(self, key: &FlowKey<V4>) -> Option<&'static mut FlowEntry<V4>> {
        let pointer = match self {
            Self::HalfOpen => HALF_OPEN.get_ptr_mut(key),
            Self::Flows => FLOWS.get_ptr_mut(key),
        }?;
        // SAFETY: a live map value until the program ends. Another CPU may write it too, which the fields'
        // documentation allows for.
        Some(unsafe { &mut *pointer })
    }
}

/// The entry of `key` in whichever table a flow of `packet`'s protocol may be.
#[inline(always)]
pub fn entry(key: &FlowKey<V4>, packet: &Packet) -> Option<&'static mut FlowEntry<V4>> {
    if let Some(entry) = Table::Flows.get(key) {
        return Some(entry);
    }
    match packet.transport {
        Transport::Tcp => Table::HalfOpen.get(key),
        Transport::Udp => None,
    }
}

/// The flow that `packet` belongs to; a new one where a rule allows it.
#[inline(always)]
pub fn flow<H: Hook>(
    hook: &H,
    packet: &Packet,
    settings: &Settings,
    now: u64,
) -> Result<&'static mut FlowEntry<V4>, Reason> {
    if let Some(flow) = Table::Flows.get(&packet.key) {
        if !reopens(hook, packet, flow, Table::Flows) {
            return Ok(flow);
        }
    } else if packet.transport == Transport::Tcp
        && let Some(flow) = Table::HalfOpen.get(&packet.key)
        && !reopens(hook, packet, flow, Table::HalfOpen)
    {
        return Ok(complete(hook, packet, flow));
    }
    open::open(hook, packet, settings, now)
}

/// Whether the frame is for this host. One that is not must not move or remove the flow whose tuple it has.
#[inline(always)]
fn is_ours<H: Hook>(hook: &H, packet: &Packet, flow: &FlowEntry<V4>) -> bool {
    packet.macs.arrival_mark(hook.ingress()) == flow.arrival
        || route::check_addressee(hook, packet).is_ok()
}

/// Whether `packet` is a SYN that reuses the tuple of a connection that has ended; the old flow is then
/// gone, and the rules decide about the new one.
#[inline(always)]
fn reopens<H: Hook>(hook: &H, packet: &Packet, flow: &FlowEntry<V4>, table: Table) -> bool {
    if !packet.flags.opens() || !flow.is_original() || !is_ours(hook, packet, flow) {
        return false;
    }
    let reply_key = flow.other_key(packet.key.protocol);
    let reply_closing = match table.get(&reply_key) {
        Some(reply) => reply.seen.closing(),
        None => true,
    };
    if !flow.seen.closing() && !reply_closing {
        return false;
    }
    table.remove(&packet.key);
    table.remove(&reply_key);
    true
}

/// Moves a half-open flow to the flow table when `packet` is the client's answer to the server's SYN.
/// Returns the entry to go on with: where the flow table is full, the half-open one, so that the
/// connection works nevertheless.
#[inline(always)]
fn complete<H: Hook>(
    hook: &H,
    packet: &Packet,
    flow: &'static mut FlowEntry<V4>,
) -> &'static mut FlowEntry<V4> {
    if !flow.is_original() || !packet.flags.acknowledges() || !is_ours(hook, packet, flow) {
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
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return flow;
    };
    // SAFETY: this CPU's live map value, which nothing else uses until the program ends.
    let scratch = unsafe { &mut *scratch };
    scratch.original = *flow;
    scratch.reply = *reply;
    if Table::Flows.insert(&reply_key, &scratch.reply).is_err() {
        return flow;
    }
    if Table::Flows.insert(&packet.key, &scratch.original).is_err() {
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
