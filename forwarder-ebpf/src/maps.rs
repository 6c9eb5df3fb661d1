//! The maps. Sizes marked "placeholder" are set from the configuration before loading.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, bpf_fib_lookup},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray},
};
use forwarder_common::{
    address::V4,
    device::Device,
    flow::{FlowEntry, FlowKey},
    reason::Reason,
    rule::{
        Backend, ClientKey, ListenerKey, MAX_SHAPES, MasqueradeKey, NAME_LENGTH, RuleEntry, Shape,
    },
    settings::Settings,
    stats::RuleTraffic,
};

/// Both directions of every flow, but for TCP before its handshake is complete. Not an LRU: a new flow
/// never displaces an old one. Placeholder size.
#[map]
pub static FLOWS: HashMap<FlowKey<V4>, FlowEntry<V4>> = HashMap::with_max_entries(2, 0);

/// Both directions of TCP flows whose handshake is not complete, so that a SYN flood fills this table and
/// not [`FLOWS`]. Placeholder size.
#[map]
pub static HALF_OPEN: HashMap<FlowKey<V4>, FlowEntry<V4>> = HashMap::with_max_entries(2, 0);

/// What listens where. Grows as rules are added.
#[map]
pub static LISTENERS: HashMap<ListenerKey<V4>, RuleEntry<V4>> =
    HashMap::with_max_entries(1 << 21, BPF_F_NO_PREALLOC);

/// The wildcard combinations that [`LISTENERS`] holds, most specific first, in one half of the table.
#[map]
pub static SHAPES: Array<Shape> = Array::with_max_entries(2 * MAX_SHAPES, 0);

/// The backends of all rules, each rule's in a row, in one half of the table: a reload fills the other
/// half before it changes the first listener. Placeholder size.
#[map]
pub static BACKENDS: Array<Backend<V4>> = Array::with_max_entries(1, 0);

/// Client prefixes by rule. At equal length a deny has replaced an allow.
#[map]
pub static CLIENTS: LpmTrie<ClientKey<V4>, u32> = LpmTrie::with_max_entries(1 << 20, 0);

/// Own addresses to masquerade with, by egress device and next hop.
#[map]
pub static MASQUERADE: LpmTrie<MasqueradeKey<V4>, V4> = LpmTrie::with_max_entries(4096, 0);

/// Devices by index.
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::with_max_entries(4096, 0);

/// One record.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Names of the rules by slot, zero-padded. The programs do not read them: they are kept here so that a
/// restarted daemon gives every rule its old slot, and old flows keep their rule's name.
#[map]
pub static RULE_NAMES: HashMap<u32, [u8; NAME_LENGTH]> =
    HashMap::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);

/// Packets and bytes by rule slot. Placeholder size.
#[map]
pub static RULE_TRAFFIC: PerCpuArray<RuleTraffic> = PerCpuArray::with_max_entries(1, 0);

/// Flows opened by rule slot. Placeholder size.
#[map]
pub static RULE_OPENED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Packets not sent on, by [`Reason`].
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);

/// `bpf_jiffies64` and `bpf_ktime_get_ns` as the `clock` program last read them.
#[map]
pub static CLOCK: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// What is too large for the 512-byte stack. Softirqs do not nest, so one for each CPU is enough.
#[repr(C)]
pub struct Scratch {
    /// A new flow's original direction.
    pub original: FlowEntry<V4>,
    /// Its reply direction.
    pub reply: FlowEntry<V4>,
    /// A question to the routing table.
    pub fib: bpf_fib_lookup,
    /// `bpf_jiffies64` when this CPU last said something in words.
    pub told: u64,
}

/// One record.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
