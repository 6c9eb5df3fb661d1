//! The maps. Sizes marked "placeholder" are set from the configuration before loading.

use core::cell::UnsafeCell;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_fib_lookup},
    macros::map,
    maps::{
        Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, PerfEventArray,
        ProgramArray, RingBuf,
    },
};
use forwarder_common::{
    address::{V4, V6},
    answer::Writer,
    cache::{self, CacheState},
    capture::{Order, Sample},
    change::{Drained, MOST_DRAINED, OnChange},
    concern::ALL_WORDS,
    device::{Device, VlanKey},
    entries::Entries,
    event,
    flow::{FlowEntry, FlowKey, Rewrite},
    fragment::{Datagram, FragmentKey, Held, HeldKey},
    half_open::HalfOpen,
    last::LastPacket,
    layout::Layouts,
    mapping::{Mapping, MappingKey},
    mss,
    network::Part,
    parse::Facts,
    query::{IDENT, QuerySettings},
    reason::Reason,
    rule::{
        Backend, ClientKey, ListenerKey, MAX_SHAPES, MasqueradeKey, NAME_LENGTH, OutboundKey,
        OwnAddress, RuleEntry, Shape,
    },
    settings::Settings,
    stage::Stage,
    stats::{RuleTraffic, ShadowKey, ShadowTraffic},
};

/// One record that programs reach by its address instead of by a look-up: a table of one entry all the same to the
/// kernel and to userspace, named after its section.
#[repr(transparent)]
pub struct Global<T>(UnsafeCell<T>);

// SAFETY: programs on other CPUs and userspace read and write it as they do any entry of a table.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// All bits zero, which is a valid value of every record that is kept this way: integers only.
    const fn zeroed() -> Self {
        // SAFETY: as said.
        Self(UnsafeCell::new(unsafe { core::mem::zeroed() }))
    }

    /// The record.
    #[inline(always)]
    pub fn get(&'static self) -> &'static T {
        // SAFETY: it lives as long as the program, and any bits are a valid value.
        unsafe { &*self.0.get() }
    }

    /// Where it is.
    #[inline(always)]
    pub const fn pointer(&'static self) -> *mut T {
        self.0.get()
    }
}

/// An address family with its tables.
pub trait Family: Writer {
    /// Both directions of every flow. Not an LRU: a new flow never displaces an old one. Placeholder size.
    const FLOWS: &'static HashMap<FlowKey<Self>, FlowEntry<Self>>;
    /// What listens where. Grows as rules are added.
    const LISTENERS: &'static HashMap<ListenerKey<Self>, RuleEntry<Self>>;
    /// The backends of all rules, each rule's in a row, in one half of the table: a reload fills the other
    /// half before it changes the first listener. Placeholder size.
    const BACKENDS: &'static Array<Backend<Self>>;
    /// Client prefixes by rule. At equal length a deny has replaced an allow.
    const CLIENTS: &'static LpmTrie<ClientKey<Self>, u32>;
    /// Client prefixes of outbound rules, by device.
    const OUTBOUND: &'static LpmTrie<OutboundKey<Self>, u32>;
    /// Own addresses to masquerade with, by egress device and next hop.
    const MASQUERADE: &'static LpmTrie<MasqueradeKey<Self>, OwnAddress<Self>>;
    /// Own addresses, and the broadcast addresses of own subnets: what is sent there is for this host.
    const OWN: &'static HashMap<Self, u32>;
    /// Endpoint-independent mappings, both sides of each. Placeholder size.
    const MAPPINGS: &'static HashMap<MappingKey<Self>, Mapping<Self>>;
    /// Datagrams whose fragments come by.
    const DATAGRAMS: &'static LruHashMap<FragmentKey<Self>, Datagram>;
    /// Fragments that came before their datagram's first.
    const HELD: &'static LruHashMap<HeldKey<Self>, Held>;
    /// What is in use of the flow tables, for each CPU. Placeholder size.
    const CACHE: &'static Array<cache::Set<Self>>;
    /// See [`forwarder_common::concern`].
    const CONCERNS: &'static Global<[u64; ALL_WORDS as usize]>;
    /// Room for two entries.
    const ENTRIES: &'static PerCpuArray<Entries<Self>>;

    /// The address in the form that the routing helper takes.
    fn fill(fib: &mut bpf_fib_lookup, source: Self, destination: Self);

    /// The next hop that the routing helper gave, if it is of this family.
    fn next_hop(fib: &bpf_fib_lookup) -> Self;

