//! Services of this host, and other forwarders.

use std::net::IpAddr;

use super::{local_ports, protocols};
use crate::config::{PortRange, Protocol, Rule, Target};
use crate::doctor::Case;
use crate::doctor::facts::Socket;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

/// How many ports behind `local:` are looked at one by one.
const MOST_PORTS: usize = 1024;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in &case.config.rules {
        match rule.target {
            Target::Backends(_) => found.extend(taken(case, rule)),
            Target::Local(_) => found.extend(closed(case, rule)),
        }
    }
    found.extend(forwarder(case));
    found
}

/// Services that are behind a listener.
fn taken(case: &Case<'_>, rule: &Rule) -> Vec<Finding> {
    let behind = case.facts.sockets.iter().filter(|socket| {
        protocols(rule.tcp, rule.udp).any(|protocol| protocol == socket.protocol)
            && rule.listen.ports.contains(socket.address.port())
            && meets(socket, rule.listen.address)
    });
    behind.map(|socket| behind_listener(rule, socket)).collect()
}

fn behind_listener(rule: &Rule, socket: &Socket) -> Finding {
    let port = socket.address.port();
    let protocol = socket.protocol.name();
    let owner = socket.owner.as_ref();
    let whose = owner.map_or_else(
        || "A service of this host".to_owned(),
        |owner| format!("{} (process {})", owner.name, owner.pid),
    );
    let what = format!(
        "{whose} listens on {protocol} port {port}, which rule `{}` takes.",
        rule.name
    );
    let finding = Finding::warning(Check::PortTaken, what).why(
        "From other hosts it cannot be reached any more: the forwarder has the packets first.",
    );
    match owner {
        Some(owner) => match &owner.unit {
            Some(unit) => finding.run(format!("systemctl disable --now {}", shell(unit))),
            None => finding.run(format!("kill {}", owner.pid)),
        },
        None => finding.advise(format!(
            "See whose it is (sudo ss -lnp 'sport = :{port}') and stop it, or leave it be."
        )),
    }
}

/// Whether a socket takes what other hosts send to `address`, or to any address.
fn meets(socket: &Socket, address: Option<IpAddr>) -> bool {
    let own = socket.address.ip();
    if own.is_loopback() {
        return false;
    }
    match address {
        None => true,
        // [::] takes IPv4 as well, unless told otherwise.
        Some(address) if own.is_unspecified() => own.is_ipv6() || address.is_ipv4(),
        Some(address) => own == address,
    }
}

/// A port behind `local:` on which nobody listens.
fn closed(case: &Case<'_>, rule: &Rule) -> Option<Finding> {
    let ports = local_ports(rule)?;
    let missing = |protocol: Protocol, port: u16| {
        !case.facts.sockets.iter().any(|socket| {
            socket.protocol == protocol
                && socket.address.port() == port
                && meets(socket, rule.listen.address)
        })
    };
    let mut gaps = Vec::new();
    for protocol in protocols(rule.tcp, rule.udp) {
        let unheard = (ports.first..=ports.last)
            .take(MOST_PORTS)
            .filter(|port| missing(protocol, *port));
        gaps.extend(unheard.map(|port| (protocol, port)));
    }
    let (protocol, port) = *gaps.first()?;
    let name = protocol.name();
    let others = match gaps.len() {
        1 => String::new(),
        count => format!(", and on {} more", count - 1),
    };
    let PortRange { first, last } = ports;
    let what = format!(
        "Nothing listens on {name} port {port} of this host{others}, where rule `{}` delivers.",
        rule.name
    );
    let listing = match protocol {
        Protocol::Tcp => "ss -ltnp",
        Protocol::Udp => "ss -lunp",
    };
    let whose = match first == last {
        true => format!("sport = :{first}"),
        false => format!("sport >= :{first} and sport <= :{last}"),
    };
    Some(
        Finding::error(Check::LocalPortClosed, what)
            .why("Clients are refused. A service that listens on 127.0.0.1 only does not count: packets keep the address that the client asked for.")
            .advise(format!(
                "Start the service; `{listing} '{whose}'` shows who listens."
            )),
    )
}

