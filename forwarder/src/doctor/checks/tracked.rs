//! Connections that go through netfilter now and meet a listener.

use std::collections::BTreeMap;

use super::protocols;
use crate::config::Rule;
use crate::doctor::Case;
use crate::doctor::facts::Tracked;
use crate::doctor::finding::{Check, Finding};
use crate::report::counted;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    // With a forwarder at work they are what is left of earlier ones.
    if case.facts.forwarder || case.facts.pinned {
        return Vec::new();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for tracked in &case.facts.tracked {
        if let Some(rule) = case.config.rules.iter().find(|rule| takes(rule, tracked)) {
            *counts.entry(&rule.name).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .map(|(rule, count)| {
            let what = format!(
                "{} through netfilter to what rule `{rule}` listens on.",
                match count {
                    1 => "1 connection goes".to_owned(),
                    _ => format!("{} go", counted(count, "connection")),
                }
            );
            Finding::warning(Check::TrackedConnections, what)
                .why("The forwarder does not know them: when it starts, TCP connections break off, and datagrams begin anew.")
                .advise("Start it when few are open, or announce it. `conntrack -L` lists them.")
        })
        .collect()
}

fn takes(rule: &Rule, tracked: &Tracked) -> bool {
    let to = tracked.destination;
    protocols(rule.tcp, rule.udp).any(|protocol| protocol == tracked.protocol)
        && rule.listen.ports.contains(to.port())
        && match rule.listen.address {
            Some(address) => address == to.ip(),
            None => {
                if to.is_ipv6() {
                    rule.serves_v6()
                } else {
                    rule.serves_v4()
                }
            }
        }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Facts, Tracked};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, findings, found, healthy};
    use crate::config::Protocol;
    use rstest::rstest;

    fn to(destination: &str) -> Tracked {
        Tracked {
            protocol: Protocol::Tcp,
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn connections_that_would_break() {
        let change = |facts: &mut Facts| facts.tracked = vec![to("203.0.113.5:110"); 3];
        let (check, severity, _) = found(CONFIG, change);
        assert_eq!(
            (check, severity),
            (Check::TrackedConnections, Severity::Warning)
        );
    }

    #[rstest]
    #[case::port("203.0.113.5:111")]
    #[case::address("203.0.113.6:110")]
    fn others_do_not_matter(#[case] destination: &str) {
        let mut facts = healthy();
        facts.tracked = vec![to(destination)];
        assert_eq!(findings(CONFIG, &facts), []);
    }
}