    /// The next hop as the neighbour helper takes it.
    fn words(self) -> [u32; 4];
}

macro_rules! family {
    ($family:ty, $fill:item, $next_hop:item, $words:item: $flows:ident, $listeners:ident,
     $backends:ident, $clients:ident, $outbound:ident, $masquerade:ident, $own:ident, $mappings:ident,
     $datagrams:ident, $held:ident, $cache:ident, $concerns:ident $section:literal,
     $entries:ident, $draining:ident) => {
        #[map]
        static $flows: HashMap<FlowKey<$family>, FlowEntry<$family>> =
            HashMap::with_max_entries(2, 0);
        #[map]
        static $listeners: HashMap<ListenerKey<$family>, RuleEntry<$family>> =
            HashMap::with_max_entries(1 << 21, BPF_F_NO_PREALLOC);
        #[map]
        static $backends: Array<Backend<$family>> = Array::with_max_entries(1, 0);
        #[map]
        static $clients: LpmTrie<ClientKey<$family>, u32> = LpmTrie::with_max_entries(1 << 20, 0);
        #[map]
        static $outbound: LpmTrie<OutboundKey<$family>, u32> =
            LpmTrie::with_max_entries(1 << 16, 0);
        #[map]
        static $masquerade: LpmTrie<MasqueradeKey<$family>, OwnAddress<$family>> =
            LpmTrie::with_max_entries(4096, 0);
        #[map]
        static $own: HashMap<$family, u32> =
            HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);
        #[map]
        static $mappings: HashMap<MappingKey<$family>, Mapping<$family>> =
            HashMap::with_max_entries(2, BPF_F_NO_PREALLOC);
        #[map]
        static $datagrams: LruHashMap<FragmentKey<$family>, Datagram> =
            LruHashMap::with_max_entries(2048, 0);
        #[map]
        static $held: LruHashMap<HeldKey<$family>, Held> = LruHashMap::with_max_entries(1024, 0);
        #[map]
        static $cache: Array<cache::Set<$family>> = Array::with_max_entries(2, BPF_F_MMAPABLE);
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        static $concerns: Global<[u64; ALL_WORDS as usize]> = Global::zeroed();
        #[map]
        static $entries: PerCpuArray<Entries<$family>> = PerCpuArray::with_max_entries(1, 0);
        /// Flows that live on for a limited time. The programs do not read it.
        #[map]
        static $draining: HashMap<FlowKey<$family>, Drained> =
            HashMap::with_max_entries(MOST_DRAINED, BPF_F_NO_PREALLOC);

        impl Family for $family {
            const FLOWS: &'static HashMap<FlowKey<Self>, FlowEntry<Self>> = &$flows;
            const LISTENERS: &'static HashMap<ListenerKey<Self>, RuleEntry<Self>> = &$listeners;
            const BACKENDS: &'static Array<Backend<Self>> = &$backends;
            const CLIENTS: &'static LpmTrie<ClientKey<Self>, u32> = &$clients;
            const OUTBOUND: &'static LpmTrie<OutboundKey<Self>, u32> = &$outbound;
            const MASQUERADE: &'static LpmTrie<MasqueradeKey<Self>, OwnAddress<Self>> =
                &$masquerade;
            const OWN: &'static HashMap<Self, u32> = &$own;
            const MAPPINGS: &'static HashMap<MappingKey<Self>, Mapping<Self>> = &$mappings;
            const DATAGRAMS: &'static LruHashMap<FragmentKey<Self>, Datagram> = &$datagrams;
            const HELD: &'static LruHashMap<HeldKey<Self>, Held> = &$held;
            const CACHE: &'static Array<cache::Set<Self>> = &$cache;
            const CONCERNS: &'static Global<[u64; ALL_WORDS as usize]> = &$concerns;
            const ENTRIES: &'static PerCpuArray<Entries<Self>> = &$entries;

            #[inline(always)]
            $fill
            #[inline(always)]
            $next_hop
            #[inline(always)]
            $words
        }
    };
}

