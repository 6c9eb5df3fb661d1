//! Ports and port ranges.

use super::errors::Diagnostic;
use super::model::PortRange;
use super::token::Token;
use super::tree::Reader;

/// The same as [`range`], with its problems noted.
pub(super) fn read(reader: &mut Reader, token: Token) -> Option<PortRange> {
    range(token)
        .map_err(|found| found.into_iter().for_each(|one| reader.push(one)))
        .ok()
}

/// `PORT` or `PORT-PORT`; with two bad ports both are noted.
pub(super) fn range(token: Token) -> Result<PortRange, Vec<Diagnostic>> {
    let Some((first, last)) = token.split_once('-') else {
        let port = port(token).map_err(|found| vec![found])?;
        return Ok(PortRange {
            first: port,
            last: port,
        });
    };
    match (port(first), port(last)) {
        (Ok(first), Ok(last)) => {
            PortRange::new(first, last).ok_or_else(|| vec![reversed(token, first, last)])
        }
        (first, last) => Err([first.err(), last.err()].into_iter().flatten().collect()),
    }
}

fn reversed(token: Token, first: u16, last: u16) -> Diagnostic {
    let message = format!(
        "reversed range {}: expected the lower port first",
        token.quoted()
    );
    token
        .error(message)
        .help(format!("did you mean `{last}-{first}`?"))
}

fn port(token: Token) -> Result<u16, Diagnostic> {
    let digits = !token.text.is_empty() && token.text.bytes().all(|byte| byte.is_ascii_digit());
    // Not `parse` alone: it takes "+110".
    let number = if digits {
        token.text.parse().ok()
    } else {
        None
    };
    number
        .filter(|port| *port != 0)
        .ok_or_else(|| bad_port(token))
}

pub(super) fn bad_port(token: Token) -> Diagnostic {
    let found = token.error(format!(
        "bad port {}: expected a number from 1 to 65535",
        token.quoted()
    ));
    let known = SERVICES
        .iter()
        .find(|(name, _)| token.text.eq_ignore_ascii_case(name));
    found.maybe_help(known.map(|(_, port)| format!("did you mean `{port}`?")))
}

/// Names people try; the services file of a host is not asked, a rule must mean the same on every host.
const SERVICES: [(&str, u16); 10] = [
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("http", 80),
    ("pop3", 110),
    ("imap", 143),
    ("https", 443),
    ("submission", 587),
    ("imaps", 993),
    ("pop3s", 995),
];
