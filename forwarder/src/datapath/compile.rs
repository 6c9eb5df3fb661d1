//! From rules to table contents: pure, so that it is tested without a kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use forwarder_common::{
    address::V4,
    rule::{
        Backend, CLIENT_ALLOWED, CLIENT_DENIED, CLIENTS_ALLOWED_UNLESS_LISTED, CLIENTS_ANY,
        CLIENTS_DENIED_UNLESS_LISTED, ListenerKey, PORT_SAME, PORT_SHIFTED, PORT_SINGLE, RuleEntry,
        SCOPE_BITS, SOURCE_MASQUERADE, SOURCE_POOL, SOURCE_PRESERVE, Shape, blocks,
    },
};
use ipnet::IpNet;

use crate::config::{self, BackendPort, Rule, Source};

/// IP protocol numbers (IANA).
pub(super) const TCP: u8 = 6;
/// See [`TCP`].
pub(super) const UDP: u8 = 17;

/// A rule with what only the running system knows.
pub(super) struct Placed<'a> {
    pub(super) rule: &'a Rule,
    /// Its slot in the statistics tables.
    pub(super) slot: u32,
    /// Index of its device; 0 for any.
    pub(super) interface: u32,
}

/// What the tables should hold.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Entries of the listener table; `backends` counts from the start of [`Contents::backends`].
    pub(super) listeners: BTreeMap<ListenerId, RuleEntry<V4>>,
    pub(super) shapes: BTreeSet<Shape>,
    pub(super) backends: Vec<Backend<V4>>,
    pub(super) clients: BTreeMap<ClientId, u32>,
}

/// The fields of a listener key, in an order: address, interface, block, shift, protocol.
pub(super) type ListenerId = ([u8; 4], u32, u16, u8, u8);
/// Prefix length, rule slot and network of a client prefix.
pub(super) type ClientId = (u32, u32, [u8; 4]);

/// Puts every rule's listeners, backends and client prefixes where the programs look for them.
pub(super) fn compile(rules: &[Placed<'_>]) -> anyhow::Result<Contents> {
    let mut contents = Contents::default();
    for placed in rules {
        let mut entry = rule_entry(placed)?;
        entry.backends = u32::try_from(contents.backends.len())?;
        for backend in placed.rule.backends() {
            contents.backends.push(backend_entry(backend)?);
        }
        add_listeners(&mut contents, placed, entry)?;
        add_clients(&mut contents, placed)?;
    }
    Ok(contents)
}

fn rule_entry(placed: &Placed<'_>) -> anyhow::Result<RuleEntry<V4>> {
    let rule = placed.rule;
    let (source_mode, pool_first, pool_last) = match rule.source {
        Source::Preserve => (SOURCE_PRESERVE, V4::default(), V4::default()),
        Source::Masquerade => (SOURCE_MASQUERADE, V4::default(), V4::default()),
        Source::Pool { first, last } => (SOURCE_POOL, v4(first)?, v4(last)?),
    };
    Ok(RuleEntry {
        rule: placed.slot,
        backends: 0,
        backend_count: u16::try_from(rule.backends().len())?,
        first_port: rule.listen.ports.first,
        source_mode,
        clients: match (rule.allow.is_empty(), rule.deny.is_empty()) {
            (true, true) => CLIENTS_ANY,
            (true, false) => CLIENTS_ALLOWED_UNLESS_LISTED,
            (false, _) => CLIENTS_DENIED_UNLESS_LISTED,
        },
        padding: 0,
        pool_first,
        pool_last,
    })
}

fn backend_entry(backend: &config::Backend) -> anyhow::Result<Backend<V4>> {
    let (port_mode, port) = match backend.port {
        BackendPort::Same => (PORT_SAME, 0),
        BackendPort::Single(port) => (PORT_SINGLE, port),
        BackendPort::First(port) => (PORT_SHIFTED, port),
    };
    Ok(Backend {
        address: v4(backend.address)?,
        port,
        port_mode,
        padding: 0,
    })
}

fn add_listeners(
    contents: &mut Contents,
    placed: &Placed<'_>,
    entry: RuleEntry<V4>,
) -> anyhow::Result<()> {
    let listen = placed.rule.listen;
    let address = listen.address.map(v4).transpose()?;
    let protocols = [(placed.rule.tcp, TCP), (placed.rule.udp, UDP)];
    for block in blocks(listen.ports.first, listen.ports.last) {
        contents.shapes.insert(Shape {
            any_address: u8::from(address.is_none()),
            any_interface: u8::from(placed.interface == 0),
            shift: block.shift,
            padding: 0,
        });
        for (_, protocol) in protocols.into_iter().filter(|(taken, _)| *taken) {
            let id = (
                address.unwrap_or_default().octets(),
                placed.interface,
                block.first,
                block.shift,
                protocol,
            );
            contents.listeners.insert(id, entry);
        }
    }
    Ok(())
}

/// The longest prefix decides, so an allowed prefix inside a denied one must say "denied": a deny wins.
fn add_clients(contents: &mut Contents, placed: &Placed<'_>) -> anyhow::Result<()> {
    for allowed in &placed.rule.allow {
        let denied = placed
            .rule
            .deny
            .iter()
            .any(|denied| denied.contains(allowed));
        let verdict = if denied {
            CLIENT_DENIED
        } else {
            CLIENT_ALLOWED
        };
        contents
            .clients
            .insert(client_id(placed.slot, allowed)?, verdict);
    }
    for denied in &placed.rule.deny {
        contents
            .clients
            .insert(client_id(placed.slot, denied)?, CLIENT_DENIED);
    }
    Ok(())
}

fn client_id(slot: u32, prefix: &IpNet) -> anyhow::Result<ClientId> {
    let length = SCOPE_BITS + u32::from(prefix.prefix_len());
    Ok((length, slot, v4(prefix.network())?.octets()))
}

/// The listener key of an id.
pub(super) fn listener_key(id: &ListenerId) -> ListenerKey<V4> {
    let (address, interface, block, shift, protocol) = *id;
    ListenerKey {
        address: V4::new(address),
        interface,
        block,
        shift,
        protocol,
    }
}

/// The id of a listener key.
pub(super) fn listener_id(key: &ListenerKey<V4>) -> ListenerId {
    (
        key.address.octets(),
        key.interface,
        key.block,
        key.shift,
        key.protocol,
    )
}

fn v4(address: IpAddr) -> anyhow::Result<V4> {
    match address {
        IpAddr::V4(address) => Ok(address.into()),
        IpAddr::V6(address) => {
            anyhow::bail!("{address}: IPv6 is not supported by this version yet")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(rules: &str) -> Contents {
        let text = format!("[[interface]]\nname = \"eth0\"\n{rules}");
        let config = config::parse("test.toml", &text).unwrap();
        let placed: Vec<_> = config
            .rules
            .iter()
            .enumerate()
            .map(|(slot, rule)| Placed {
                rule,
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
                ([192, 0, 2, 1], 0, 53, 0, TCP),
                ([192, 0, 2, 1], 0, 53, 0, UDP)
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
                (16, [10, 1, 0, 0], CLIENT_ALLOWED),
                (23, [10, 1, 2, 0], CLIENT_DENIED),
                (24, [10, 1, 2, 0], CLIENT_DENIED),
                (24, [192, 0, 2, 0], CLIENT_ALLOWED),
            ]
        );
    }
}
