//! The flow cache: what XDP needs to send packets of a flow in use, for each CPU its own.
//!
//! It is found by arithmetic instead of by a helper, and holds nothing that the flow table does not: packets and
//! bytes that were counted here are added to the flow's entry when the place is filled again, and readers of the
//! table add what is pending.

use core::mem::offset_of;

use crate::{
    address::{Address, V4, V6},
    ethernet::Macs,
    flow::{Change, Egress, FlowEntry, FlowKey, Rewrite, Route},
};

/// What the caches of all CPUs have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheState {
    /// Raised when what places hold is no longer so.
    pub epoch: u64,
    /// Sets of places for each CPU, of IPv4 and of IPv6, as a power of two, from 1 to 31.
    pub bits: [u32; 2],
}

/// Jiffies in one tick of a place's clock, as a power of two: 16 milliseconds at 1000 Hz, 64 at 250.
const TICK_BITS: u32 = 4;
/// Ticks in one step of [`Cached::since`], as a power of two.
const STEP_BITS: u32 = 4;
/// The clock has so many steps and then begins anew: after 65 seconds at 1000 Hz.
const WRAP: u32 = 1 << (TICK_BITS + STEP_BITS + u8::BITS);

/// Ticks for which a place serves before its flow is looked up again: 4096 jiffies, which is four seconds at 1000 Hz.
const FRESH: u32 = 256;

/// Ticks without a packet after which a place may be filled by another flow: 256 jiffies, which is a quarter of a
/// second at 1000 Hz.
const IN_USE: u32 = 16;

/// By how much userspace raises the epoch: more than the programs do, so that of two raises at the same moment either
/// changes it.
pub const EPOCH_STEP: u64 = 1 << 16;

/// A direction of a flow as its packets come in by one way: a place. For IPv4 a line of cache, with all that is read or
/// written for a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cached<A> {
    source: A,
    destination: A,
    ports: u32,
    tag: Tag,
    /// [`Macs::proof`] of the way by which its packets come in and of the stamp that the place was filled under: it
    /// serves for no others. 0 for an empty place.
    pub proof: u32,
    /// As in the flow's entry.
    pub rewrite: Rewrite<A>,
    /// What it does to checksums.
    pub change: Change,
    egress: Egress,
    macs: Macs,
    mtu: u16,
    /// Packets counted here and not yet added to the flow's entry: never so many that their bytes do not fit.
    packets: u16,
    /// Their bytes.
    bytes: u32,
    /// The lower half of the entry's: by it a new flow of the same tuple is told from an old one.
    created: u16,
    /// When it was filled, in steps.
    since: u8,
    /// When the last packet was counted here, in ticks since [`Cached::since`].
    last: u8,
}

/// The rest of a tuple, and what a packet is counted under, in one word: protocol, direction, rule's slot.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tag(u32);

impl Tag {
    const REPLY: u32 = 1 << 8;
    const RULE_BIT: u32 = 9;

    #[inline(always)]
    const fn new(protocol: u8, is_original: bool, rule: u32) -> Self {
        let reply = if is_original { 0 } else { Self::REPLY };
        Self(protocol as u32 | reply | rule << Self::RULE_BIT)
    }

    #[inline(always)]
    const fn protocol(self) -> u8 {
        self.0 as u8
    }
}

/// Slots of rules are below this: `limits.rules` is at most half of it.
pub const SLOTS: u32 = 1 << (u32::BITS - Tag::RULE_BIT);

/// Packets that were counted beside a flow's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub packets: u32,
    /// Their bytes, as in the entry.
    pub bytes: u64,
    created: u16,
    since: u8,
    last: u8,
}

impl Counted {
    /// Adds them to `flow`, if it is the flow that they are of.
    #[inline(always)]
    pub fn settle<A: Copy>(&self, flow: &mut FlowEntry<A>) {
        if self.packets != 0 && self.created == flow.created as u16 {
            flow.count(self.packets, self.bytes);
            let last = self.last_seen(flow.last_seen);
            if (flow.last_seen.wrapping_sub(last) as i32) < 0 {
                flow.last_seen = last;
            }
        }
    }

    /// When the last of them came, in jiffies, for an entry that says so: it is at least as late as the place was
    /// filled. Where other CPUs have had packets of the flow since, a place may look younger than it is, but not
    /// by more than it serves.
    #[inline(always)]
    fn last_seen(&self, entry: u32) -> u32 {
        const STEP: u32 = 1 << (TICK_BITS + STEP_BITS);
        let since = u32::from(self.since) * STEP;
        let before = entry.wrapping_sub(since) & (WRAP - 1);
        entry
            .wrapping_sub(before)
            .wrapping_add(u32::from(self.last) << TICK_BITS)
    }
}

/// The places that a tuple can have: neighbours, so that with one line of cache the other comes along.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set<A>(pub [Cached<A>; WAYS]);

/// Places in a [`Set`].
pub const WAYS: usize = 2;

