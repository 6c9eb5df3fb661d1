//! Ports that this host gives its own connections.

use crate::config::PortRange;
use crate::doctor::Case;
use crate::doctor::finding::{Check, Finding};

use super::routes::named;

pub(super) fn summary(case: &Case<'_>) -> String {
    let (first, last) = case.facts.host.local_ports;
    format!("this host's own connections have {first}-{last}")
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(listeners(case));
    found.extend(source_ports(case));
    found
}

/// A packet to a listener is the rule's, even if it answers a connection that this host has made.
fn listeners(case: &Case<'_>) -> Option<Finding> {
    let mut taken = Vec::new();
    let mut rules = Vec::new();
    for rule in &case.config.rules {
        let ports = unreserved(case, rule.listen.ports);
        if !ports.is_empty() {
            rules.push(rule.name.as_str());
            taken.extend(ports);
        }
    }
    if taken.is_empty() {
        return None;
    }
    let (first, last) = case.facts.host.local_ports;
    let what = format!(
        "{} listens on ports that this host gives its own connections ({first}-{last}).",
        capital(&named(&rules))
    );
    let mut reserved = case.facts.host.reserved_ports.clone();
    reserved.extend(taken);
    reserved.sort_unstable();
    reserved.dedup();
    let list: Vec<_> = reserved
        .into_iter()
        .map(|(first, last)| PortRange { first, last }.to_string())
        .collect();
    Some(
        Finding::warning(Check::EphemeralPorts, what)
            .why("Replies to such a connection are taken for the rule's, and the connection does not come about.")
            .run(format!(
                "sysctl -w net.ipv4.ip_local_reserved_ports={}",
                list.join(",")
            )),
    )
}

/// Both protocols' connections of this host have these ports.
fn source_ports(case: &Case<'_>) -> Option<Finding> {
    let ports = case.config.limits.ports?;
    if unreserved(case, ports).is_empty() {
        return None;
    }
    let (first, last) = case.facts.host.local_ports;
    let what = format!(
        "`source-ports` ({ports}) has ports that this host gives its own connections ({first}-{last})."
    );
    let finding = Finding::warning(Check::EphemeralPorts, what).why(
        "A connection of this host and a translated one can get the same port towards one backend; then one of them breaks off.",
    );
    let free = if first > 1024 {
        format!("1024-{}", first - 1)
    } else {
        format!("{}-65535", last.saturating_add(1))
    };
    Some(finding.advise(format!(
        "Under [limits] in {}, set `source-ports = \"{free}\"`, or leave the key out.",
        case.file
    )))
}

/// Those of `ports` that the host may give its connections.
fn unreserved(case: &Case<'_>, ports: PortRange) -> Vec<(u16, u16)> {
    let host = &case.facts.host;
    let (first, last) = host.local_ports;
    let (first, last) = (ports.first.max(first), ports.last.min(last));
    let free = |port: &u16| {
        let reserved = host.reserved_ports.iter();
        !reserved
            .clone()
            .any(|(first, last)| (first..=last).contains(&port))
    };
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for port in (first..=last).filter(free) {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == port => *end = port,
            _ => runs.push((port, port)),
        }
    }
    runs
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Facts;
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, findings, found, healthy};
    use rstest::rstest;

    fn on_ports(ports: &str) -> String {
        let to = "\"195.228.245.1:110\"";
        CONFIG
            .replace(":110\"\nto", &format!(":{ports}\"\nto"))
            .replace(to, "[\"195.228.245.1\"]")
    }

    #[rstest]
    #[case::inside("40000-40010", &[], "40000-40010")]
    #[case::across("60990-61010", &[], "60990-60999")]
    #[case::with_others("40000", &[(8080, 8080)], "8080,40000")]
    #[case::partly_reserved("40000-40010", &[(40002, 40009)], "40000-40001,40002-40009,40010")]
    fn listeners_on_ports_that_are_given_away(
        #[case] ports: &str,
        #[case] reserved: &[(u16, u16)],
        #[case] expected: &str,
    ) {
        let change = |facts: &mut Facts| facts.host.reserved_ports = reserved.to_vec();
        let mend = format!("$ sysctl -w net.ipv4.ip_local_reserved_ports={expected}");
        assert_eq!(
            found(&on_ports(ports), change),
            (Check::EphemeralPorts, Severity::Warning, mend)
        );
    }

    #[test]
    fn reserved_ports_are_not_given_away() {
        let mut facts = healthy();
        facts.host.reserved_ports = vec![(40000, 40010)];
        assert_eq!(findings(&on_ports("40000-40010"), &facts), []);
    }

    #[test]
    fn source_ports_that_are_given_away() {
        let config = format!("{CONFIG}[limits]\nsource-ports = \"1024-65535\"\n");
        let (check, _, mend) = found(&config, |_| {});
        assert_eq!(check, Check::EphemeralPorts);
        assert!(mend.contains("source-ports = \"1024-32767\""), "{mend}");
    }
}
