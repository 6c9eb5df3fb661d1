//! From a packet to the rule whose listener it meets.

use forwarder_common::{
    address::mix,
    flow::FlowKey,
    rule::{Backend, ListenerKey, MAX_SHAPES, RuleEntry, Shape, ShapeRange},
    settings::Settings,
};

use crate::maps::{Family, SHAPES};

/// Where a listener is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What came in by this device: rules for it, and those for any.
    Device(u32),
    /// Only this [`forwarder_common::rule::ListenerKey::interface`].
    Only(u32),
}

/// The rule for packets of `key`: one hash probe for each shape in use. `listener` is room for a key.
#[inline(always)]
pub fn find<A: Family>(
    key: &FlowKey<A>,
    scope: Scope,
    settings: &Settings,
    listener: &mut ListenerKey<A>,
) -> Option<&'static RuleEntry<A>> {
    let shapes = ShapeRange::from_raw(settings.shapes);
    for index in 0..MAX_SHAPES {
        if index >= shapes.count() {
            break;
        }
        let Some(shape) = SHAPES.get(shapes.first() + index) else {
            break;
        };
        let interface = match scope {
            Scope::Only(_) if shape.any_interface != 0 => continue,
            Scope::Device(_) if shape.any_interface != 0 => 0,
            Scope::Device(interface) | Scope::Only(interface) => interface,
        };
        fill(listener, key, interface, shape);
        // SAFETY: rules are replaced whole by userspace; the entry stays readable until the program ends.
        if let Some(rule) = unsafe { A::LISTENERS.get(&*listener) } {
            return Some(rule);
        }
    }
    None
}

#[inline(always)]
fn fill<A: Family>(listener: &mut ListenerKey<A>, key: &FlowKey<A>, interface: u32, shape: &Shape) {
    let port = u32::from(u16::from_be(key.destination_port_be));
    // A shift beyond 16 never is in the table; the mask tells the verifier.
    let shift = shape.shift & 31;
    listener.address = if shape.any_address != 0 {
        A::default()
    } else {
        key.destination
    };
    listener.interface = interface;
    listener.block = ((port >> shift) << shift) as u16;
    listener.shift = shift;
    listener.protocol = key.protocol;
}

/// The tuple of a new flow's packets after DNAT: its backend's address and port, the source still the client.
/// Where the rule has no backend, or one without an address, the destination stays.
#[inline(always)]
pub fn target<A: Family>(key: &FlowKey<A>, rule: &RuleEntry<A>) -> Option<FlowKey<A>> {
    if rule.backend_count == 0 {
        return Some(*key);
    }
    let backend = choose_backend(key, rule)?;
    let port = backend.port_for(u16::from_be(key.destination_port_be), rule.first_port);
    let address = if backend.address.is_unspecified() {
        key.destination
    } else {
        backend.address
    };
    Some(FlowKey::new(
        key.source,
        address,
        key.source_port_be,
        port.to_be(),
        key.protocol,
    ))
}

/// The backend for a new flow: by the client's address and port, so that connections of one client
/// spread and a repeated SYN goes where the first one went.
#[inline(always)]
fn choose_backend<A: Family>(key: &FlowKey<A>, rule: &RuleEntry<A>) -> Option<&'static Backend<A>> {
    let mut index = rule.backends;
    if rule.backend_count > 1 {
        let client = key.source.digest() ^ u32::from(key.source_port_be).rotate_left(16);
        index += mix(client) % u32::from(rule.backend_count);
    }
    A::BACKENDS.get(index)
}