impl<A: Address> Set<A> {
    /// The number of the set for `key` among two to the power of `bits`.
    #[inline(always)]
    pub fn number(key: &FlowKey<A>, bits: u32) -> u32 {
        // The primes of XXH64, and the golden ratio in 64 bits.
        const SOURCE: [u64; 2] = [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f];
        const DESTINATION: [u64; 2] = [0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63];
        const PORTS: u64 = 0x9e37_79b9_7f4a_7c15;
        let sum = key
            .source
            .scatter(SOURCE)
            .wrapping_add(key.destination.scatter(DESTINATION))
            .wrapping_add(
                (u64::from(key.protocol) << 32 | u64::from(key.ports())).wrapping_mul(PORTS),
            );
        (sum >> (64 - bits)) as u32
    }

    /// The place that is for packets of `key`.
    #[inline(always)]
    pub fn find(&mut self, key: &FlowKey<A>) -> Option<&mut Cached<A>> {
        self.0.iter_mut().find(|place| place.is_of(key))
    }

    /// A place that may be filled for another flow: an empty one, or one that has not been in use of late. The latter
    /// only if the flow that wants it is `patient`.
    #[inline(always)]
    pub fn free(&mut self, patient: bool, now: u32) -> Option<&mut Cached<A>> {
        self.0
            .iter_mut()
            .find(|place| place.proof == 0 || patient && !place.is_in_use(now))
    }
}

impl<A: Address> Cached<A> {
    /// A place for the packets of `key`, which come in by the way that `proof` tells, of `flow`.
    #[inline(always)]
    pub fn new(key: &FlowKey<A>, proof: u32, flow: &FlowEntry<A>, now: u32) -> Self {
        Self {
            source: key.source,
            destination: key.destination,
            ports: key.ports(),
            tag: Tag::new(key.protocol, flow.is_original(), flow.rule),
            proof,
            rewrite: flow.rewrite,
            change: flow.rewrite.change(key),
            egress: flow.route.egress,
            macs: flow.route.macs,
            mtu: flow.route.mtu,
            packets: 0,
            bytes: 0,
            created: flow.created as u16,
            since: (now >> (TICK_BITS + STEP_BITS)) as u8,
            last: (now >> TICK_BITS) as u8 & ((1 << STEP_BITS) - 1),
        }
    }

    /// Whether it is for packets of `key`.
    #[inline(always)]
    pub fn is_of(&self, key: &FlowKey<A>) -> bool {
        self.source == key.source
            && self.destination == key.destination
            && self.ports == key.ports()
            && self.tag.protocol() == key.protocol
    }

    /// Counts one more packet of so many bytes, if the place may still serve at this moment: its flow is to be looked up
    /// now and then.
    #[inline(always)]
    pub fn count(&mut self, length: u32, now: u32) -> bool {
        let age = self.age(now);
        if age >= FRESH || self.packets == u16::MAX || length > u32::from(self.mtu) {
            return false;
        }
        self.last = age as u8;
        self.packets += 1;
        self.bytes = self.bytes.wrapping_add(length);
        true
    }

    /// Whether packets have been counted here a moment ago.
    #[inline(always)]
    pub fn is_in_use(&self, now: u32) -> bool {
        self.age(now).wrapping_sub(u32::from(self.last)) < IN_USE
    }

    /// Ticks since it was filled, or since the clock last began anew.
    #[inline(always)]
    fn age(&self, now: u32) -> u32 {
        const TICKS: u32 = WRAP >> TICK_BITS;
        (now >> TICK_BITS).wrapping_sub(u32::from(self.since) << STEP_BITS) & (TICKS - 1)
    }

    /// What is counted here.
    #[inline(always)]
    pub fn counted(&self) -> Counted {
        Counted {
            packets: u32::from(self.packets),
            bytes: u64::from(self.bytes),
            created: self.created,
            since: self.since,
            last: self.last,
        }
    }

    /// Empties a place while programs may use it: what was counted in it is gone, and it serves for nobody.
    #[cfg(feature = "user")]
    #[expect(
        clippy::not_unsafe_ptr_arg_deref,
        reason = "userspace has no reference to what programs write"
    )]
    pub fn empty(place: *mut Self) {
        // SAFETY: the caller's live place.
        let packets = unsafe { &raw mut (*place).packets };
        // SAFETY: as above.
        let proof = unsafe { &raw mut (*place).proof };
        // SAFETY: as above, written in one instruction.
        unsafe { packets.write_volatile(0) };
        // SAFETY: as above.
        unsafe { proof.write_volatile(0) };
    }

    /// The tuple of its packets.
    #[inline(always)]
    pub fn key(&self) -> FlowKey<A> {
        FlowKey::new(
            self.source,
            self.destination,
            (self.ports >> 16) as u16,
            self.ports as u16,
            self.tag.protocol(),
        )
    }

    /// Where its packets leave. A segment size to lower is not known here: no packet that has one goes this way.
    #[inline(always)]
    pub fn route(&self) -> Route {
        Route {
            egress: self.egress,
            macs: self.macs,
            mtu: self.mtu,
            mss: 0,
        }
    }

    /// The slot of the rule that its packets are counted under.
    #[inline(always)]
    pub fn rule(&self) -> u32 {
        self.tag.0 >> Tag::RULE_BIT
    }

    /// Whether they come from the client.
    #[inline(always)]
    pub fn is_original(&self) -> bool {
        self.tag.0 & Tag::REPLY == 0
    }
}

