//! From rules to table contents: pure, so that it is tested without a kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use forwarder_common::{
    network::Network,
    rule::{
        Backend, CLIENT_ALLOWED, CLIENT_DENIED, CLIENTS_ALLOWED_UNLESS_LISTED, CLIENTS_ANY,
        CLIENTS_DENIED_UNLESS_LISTED, ENDPOINT_INDEPENDENT, LOCAL, ListenerKey, MSS_AUTO, OUTBOUND,
        OUTBOUND_SHADOW, PORT_SAME, PORT_SHIFTED, PORT_SINGLE, RESET_UNKNOWN, RuleEntry,
        SCOPE_BITS, SHADOW, SOURCE_MASQUERADE, SOURCE_POOL, SOURCE_PRESERVE, Shape, TO_LOCAL,
        UNFILTERED, blocks,
    },
};
use ipnet::IpNet;

use super::family::Family;
use crate::config::{
    self, BackendPort, Filtering, Masquerade, MssClamp, OnChange, Output, PortRange, Protocol,
    Rule, Source, Target,
};

/// IP protocol numbers (IANA).
pub(super) const TCP: u8 = 6;
/// See [`TCP`].
pub(super) const UDP: u8 = 17;

/// A rule of any kind.
#[derive(Clone, Copy)]
pub(super) enum AnyRule<'a> {
    Forward(&'a Rule),
    Masquerade(&'a Masquerade),
    Output(&'a Output),
}

impl<'a> AnyRule<'a> {
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Forward(rule) => &rule.name,
            Self::Masquerade(rule) => &rule.name,
            Self::Output(rule) => &rule.name,
        }
    }

    pub(super) fn interface(self) -> Option<&'a str> {
        match self {
            Self::Forward(rule) => rule.interface.as_deref(),
            Self::Masquerade(rule) => rule.interface.as_deref(),
            Self::Output(_) => None,
        }
    }

    pub(super) fn on_change(self) -> Option<OnChange> {
        match self {
            Self::Forward(rule) => rule.on_change,
            Self::Masquerade(rule) => rule.on_change,
            Self::Output(rule) => rule.on_change,
        }
    }
}

/// A rule with what only the running system knows.
pub(super) struct Placed<'a> {
    pub(super) rule: AnyRule<'a>,
    /// Its slot in the statistics tables.
    pub(super) slot: u32,
    /// Index of its device; 0 for any.
    pub(super) interface: u32,
}

impl Placed<'_> {
    /// Its slot, if its flows share the ports of a source address towards each of its backends.
    pub(super) fn pooled(&self) -> Option<u32> {
        match self.rule {
            AnyRule::Forward(rule) if rule.source != Source::Preserve => Some(self.slot),
            _ => None,
        }
    }
}

/// What the tables of one family should hold.
#[derive(Debug)]
pub(super) struct Contents<A> {
    /// Entries of the listener table; `backends` counts from the start of [`Contents::backends`].
    pub(super) listeners: BTreeMap<ListenerId, RuleEntry<A>>,
    pub(super) shapes: BTreeSet<Shape>,
    pub(super) backends: Vec<Backend<A>>,
    /// Where in the table the first of them is, once [`Contents::listeners`] counts from the table's start.
    pub(super) start: u32,
    pub(super) clients: BTreeMap<ClientId, u32>,
    /// Slots by client prefix and device.
    pub(super) outbound: BTreeMap<ClientId, u32>,
}

/// The fields of a listener key, in an order: address, interface, block, shift, protocol. `None`: any address.
pub(super) type ListenerId = (Option<IpAddr>, u32, u16, u8, u8);
/// Prefix length, rule slot or device, and network of a client prefix.
pub(super) type ClientId = (u32, u32, IpAddr);

