//! What a sweep, which reads every entry anyway, counts on its way: flows by rule and state, and the source ports in
//! use.
//!
//! A flow's state is a function of what both of its directions have seen, and they are met far apart. But most flows
//! need only one look: without TCP the reply's memory decides, and a direction of TCP that has seen the handshake's end
//! and not the connection's is established unless its other direction has. The rest are noted and sorted, so that both directions of a flow stand
//! beside each other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
};

use forwarder_common::{
    flow::{FlowEntry, FlowKey},
    mapping::{Mapping, MappingKey, OUTSIDE},
    tcp::{Seen, State},
};

use super::{
    compile::{TCP, UDP},
    family::Family,
};

/// What a sweep counted of the flows that stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Flows by rule slot, protocol number and state.
    pub flows: BTreeMap<(u32, u8), States>,
    /// Flows by the source ports that they share.
    pub pools: BTreeMap<Pool, u64>,
    /// Client sockets with a port of their own, IPv4 and IPv6.
    pub mappings: [u64; 2],
    /// Established flows, IPv4 and IPv6.
    pub established: [u64; 2],
    /// Half-open flows, IPv4 and IPv6.
    pub half_open: [u64; 2],
}

/// Flows by state, in the order of [`State::ALL`].
pub type States = [u64; State::ALL.len()];

/// Ports of one source address that no two flows can have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    /// Slot of the rule.
    pub rule: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// The translated address.
    pub source: IpAddr,
    /// Towards whom; `None`: towards everybody.
    pub backend: Option<SocketAddr>,
}

/// One direction of a flow, as far as it is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half<A> {
    pub key: FlowKey<A>,
    pub other: FlowKey<A>,
    pub rule: u32,
    pub seen: Seen,
    pub is_original: bool,
}

impl<A: Family> Half<A> {
    /// The direction that `entry` is of.
    pub fn of(key: &FlowKey<A>, entry: &FlowEntry<A>) -> Self {
        Self {
            key: *key,
            other: entry.other_key(key.protocol),
            rule: entry.rule,
            seen: entry.seen,
            is_original: entry.is_original(),
        }
    }
}

/// A direction that needs the other one.
#[derive(Clone, Copy)]
struct Noted {
    /// Of the flow: the same for both of its directions.
    hash: u64,
    rule: u32,
    seen: Seen,
    is_original: bool,
}

/// Counts one family's tables.
pub(super) struct Tally<'a, A> {
    /// Slots of the rules whose ports are counted.
    pooled: &'a BTreeSet<u32>,
    states: HashMap<(u32, u8), States>,
    pools: HashMap<(u32, FlowKey<A>), u64>,
    mappings: BTreeMap<Pool, u64>,
    noted: Vec<Noted>,
    hasher: RandomState,
}

impl<'a, A: Family> Tally<'a, A> {
    pub fn new(pooled: &'a BTreeSet<u32>) -> Self {
        Self {
            pooled,
            states: HashMap::new(),
            pools: HashMap::new(),
            mappings: BTreeMap::new(),
            noted: Vec::new(),
            hasher: RandomState::new(),
        }
    }

    /// Counts one direction.
    pub fn count(&mut self, half: &Half<A>) {
        if half.is_original {
            self.count_port(half);
        }
        if half.key.protocol != TCP {
            if !half.is_original {
                self.add(half, State::of_udp(half.seen), 1);
            }
        } else if half.seen.closing() || !half.seen.has(Seen::CONFIRMED) {
            let flow = if half.is_original {
                &half.key
            } else {
                &half.other
            };
            self.noted.push(Noted {
                hash: self.hasher.hash_one(flow),
                rule: half.rule,
                seen: half.seen,
                is_original: half.is_original,
            });
        } else if half.is_original {
            self.add(half, State::Established, 1);
        }
    }

    /// Counts one side of a mapping.
    pub fn count_mapping(&mut self, key: &MappingKey<A>, mapping: &Mapping<A>) {
        if key.side != OUTSIDE {
            return;
        }
        let pool = Pool {
            rule: mapping.rule,
            protocol: UDP,
            source: key.address.ip(),
            backend: None,
        };
        *self.mappings.entry(pool).or_default() += 1;
    }

    fn add(&mut self, half: &Half<A>, state: State, count: u64) {
        let states = self
            .states
            .entry((half.rule, half.key.protocol))
            .or_default();
        states[state as usize] += count;
    }

    fn count_port(&mut self, half: &Half<A>) {
        let is_translated = half.other.destination != half.key.source;
        if is_translated && self.pooled.contains(&half.rule) {
            // The tuple without what varies within a pool: the port.
            let (from, to) = (half.other.destination, half.other.source);
            let port = half.other.source_port_be;
            let pool = FlowKey::new(from, to, 0, port, half.key.protocol);
            *self.pools.entry((half.rule, pool)).or_default() += 1;
        }
    }

    /// Adds what was counted to `census`.
    pub fn finish(mut self, census: &mut Census) {
        self.settle();
        for (id, states) in self.states {
            let sums = census.flows.entry(id).or_default();
            for (sum, count) in sums.iter_mut().zip(states) {
                *sum += count;
            }
        }
        for ((rule, key), count) in self.pools {
            let backend =
                SocketAddr::new(key.destination.ip(), u16::from_be(key.destination_port_be));
            let pool = Pool {
                rule,
                protocol: key.protocol,
                source: key.source.ip(),
                backend: Some(backend),
            };
            *census.pools.entry(pool).or_default() += count;
        }
        let family = usize::from(A::IPV6);
        census.mappings[family] += self.mappings.values().sum::<u64>();
        census.pools.extend(self.mappings);
    }