family!(V4,
    fn fill(fib: &mut bpf_fib_lookup, source: Self, destination: Self) {
        fib.__bindgen_anon_3.ipv4_src = source.raw();
        fib.__bindgen_anon_4.ipv4_dst = destination.raw();
    },
    fn next_hop(fib: &bpf_fib_lookup) -> Self {
        // SAFETY: of this family, so the IPv4 member is the one that is filled in.
        Self::from_raw(unsafe { fib.__bindgen_anon_4.ipv4_dst })
    },
    fn words(self) -> [u32; 4] {
        [self.raw(), 0, 0, 0]
    }:
    FLOWS_V4, LISTENERS_V4, BACKENDS_V4, CLIENTS_V4, OUTBOUND_V4, MASQUERADE_V4, OWN_V4,
    MAPPINGS_V4, DATAGRAMS_V4, HELD_V4, CACHE_V4, CONCERNS_V4 ".bss.concerns_v4",
    ENTRIES_V4, DRAINING_V4);

family!(V6,
    fn fill(fib: &mut bpf_fib_lookup, source: Self, destination: Self) {
        fib.__bindgen_anon_3.ipv6_src = source.raw();
        fib.__bindgen_anon_4.ipv6_dst = destination.raw();
    },
    fn next_hop(fib: &bpf_fib_lookup) -> Self {
        // SAFETY: of this family, so the IPv6 member is the one that is filled in.
        Self::from_raw(unsafe { fib.__bindgen_anon_4.ipv6_dst })
    },
    fn words(self) -> [u32; 4] {
        self.raw()
    }:
    FLOWS_V6, LISTENERS_V6, BACKENDS_V6, CLIENTS_V6, OUTBOUND_V6, MASQUERADE_V6, OWN_V6,
    MAPPINGS_V6, DATAGRAMS_V6, HELD_V6, CACHE_V6, CONCERNS_V6 ".bss.concerns_v6",
    ENTRIES_V6, DRAINING_V6);

/// The wildcard combinations that the listener tables hold, most specific first, in one half of the table.
#[map]
pub static SHAPES: Array<Shape> = Array::with_max_entries(2 * MAX_SHAPES, 0);

/// Devices by index.
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::with_max_entries(4096, 0);

/// Configured VLAN devices by the device that carries them and the tag.
#[map]
pub static VLANS: HashMap<VlanKey, u32> = HashMap::with_max_entries(4096, 0);

/// How many flows are half-open, of IPv4 and of IPv6.
#[map]
pub static HALF_OPEN: Array<HalfOpen> = Array::with_max_entries(2, BPF_F_MMAPABLE);

/// What userspace tells the programs about the host.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.settings")]
pub static SETTINGS: Global<Settings> = Global::zeroed();

/// See [`forwarder_common::cache`].
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.cache_state")]
pub static CACHE_STATE: Global<CacheState> = Global::zeroed();

/// Names of the rules by slot, zero-padded. The programs do not read them: they are kept here so that a
/// restarted daemon gives every rule its old slot, and old flows keep their rule's name.
#[map]
pub static RULE_NAMES: HashMap<u32, [u8; NAME_LENGTH]> =
    HashMap::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);

/// Whether another version can go on with these maps. The programs do not read it.
#[map]
pub static LAYOUTS: Array<Layouts> = Array::with_max_entries(1, 0);

/// What becomes of a rule's flows when it changes, by slot. The programs do not read it either.
#[map]
pub static RULE_ON_CHANGE: HashMap<u32, OnChange> =
    HashMap::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);

/// Packets and bytes by rule slot. Placeholder size.
#[map]
pub static RULE_TRAFFIC: PerCpuArray<RuleTraffic> = PerCpuArray::with_max_entries(1, 0);

/// Flows opened by rule slot. Placeholder size.
#[map]
pub static RULE_OPENED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// What rules that only watch would have done. Grows with what there is to count.
#[map]
pub static SHADOW: PerCpuHashMap<ShadowKey, ShadowTraffic> =
    PerCpuHashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// Packets not sent on, by [`Reason`].
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);

/// The last packet that each [`Reason`] has ended. For each CPU, so that none is half one and half another.
#[map]
pub static LAST: PerCpuArray<LastPacket> = PerCpuArray::with_max_entries(Reason::COUNT, 0);

/// Which kinds of [`event::FlowEvent`] userspace wants, as bits.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.event_kinds")]
pub static EVENT_KINDS: Global<u32> = Global::zeroed();

/// Events on their way to userspace. One ring for all CPUs, so that the events of a flow stay in order.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(event::RING, 0);