const _: () = {
    assert!(size_of::<Cached<V4>>() == 64);
    assert!(offset_of!(Cached<V4>, rewrite) == 20);
    assert!(size_of::<Cached<V6>>() == 112);
    assert!(size_of::<Set<V4>>() == 128);
    // Their bytes fit as well.
    assert!(u16::MAX as u64 * u16::MAX as u64 <= u32::MAX as u64);
    assert!(FRESH <= 1 << u8::BITS && WRAP >> TICK_BITS > FRESH + IN_USE);
};

// SAFETY: integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CacheState {}
// SAFETY: `repr(C)` over integers with explicit padding (asserted above); any bits are valid.
#[cfg(feature = "user")]
unsafe impl<A: Address> aya::Pod for Set<A> {}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlowKey<V4> = FlowKey::new(V4::from_raw(1), V4::from_raw(2), 3, 4, 17);

    fn flow(last_seen: u32) -> FlowEntry<V4> {
        FlowEntry {
            route: Route {
                mtu: 1500,
                ..Route::default()
            },
            last_seen,
            created: 0x0001_0005,
            rule: SLOTS - 1,
            flags: crate::flow::REPLY,
            ..FlowEntry::default()
        }
    }

    #[test]
    fn a_place_says_of_its_flow_what_it_was_filled_with() {
        let flow = flow(0);
        let place = Cached::new(&KEY, 9, &flow, 0);
        assert_eq!(place.key(), KEY);
        assert_eq!((place.rule(), place.is_original()), (SLOTS - 1, false));
        assert_eq!(place.route(), flow.route);
        assert!(place.is_of(&KEY));
        for other in [
            FlowKey::new(V4::from_raw(9), KEY.destination, 3, 4, 17),
            FlowKey::new(KEY.source, V4::from_raw(9), 3, 4, 17),
            FlowKey::new(KEY.source, KEY.destination, 9, 4, 17),
            FlowKey::new(KEY.source, KEY.destination, 3, 9, 17),
            FlowKey::new(KEY.source, KEY.destination, 3, 4, 6),
        ] {
            assert!(!place.is_of(&other), "{other:?}");
        }
    }

    #[test]
    fn what_is_counted_is_added_to_its_flow_once_with_the_time_of_the_last_packet() {
        for now in [0, 255, 4711, u32::MAX - 2000] {
            let mut entry = flow(now);
            let mut place = Cached::new(&KEY, 9, &entry, now);
            for (length, later) in [(100, 1), (1500, 2000), (40, 3800)] {
                assert!(place.count(length, now.wrapping_add(later)));
            }
            place.counted().settle(&mut entry);
            assert_eq!((entry.packets(), entry.bytes), (3, 1640));
            let idle = now.wrapping_add(3800).wrapping_sub(entry.last_seen);
            assert!(idle < 1 << TICK_BITS, "{idle} jiffies at {now}");
        }
    }

    #[test]
    fn another_flow_of_the_same_tuple_gets_nothing() {
        let mut place = Cached::new(&KEY, 9, &flow(0), 0);
        assert!(place.count(100, 1));
        let mut next = FlowEntry {
            created: 0x0001_0006,
            ..flow(700)
        };
        place.counted().settle(&mut next);
        assert_eq!((next.packets(), next.last_seen), (0, 700));
    }

    #[test]
    fn a_place_that_was_left_behind_makes_its_flow_no_younger_than_it_may_serve() {
        let mut place = Cached::new(&KEY, 9, &flow(0), 0);
        assert!(place.count(100, 4000));
        // The flow has gone on by another CPU for long.
        for later in (5000..3_000_000).step_by(997) {
            let mut entry = flow(later);
            place.counted().settle(&mut entry);
            assert!(entry.last_seen.wrapping_sub(later) < 4096 + 256);
        }
    }

    #[test]
    fn a_place_serves_until_it_is_old_or_full_and_for_packets_that_fit() {
        let now = 4711;
        let place = Cached::new(&KEY, 9, &flow(now), now);
        let serves = |mut place: Cached<V4>, length, now| place.count(length, now);
        assert!(serves(place, 1500, now));
        assert!(!serves(place, 1501, now));
        assert!(serves(place, 40, now + 3800));
        assert!(!serves(place, 40, now + 4096));
        let full = Cached {
            packets: u16::MAX,
            ..place
        };
        assert!(!serves(full, 40, now));
    }

    #[test]
    fn a_place_is_in_use_for_a_moment_after_each_packet() {
        let now = 4711;
        let mut place = Cached::new(&KEY, 9, &flow(now), now);
        assert!(place.is_in_use(now) && place.is_in_use(now + 200));
        assert!(!place.is_in_use(now + 300));
        assert!(place.count(40, now + 300));
        assert!(place.is_in_use(now + 500) && !place.is_in_use(now + 600));
    }
}
