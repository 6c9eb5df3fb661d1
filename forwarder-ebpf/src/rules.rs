//! From a packet to the rule whose listener it meets.

use forwarder_common::{
    address::{Address, V4, mix},
    flow::FlowKey,
    rule::{Backend, ListenerKey, MAX_SHAPES, RuleEntry, Shape, ShapeRange},
    settings::Settings,
};

use crate::maps::{BACKENDS, LISTENERS, SHAPES};

/// The rule for packets of `key` that came in by `ingress`: one hash probe for each shape in use.
#[inline(always)]
pub fn find(
    key: &FlowKey<V4>,
    ingress: u32,
    settings: &Settings,
) -> Option<&'static RuleEntry<V4>> {
    let shapes = ShapeRange::from_raw(settings.shapes);
    for index in 0..MAX_SHAPES {
        if index >= shapes.count() {
            break;
        }
        let Some(shape) = SHAPES.get(shapes.first() + index) else {
            break;
        };
        // SAFETY: rules are replaced whole by userspace; the entry stays readable until the program ends.
        if let Some(rule) = unsafe { LISTENERS.get(listener(key, ingress, shape)) } {
            return Some(rule);
        }
    }
    None
}

#[inline(always)]
fn listener(key: &FlowKey<V4>, ingress: u32, shape: &Shape) -> ListenerKey<V4> {
    let port = u32::from(u16::from_be(key.destination_port_be));
    // A shift beyond 16 never is in the table; the mask tells the verifier.
    let shift = shape.shift & 31;
    ListenerKey {
        address: if shape.any_address != 0 {
            V4::default()
        } else {
            key.destination
        },
        interface: if shape.any_interface != 0 { 0 } else { ingress },
        block: ((port >> shift) << shift) as u16,
        shift,
        protocol: key.protocol,
    }
}

/// The tuple of a new flow's packets after DNAT: its backend's address and port, the source still the client.
#[inline(always)]
pub fn target(key: &FlowKey<V4>, rule: &RuleEntry<V4>) -> Option<FlowKey<V4>> {
    let backend = choose_backend(key, rule)?;
    let port = backend.port_for(u16::from_be(key.destination_port_be), rule.first_port);
    Some(FlowKey::new(
        key.source,
        backend.address,
        key.source_port_be,
        port.to_be(),
        key.protocol,
    ))
}

/// The backend for a new flow: by the client's address and port, so that connections of one client
/// spread and a repeated SYN goes where the first one went.
#[inline(always)]
fn choose_backend(key: &FlowKey<V4>, rule: &RuleEntry<V4>) -> Option<&'static Backend<V4>> {
    let mut index = rule.backends;
    if rule.backend_count > 1 {
        let client = key.source.digest() ^ u32::from(key.source_port_be).rotate_left(16);
        index += mix(client) % u32::from(rule.backend_count);
    }
    BACKENDS.get(index)
}
