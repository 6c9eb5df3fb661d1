//! What only the whole of an `[[output]]` can tell.

use super::check_rule::{equal_lengths, like};
use super::errors::Diagnostic;
use super::output::RawOutput;
use super::token::quoted;
use super::tree::Reader;

/// All checks of one rule; those on values that could not be read are left out.
pub(super) fn output(reader: &mut Reader, rule: &RawOutput) {
    let (Some(destination), Some(backend)) = (&rule.destination, &rule.backend) else {
        return;
    };
    let (from, to) = (destination.value, &backend.value);
    let address = ("target", backend.span, to.address);
    like(reader, address, (from.address, "destination"));
    if let Some(ports) = &to.ports {
        equal_lengths(reader, ports, (from.ports, "the destination's"));
    }
    let same_ports = to
        .ports
        .as_ref()
        .is_none_or(|ports| ports.range == from.ports);
    if to.address == from.address && same_ports {
        let message = format!(
            "target {} is the destination itself: expected another address or port",
            quoted(reader.source(backend.span))
        );
        reader.push(Diagnostic::whole(backend.span, message));
    }
}