    /// Counts the flows that were noted, each once.
    fn settle(&mut self) {
        self.noted.sort_unstable_by_key(|noted| noted.hash);
        for flow in self.noted.chunk_by(|one, next| one.hash == next.hash) {
            let states = self.states.entry((flow[0].rule, TCP)).or_default();
            let seen = |original: bool| {
                let half = flow.iter().find(|half| half.is_original == original);
                half.map(|half| half.seen)
            };
            // A direction that was not noted has seen the handshake's end and nothing else that matters.
            let [original, reply] =
                [seen(true), seen(false)].map(|seen| seen.unwrap_or(Seen::CONFIRMED));
            states[State::of_tcp(original, reply) as usize] += 1;
            // It was taken for one that is established.
            if seen(true).is_none() {
                let established = &mut states[State::Established as usize];
                *established = established.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use forwarder_common::address::V4;
    use rstest::rstest;

    use super::*;

    const SYN: Seen = Seen::SYN;
    const OPEN: Seen = Seen::SYN.and(Seen::CONFIRMED);

    fn halves(client: u16, protocol: u8, seen: [Seen; 2]) -> [Half<V4>; 2] {
        let address = |last: u8| V4::from(std::net::Ipv4Addr::new(192, 0, 2, last));
        let port = client.to_be();
        let key = FlowKey::new(address(1), address(2), port, 110_u16.to_be(), protocol);
        let other = FlowKey::new(address(4), address(3), 110_u16.to_be(), port, protocol);
        let half = |key, other, seen, is_original| Half {
            key,
            other,
            rule: 7,
            seen,
            is_original,
        };
        [
            half(key, other, seen[0], true),
            half(other, key, seen[1], false),
        ]
    }

    #[rstest]
    #[case::open(TCP, [OPEN, OPEN], State::Established)]
    #[case::client_closes(TCP, [OPEN.and(Seen::FIN), OPEN], State::FinWait)]
    #[case::server_closes(TCP, [OPEN, OPEN.and(Seen::FIN)], State::FinWait)]
    #[case::closed(TCP, [OPEN.and(Seen::FIN), OPEN.and(Seen::FIN)], State::TimeWait)]
    #[case::client_resets(TCP, [OPEN.and(Seen::RST), OPEN], State::Close)]
    #[case::server_resets(TCP, [OPEN, OPEN.and(Seen::RST)], State::Close)]
    #[case::asked(TCP, [SYN, Seen::NONE], State::SynSent)]
    #[case::answered(TCP, [SYN, SYN], State::SynReceived)]
    #[case::refused(TCP, [SYN, Seen::RST], State::Close)]
    #[case::reply_missed_the_end_of_the_handshake(TCP, [OPEN, SYN], State::Established)]
    #[case::one_way(UDP, [Seen::NONE, Seen::NONE], State::Unreplied)]
    #[case::both_ways(UDP, [Seen::NONE, Seen::CONFIRMED], State::Stream)]
    fn a_flow_is_counted_once_under_its_state(
        #[case] protocol: u8,
        #[case] seen: [Seen; 2],
        #[case] expected: State,
    ) {
        let pooled = BTreeSet::new();
        let mut tally = Tally::new(&pooled);
        // Two of them, and the directions in either order.
        for client in [40_000, 40_001] {
            let [original, reply] = halves(client, protocol, seen);
            tally.count(&reply);
            tally.count(&original);
        }
        let mut census = Census::default();
        tally.finish(&mut census);
        let mut states = States::default();
        states[expected as usize] = 2;
        assert_eq!(census.flows, BTreeMap::from([((7, protocol), states)]));
        assert_eq!(census.pools, BTreeMap::new());
    }

    #[test]
    fn flows_that_share_ports_are_one_pool() {
        let pooled = BTreeSet::from([7]);
        let mut tally = Tally::new(&pooled);
        for (client, protocol) in [(1, TCP), (2, TCP), (3, UDP)] {
            for half in halves(client, protocol, [OPEN, OPEN]) {
                tally.count(&half);
            }
        }
        let mut census = Census::default();
        tally.finish(&mut census);
        let pool = |protocol| Pool {
            rule: 7,
            protocol,
            source: [192, 0, 2, 3].into(),
            backend: Some("192.0.2.4:110".parse().unwrap()),
        };
        assert_eq!(
            census.pools,
            BTreeMap::from([(pool(TCP), 2), (pool(UDP), 1)])
        );
    }

    #[test]
    fn a_mapping_takes_a_port_towards_everybody() {
        let pooled = BTreeSet::new();
        let mut tally = Tally::<V4>::new(&pooled);
        let source = std::net::Ipv4Addr::new(203, 0, 113, 5);
        for side in [forwarder_common::mapping::INSIDE, OUTSIDE] {
            let key = MappingKey {
                address: V4::from(source),
                port_be: 9,
                protocol: UDP,
                side,
            };
            let mapping = Mapping {
                rule: 3,
                ..Mapping::default()
            };
            tally.count_mapping(&key, &mapping);
        }
        let mut census = Census::default();
        tally.finish(&mut census);
        let pool = Pool {
            rule: 3,
            protocol: UDP,
            source: source.into(),
            backend: None,
        };
        assert_eq!(census.pools, BTreeMap::from([(pool, 1)]));
        assert_eq!(census.mappings, [1, 0]);
    }
}