/// Events that the ring had no room for.
#[map]
pub static EVENTS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// `bpf_jiffies64` and `bpf_ktime_get_ns` as the `clock` program last read them.
#[map]
pub static CLOCK: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// The other stages of the pipeline on XDP, on TC ingress and on TC egress.
#[map]
pub static XDP_STAGES: ProgramArray = ProgramArray::with_max_entries(Stage::COUNT, 0);
/// See [`XDP_STAGES`].
#[map]
pub static TC_STAGES: ProgramArray = ProgramArray::with_max_entries(Stage::COUNT, 0);
/// See [`XDP_STAGES`].
#[map]
pub static EGRESS_STAGES: ProgramArray = ProgramArray::with_max_entries(Stage::COUNT, 0);

/// What is said of queries for original destinations.
#[map]
pub static QUERIES: Array<QuerySettings> = Array::with_max_entries(1, 0);

/// Who may ask: addresses as they stand in a packet.
#[map]
pub static PROXIES: HashMap<u32, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// What `forwarder capture` wants. Only the programs of [`crate::capture`] read it.
#[map]
pub static CAPTURE: Array<Order> = Array::with_max_entries(1, 0);

/// The copies: a [`Sample`] and a packet each.
#[map]
pub static SAMPLES: PerfEventArray<Sample> = PerfEventArray::new(0);

/// Room for what stands before a copy.
#[map]
pub static SAMPLE: PerCpuArray<Sample> = PerCpuArray::with_max_entries(1, 0);

/// What is too large for the 512-byte stack, and what one stage tells the next. Softirqs do not nest, so
/// one for each CPU is enough.
#[repr(C)]
pub struct Scratch {
    /// A question to the routing table.
    pub fib: bpf_fib_lookup,
    /// A datagram of which nothing is known but since when, as in every new record: nobody writes anything else here.
    pub datagram: Datagram,
    /// A fragment that is put aside.
    pub held: Held,
    /// What matters of a packet that opens a flow.
    pub facts: Facts,
    /// See [`forget`].
    pub forgotten: u32,
    /// Which part of its datagram a fragment is.
    pub fragment: Part,
    /// What becomes of the replies of a connection that is asked about.
    pub known: Rewrite<V4>,
    /// A client's address as text, for [`Stage::Query`].
    pub ident: [u8; IDENT],
    /// A packet's TCP options.
    pub options: [u8; mss::OPTIONS],
    /// `bpf_jiffies64` when this CPU last said something in words.
    pub told: u64,
    /// `bpf_ktime_get_ns` when this CPU last counted its answers afresh.
    pub answers_since: u64,
    /// Answers that it has given since.
    pub answers: u32,
    /// Why the packet is not sent on, for [`Stage::Answer`].
    pub reason: Reason,
    /// How large it may be, for [`Reason::TooBig`] and for [`Stage::Clamp`].
    pub mtu: u16,
    /// What the flow's rule says of segment sizes, for [`Stage::Clamp`].
    pub mss: u16,
    /// The ports of the packet that has come by [`Stage::Clamp`], as one word; 0 for none.
    pub clamped: u32,
    /// Whether the fragment that [`Scratch::fragment`] describes has come by [`Stage::Fragment`].
    pub checked: bool,
    /// Whether XDP has put the fragment on its datagram's record.
    pub covered: bool,
    /// Its datagram's ports, if it has come by [`Stage::Fragment`].
    pub ports: [u16; 2],
    /// Its datagram's protocol number, if so.
    pub protocol: u8,
}

/// One record.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// `value`, by way of a map: the verifier does not follow what is in one.
#[inline(always)]
pub fn forget(value: u32) -> u32 {
    match SCRATCH.get_ptr_mut(0) {
        Some(scratch) => {
            // SAFETY: this CPU's live map value.
            let forgotten = unsafe { &raw mut (*scratch).forgotten };
            // SAFETY: as above; volatile, so that the compiler does not follow it either.
            unsafe { forgotten.write_volatile(value) };
            // SAFETY: as above.
            unsafe { forgotten.read_volatile() }
        }
        None => 0,
    }
}

/// This CPU's scratch space.
#[inline(always)]
pub fn scratch() -> Result<&'static mut Scratch, Reason> {
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Reason::Raced)?;
    // SAFETY: this CPU's live map value, which nothing else uses until the program ends.
    Ok(unsafe { &mut *scratch })
}

/// This CPU's room for two entries.
#[inline(always)]
pub fn entries<A: Family>() -> Result<&'static mut Entries<A>, Reason> {
    let entries = A::ENTRIES.get_ptr_mut(0).ok_or(Reason::Raced)?;
    // SAFETY: as above.
    Ok(unsafe { &mut *entries })
}
