//! Whether backends answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::routes::named;
use crate::config::{Protocol, Source};
use crate::doctor::Case;
use crate::doctor::facts::{Answer, Neighbour, Probe, Way};
use crate::doctor::finding::{Check, Finding};
use crate::report::counted;

pub(super) fn summary(case: &Case<'_>) -> String {
    let backends: BTreeSet<_> = case.facts.probes.iter().map(|one| one.address).collect();
    if backends.is_empty() {
        return "none to ask".to_owned();
    }
    let open = case
        .facts
        .probes
        .iter()
        .filter(|one| one.answer == Answer::Open);
    format!(
        "{} asked, {} answered",
        counted(backends.len(), "backend"),
        counted(open.count(), "port")
    )
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let probes = case.facts.probes.iter();
    // What has no way has been named for that.
    let reachable = probes.filter(|probe| match case.facts.ways.get(&probe.address.ip()) {
        Some(Way::Out { neighbour, .. }) => *neighbour != Neighbour::Silent,
        _ => false,
    });
    reachable.filter_map(|probe| of(case, probe)).collect()
}

fn of(case: &Case<'_>, probe: &Probe) -> Option<Finding> {
    let (address, protocol) = (probe.address, probe.protocol.name());
    let rules = users(case, probe);
    let rules: Vec<_> = rules.iter().map(|(name, _)| *name).collect();
    let backend = format!("{address}, {protocol}, a backend of {}", named(&rules));
    let listing = match probe.protocol {
        Protocol::Tcp => "ss -ltnp",
        Protocol::Udp => "ss -lunp",
    };
    match probe.answer {
        Answer::Open | Answer::Unknown => None,
        Answer::Refused => Some(
            Finding::error(
                Check::BackendClosed,
                format!("{backend}, refuses connections."),
            )
            .why("Nothing listens there: clients get the same answer.")
            .advise(format!(
                "Start the service on {}; there, `{listing} 'sport = :{}'` shows who listens.",
                address.ip(),
                address.port()
            )),
        ),
        Answer::Silent | Answer::Unreachable => Some(silent(case, probe, &backend)),
    }
}

fn silent(case: &Case<'_>, probe: &Probe, backend: &str) -> Finding {
    // A backend that is to see clients' addresses may refuse to talk to this host.
    let own = users(case, probe)
        .iter()
        .any(|(_, source)| *source == Source::Masquerade);
    let what = match probe.answer {
        Answer::Unreachable => format!("{backend}, cannot be reached from here."),
        _ => format!("{backend}, does not answer this host within a second."),
    };
    let finding = if own {
        Finding::error(Check::BackendSilent, what)
            .why("A firewall drops what this host sends, or the backend is down.")
    } else {
        Finding::warning(Check::BackendSilent, what).why(
            "It may be down, or let in clients only: the rule keeps their addresses, and this was asked from here.",
        )
    };
    finding.advise(format!(
        "Follow the way to it: traceroute -n {}",
        probe.address.ip()
    ))
}

/// The rules that send to what was asked.
fn users<'a>(case: &Case<'a>, probe: &Probe) -> Vec<(&'a str, Source)> {
    let forwards = case.config.rules.iter().filter(|rule| {
        let ports = rule.listen.ports;
        let takes = match probe.protocol {
            Protocol::Tcp => rule.tcp,
            Protocol::Udp => rule.udp,
        };
        takes
            && rule.backends().iter().any(|backend| {
                let target = backend.port_for(ports, ports.first);
                SocketAddr::new(backend.address, target) == probe.address
            })
    });
    let outputs = case.config.outputs.iter().filter(|rule| {
        let target = rule.backend.port_for(rule.ports, rule.ports.first);
        SocketAddr::new(rule.backend.address, target) == probe.address
    });
    forwards
        .map(|rule| (rule.name.as_str(), rule.source))
        .chain(outputs.map(|rule| (rule.name.as_str(), Source::Masquerade)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Answer, Facts};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, found};
    use rstest::rstest;

    #[rstest]
    #[case::refused(Answer::Refused, "masquerade", Check::BackendClosed, Severity::Error)]
    #[case::silent(Answer::Silent, "masquerade", Check::BackendSilent, Severity::Error)]
    #[case::unreachable(
        Answer::Unreachable,
        "masquerade",
        Check::BackendSilent,
        Severity::Error
    )]
    #[case::perhaps_for_clients(
        Answer::Silent,
        "preserve",
        Check::BackendSilent,
        Severity::Warning
    )]
    fn what_backends_say(
        #[case] answer: Answer,
        #[case] source: &str,
        #[case] check: Check,
        #[case] severity: Severity,
    ) {
        let config = CONFIG.replace("masquerade", source);
        let change = |facts: &mut Facts| facts.probes[0].answer = answer;
        let (found, how_bad, mend) = found(&config, change);
        assert_eq!((found, how_bad), (check, severity));
        assert!(mend.contains("195.228.245.1"), "{mend}");
    }
}