fn forwarder(case: &Case<'_>) -> Option<Finding> {
    if case.facts.forwarder {
        return Some(
            Finding::note(Check::ForwarderRunning, "A forwarder runs in this network namespace.")
                .why("A second one is refused. What its own programs and tables are is not counted against it here.")
                .advise("`forwarder status` shows it; `forwarder reload` gives it a changed file."),
        );
    }
    if !case.facts.pinned {
        return None;
    }
    let what = "An earlier forwarder has left its programs at work, and no daemon runs.";
    Some(
        Finding::warning(Check::ForwarderLeft, what)
            .why("Connections go on, but flows never expire, and changes of routes are not followed.")
            .run("forwarder detach")
            .advise("Or start it: `forwarder run` takes everything over."),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Facts;
    use super::super::super::facts::sockets::{Owner, Socket};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, delivering, findings, found, healthy};
    use crate::config::Protocol;
    use rstest::rstest;

    fn socket(address: &str, owner: Option<Owner>) -> Socket {
        Socket {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            owner,
        }
    }

    fn dovecot(unit: Option<&str>) -> Option<Owner> {
        Some(Owner {
            pid: 42,
            name: "dovecot".to_owned(),
            unit: unit.map(str::to_owned),
        })
    }

    #[rstest]
    #[case::service(
        "0.0.0.0:110",
        dovecot(Some("dovecot.service")),
        "$ systemctl disable --now dovecot.service"
    )]
    #[case::process("203.0.113.5:110", dovecot(None), "$ kill 42")]
    #[case::both_families("[::]:110", dovecot(None), "$ kill 42")]
    #[case::somebody(
        "0.0.0.0:110",
        None,
        "See whose it is (sudo ss -lnp 'sport = :110') and stop it, or leave it be."
    )]
    fn a_service_behind_a_listener(
        #[case] address: &str,
        #[case] owner: Option<Owner>,
        #[case] mend: &str,
    ) {
        let change = |facts: &mut Facts| facts.sockets = vec![socket(address, owner)];
        assert_eq!(
            found(CONFIG, change),
            (Check::PortTaken, Severity::Warning, mend.to_owned())
        );
    }

    #[rstest]
    #[case::loopback("127.0.0.1:110")]
    #[case::other_address("203.0.113.6:110")]
    #[case::other_port("0.0.0.0:111")]
    fn a_service_elsewhere(#[case] address: &str) {
        let mut facts = healthy();
        facts.sockets = vec![socket(address, dovecot(None))];
        assert_eq!(findings(CONFIG, &facts), []);
    }

    #[rstest]
    #[case::nobody(None, 1)]
    #[case::loopback(Some("127.0.0.1:25"), 1)]
    #[case::everywhere(Some("0.0.0.0:25"), 0)]
    #[case::there(Some("203.0.113.5:25"), 0)]
    fn a_service_to_deliver_to(#[case] address: Option<&str>, #[case] count: usize) {
        let mut facts = healthy();
        facts.sockets = address
            .map(|address| socket(address, None))
            .into_iter()
            .collect();
        let all = findings(&delivering(), &facts);
        let checks: Vec<_> = all.iter().map(|one| (one.check, one.severity)).collect();
        assert_eq!(
            checks,
            vec![(Check::LocalPortClosed, Severity::Error); count]
        );
    }

    #[test]
    fn other_forwarders() {
        let (running, severity, _) = found(CONFIG, |facts| facts.forwarder = true);
        assert_eq!(
            (running, severity),
            (Check::ForwarderRunning, Severity::Note)
        );
        let left = found(CONFIG, |facts| facts.pinned = true);
        let mend = "$ forwarder detach".to_owned();
        assert_eq!(left, (Check::ForwarderLeft, Severity::Warning, mend));
    }
}
