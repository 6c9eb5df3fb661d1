//! What the configuration's contract has and this version does not do.
//!
//! Everything here is refused in one sentence, never read and ignored. A feature that arrives takes its line
//! out of here and brings its reader.

use std::net::IpAddr;

use super::errors::Diagnostic;
use super::span::Span;
use super::token::{Token, quoted};

/// Top-level tables: key, and how it is written.
pub(super) const TABLES: &[(&str, &str)] = &[
    ("masquerade", "[[masquerade]]"),
    ("output", "[[output]]"),
    ("metrics", "[metrics]"),
    ("original-destination", "[original-destination]"),
];

const IPV6: bool = true;
const LOCAL_TARGETS: bool = true;

/// A listener's or backend's address, `text` in the file.
pub(super) fn address(span: Span, text: &str, address: IpAddr) -> Option<Diagnostic> {
    let refused = IPV6 && address.is_ipv6();
    let message = || {
        format!(
            "{}: IPv6 is not supported by this version yet; expected an IPv4 address",
            quoted(text)
        )
    };
    refused.then(|| Diagnostic::at(span, message()))
}

/// A target, before it is taken apart.
pub(super) fn target(token: Token) -> Option<Diagnostic> {
    let refused = LOCAL_TARGETS && (token.text == "local" || token.text.starts_with("local:"));
    let message = || {
        format!(
            "{}: forwarding to a local port is not supported by this version yet",
            token.quoted()
        )
    };
    refused.then(|| {
        token
            .error(message())
            .help("give the address of another host")
    })
}