/// Puts every rule's listeners, backends and client prefixes where the programs look for them, as far as they
/// are of the family.
pub(super) fn compile<A: Family + Network>(rules: &[Placed<'_>]) -> anyhow::Result<Contents<A>> {
    let mut contents = Contents {
        listeners: BTreeMap::new(),
        shapes: BTreeSet::new(),
        backends: Vec::new(),
        start: 0,
        clients: BTreeMap::new(),
        outbound: BTreeMap::new(),
    };
    for placed in rules {
        match placed.rule {
            AnyRule::Forward(rule) => contents.forward(placed, rule)?,
            AnyRule::Masquerade(rule) => contents.masquerade(placed, rule),
            AnyRule::Output(rule) => contents.output(placed, rule)?,
        }
    }
    Ok(contents)
}

impl<A: Family + Network> Contents<A> {
    /// Whether flows of these rules make mappings.
    pub(super) fn makes_mappings(&self) -> bool {
        self.listeners.iter().any(|((.., protocol), entry)| {
            *protocol == UDP && entry.flags & ENDPOINT_INDEPENDENT != 0
        })
    }

    fn forward(&mut self, placed: &Placed<'_>, rule: &Rule) -> anyhow::Result<()> {
        let served = if A::IPV6 {
            rule.serves_v6()
        } else {
            rule.serves_v4()
        };
        if !served {
            return Ok(());
        }
        let mut entry = RuleEntry {
            rule: placed.slot,
            first_port: rule.listen.ports.first,
            clients: match (rule.allow.is_empty(), rule.deny.is_empty()) {
                (true, true) => CLIENTS_ANY,
                (true, false) => CLIENTS_ALLOWED_UNLESS_LISTED,
                (false, _) => CLIENTS_DENIED_UNLESS_LISTED,
            },
            mss: segment_size(rule.mss_clamp),
            flags: flag(rule.reset_unknown, RESET_UNKNOWN) | flag(rule.shadow, SHADOW),
            ..source(rule.source)
        };
        match &rule.target {
            Target::Backends(backends) => self.backends(&mut entry, backends)?,
            Target::Local(port) => {
                entry.flags |= TO_LOCAL;
                entry.backend_count = 1;
                entry.backends = u32::try_from(self.backends.len())?;
                self.backends.push(backend_port(A::default(), *port));
            }
        }
        for (_, protocol) in protocols(rule.tcp, rule.udp) {
            self.listen(
                rule.listen.address,
                placed.interface,
                rule.listen.ports,
                protocol,
                entry,
            );
        }
        self.clients(placed.slot, rule);
        Ok(())
    }

    fn masquerade(&mut self, placed: &Placed<'_>, rule: &Masquerade) {
        let prefixes: Vec<_> = rule
            .from
            .iter()
            .filter_map(|prefix| client_id::<A>(placed.interface, prefix))
            .collect();
        if prefixes.is_empty() {
            return;
        }
        let slot = placed.slot | flag(rule.shadow, OUTBOUND_SHADOW);
        for prefix in prefixes {
            self.outbound.insert(prefix, slot);
        }
        let unfiltered = match rule.filtering {
            Filtering::AddressAndPort => 0,
            Filtering::EndpointIndependent => UNFILTERED,
        };
        let entry = RuleEntry {
            rule: placed.slot,
            mss: segment_size(rule.mss_clamp),
            flags: RESET_UNKNOWN | ENDPOINT_INDEPENDENT | unfiltered | flag(rule.shadow, SHADOW),
            ..source(rule.source)
        };
        let scope = OUTBOUND | slot;
        let all = PortRange {
            first: 0,
            last: u16::MAX,
        };
        for ports in &rule.ports {
            let protocol = match ports.protocol {
                Protocol::Tcp => TCP,
                Protocol::Udp => UDP,
            };
            self.listen(None, scope, ports.ports, protocol, entry);
        }
        if rule.ports.is_empty() {
            self.listen(None, scope, all, TCP, entry);
            self.listen(None, scope, all, UDP, entry);
        }
        // Echo requests, whatever the ports.
        self.listen(None, scope, all, A::ICMP, entry);
    }

    fn output(&mut self, placed: &Placed<'_>, rule: &Output) -> anyhow::Result<()> {
        if A::of(rule.address).is_none() {
            return Ok(());
        }
        let mut entry = RuleEntry {
            rule: placed.slot,
            first_port: rule.ports.first,
            ..source(Source::Preserve)
        };
        self.backends(&mut entry, std::slice::from_ref(&rule.backend))?;
        for (_, protocol) in protocols(rule.tcp, rule.udp) {
            self.listen(Some(rule.address), LOCAL, rule.ports, protocol, entry);
        }
        Ok(())
    }

    fn backends(
        &mut self,
        entry: &mut RuleEntry<A>,
        backends: &[config::Backend],
    ) -> anyhow::Result<()> {
        entry.backends = u32::try_from(self.backends.len())?;
        entry.backend_count = u16::try_from(backends.len())?;
        for backend in backends {
            // The configuration has seen to it that a rule is of one family.
            let address = A::of(backend.address).unwrap_or_default();
            self.backends.push(backend_port(address, backend.port));
        }
        Ok(())
    }

    fn listen(
        &mut self,
        address: Option<IpAddr>,
        interface: u32,
        ports: PortRange,
        protocol: u8,
        entry: RuleEntry<A>,
    ) {
        for block in blocks(ports.first, ports.last) {
            self.shapes.insert(Shape {
                any_address: u8::from(address.is_none()),
                any_interface: u8::from(interface == 0),
                shift: block.shift,
                padding: 0,
            });
            let id = (address, interface, block.first, block.shift, protocol);
            self.listeners.insert(id, entry);
        }
    }

    /// The longest prefix decides, so an allowed prefix inside a denied one must say "denied": a deny wins.
    fn clients(&mut self, slot: u32, rule: &Rule) {
        for allowed in &rule.allow {
            let denied = rule.deny.iter().any(|denied| denied.contains(allowed));
            let verdict = if denied {
                CLIENT_DENIED
            } else {
                CLIENT_ALLOWED
            };
            self.clients
                .extend(client_id::<A>(slot, allowed).map(|id| (id, verdict)));
        }
        for denied in &rule.deny {
            self.clients
                .extend(client_id::<A>(slot, denied).map(|id| (id, CLIENT_DENIED)));
        }
    }
}

fn protocols(tcp: bool, udp: bool) -> impl Iterator<Item = (bool, u8)> {
    [(tcp, TCP), (udp, UDP)]
        .into_iter()
        .filter(|(taken, _)| *taken)
}

/// An entry with nothing but its source.
fn source<A: Family>(source: Source) -> RuleEntry<A> {
    let (source_mode, first, last) = match source {
        Source::Preserve => (SOURCE_PRESERVE, None, None),
        Source::Masquerade => (SOURCE_MASQUERADE, None, None),
        Source::Pool { first, last } => (SOURCE_POOL, A::of(first), A::of(last)),
    };
    RuleEntry {
        source_mode,
        pool_first: first.unwrap_or_default(),
        pool_last: last.unwrap_or_default(),
        ..RuleEntry::default()
    }
}

fn flag(set: bool, flag: u32) -> u32 {
    if set { flag } else { 0 }
}

fn segment_size(clamp: Option<MssClamp>) -> u16 {
    match clamp {
        None => 0,
        Some(MssClamp::Auto) => MSS_AUTO,
        Some(MssClamp::Bytes(bytes)) => bytes,
    }
}

fn backend_port<A: Family>(address: A, port: BackendPort) -> Backend<A> {
    let (port_mode, port) = match port {
        BackendPort::Same => (PORT_SAME, 0),
        BackendPort::Single(port) => (PORT_SINGLE, port),
        BackendPort::First(port) => (PORT_SHIFTED, port),
    };
    Backend {
        address,
        port,
        port_mode,
        padding: 0,
    }
}

fn client_id<A: Family>(scope: u32, prefix: &IpNet) -> Option<ClientId> {
    A::of(prefix.network())?;
    let length = SCOPE_BITS + u32::from(prefix.prefix_len());
    Some((length, scope, prefix.network()))
}

/// The listener key of an id.
pub(super) fn listener_key<A: Family>(id: &ListenerId) -> ListenerKey<A> {
    let (address, interface, block, shift, protocol) = *id;
    ListenerKey {
        address: address.and_then(A::of).unwrap_or_default(),
        interface,
        block,
        shift,
        protocol,
    }
}

/// The id of a listener key.
pub(super) fn listener_id<A: Family>(key: &ListenerKey<A>) -> ListenerId {
    (
        (!key.address.is_unspecified()).then(|| key.address.ip()),
        key.interface,
        key.block,
        key.shift,
        key.protocol,
    )
}

#[cfg(test)]
mod tests {
    use forwarder_common::address::V4;

    use super::*;

    fn contents(rules: &str) -> Contents<V4> {
        let text = format!("[[interface]]\nname = \"eth0\"\n{rules}");
        let config = config::parse("test.toml", &text).unwrap();
        let placed: Vec<_> = config
            .rules
            .iter()
            .enumerate()
            .map(|(slot, rule)| Placed {
                rule: AnyRule::Forward(rule),
                slot: slot as u32,
                interface: u32::from(rule.interface.is_some()) * 7,
            })
            .collect();
        compile(&placed).unwrap()
    }

    #[test]
    fn one_port_of_both_protocols_is_two_listeners() {
        let contents = contents(
            "[[forward]]\nprotocol = [\"tcp\", \"udp\"]\nlisten = \"192.0.2.1:53\"\nto = \"198.51.100.1\"\n",
        );
        let ids: Vec<_> = contents.listeners.keys().copied().collect();
        assert_eq!(
            ids,
            [
                (Some([192, 0, 2, 1].into()), 0, 53, 0, TCP),
                (Some([192, 0, 2, 1].into()), 0, 53, 0, UDP)
            ]
        );
        assert_eq!(contents.backends.len(), 1);
        assert_eq!(contents.backends[0].port_mode, PORT_SAME);
    }

    #[test]
    fn sixty_thousand_ports_take_few_entries() {
        let contents = contents("[[forward]]\nlisten = \"1025-61024\"\nto = \"198.51.100.1\"\n");
        assert!(
            contents.listeners.len() <= 30,
            "{}",
            contents.listeners.len()
        );
    }

    #[test]
    fn addresses_come_before_wildcards_and_interfaces_before_any() {
        let contents = contents(
            "[[forward]]\nlisten = 25\nto = \"198.51.100.1\"\n\
             [[forward]]\nlisten = \"192.0.2.1:25\"\nto = \"198.51.100.2\"\n\
             [[forward]]\nlisten = \"192.0.2.1:25\"\ninterface = \"eth0\"\nto = \"198.51.100.3\"\n",
        );
        let order: Vec<_> = contents
            .shapes
            .iter()
            .map(|shape| (shape.any_address, shape.any_interface))
            .collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn a_deny_wins_over_an_allow_inside_it() {
        let contents = contents(
            "[[forward]]\nlisten = 25\nto = \"198.51.100.1\"\n\
             allow = [\"10.1.0.0/16\", \"10.1.2.0/24\", \"192.0.2.0/24\"]\ndeny = [\"10.1.2.0/23\"]\n",
        );
        let verdicts: Vec<_> = contents
            .clients
            .iter()
            .map(|((length, _, network), verdict)| (*length - SCOPE_BITS, *network, *verdict))
            .collect();
        assert_eq!(
            verdicts,
            [
                (16, IpAddr::from([10, 1, 0, 0]), CLIENT_ALLOWED),
                (23, IpAddr::from([10, 1, 2, 0]), CLIENT_DENIED),
                (24, IpAddr::from([10, 1, 2, 0]), CLIENT_DENIED),
                (24, IpAddr::from([192, 0, 2, 0]), CLIENT_ALLOWED),
            ]
        );
    }
}
