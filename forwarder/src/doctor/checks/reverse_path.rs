//! Strict reverse-path filtering of what is delivered to this host. What is sent on never meets it.

use std::net::IpAddr;

use super::devices;
use crate::config::{Rule, Target};
use crate::doctor::Case;
use crate::doctor::facts::Way;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

/// `rp_filter`, see Documentation/networking/ip-sysctl.rst of the kernel.
const STRICT: u8 = 1;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in &case.config.rules {
        if matches!(rule.target, Target::Local(_)) && rule.serves_v4() {
            found.extend(delivery(case, rule));
        }
    }
    for rule in &case.config.outputs {
        let (asked, sent) = (rule.address, rule.backend.address);
        let (Some(home), Some(device)) = (leaving(case, asked), leaving(case, sent)) else {
            continue;
        };
        if home != device && asked.is_ipv4() && is_strict(case, device) {
            let what = format!(
                "Replies to rule `{}` come in by {device} and look as if from {asked}, to which the way is by {home}.",
                rule.name
            );
            found.push(loosen(Finding::error(Check::ReversePath, what), device));
        }
    }
    found
}

/// Clients whose way back is by another device than the one by which they come.
fn delivery(case: &Case<'_>, rule: &Rule) -> Vec<Finding> {
    let clients = rule.allow.iter().map(|prefix| prefix.addr());
    let clients: Vec<IpAddr> = clients.filter(IpAddr::is_ipv4).collect();
    let home = |device: &str| match clients.is_empty() {
        true => case.facts.defaults[0].as_deref() == Some(device),
        false => clients
            .iter()
            .all(|client| leaving(case, *client) == Some(device)),
    };
    let known = !clients.is_empty() || case.facts.defaults[0].is_some();
    devices(case.config, rule.interface.as_deref())
        .filter(|device| known && is_strict(case, device) && !home(device))
        .map(|device| {
            let what = format!(
                "{device} filters by reverse path, and the way back to clients of rule `{}` is by another device.",
                rule.name
            );
            loosen(Finding::warning(Check::ReversePath, what), device)
        })
        .collect()
}

fn loosen(finding: Finding, device: &str) -> Finding {
    let name = device.replace('.', "/");
    finding
        .why("The kernel drops what comes in by a device that it would not answer by (rp_filter = 1).")
        .run(format!(
            "sysctl -w {}=2",
            shell(&format!("net.ipv4.conf.{name}.rp_filter"))
        ))
}

fn is_strict(case: &Case<'_>, device: &str) -> bool {
    let device = case.facts.device(device);
    device.is_some_and(|device| device.rp_filter == STRICT)
}

fn leaving<'a>(case: &Case<'a>, address: IpAddr) -> Option<&'a str> {
    match case.facts.ways.get(&address) {
        Some(Way::Out { device, .. }) => Some(device),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::sockets::Socket;
    use super::super::super::facts::{Facts, Neighbour};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{address, card, delivering, findings, healthy, out};
    use crate::config::Protocol;
    use rstest::rstest;

    /// Two uplinks; the default route is by the first.
    fn host(strict: u8) -> Facts {
        let mut facts = healthy();
        facts.devices.push(card("eth1", 3));
        facts.devices[1].rp_filter = strict;
        facts.sockets = vec![Socket {
            protocol: Protocol::Tcp,
            address: "0.0.0.0:25".parse().unwrap(),
            owner: None,
        }];
        let way = out("eth1", "192.0.2.1", Neighbour::Known);
        facts.ways.insert(address("198.51.100.0"), way);
        facts
    }

    fn config(more: &str) -> String {
        let rule = delivering().replace("local:25\"", &format!("local:25\"{more}"));
        format!("{rule}[[interface]]\nname = \"eth1\"\n")
    }

    #[rstest]
    #[case::strict(1, "", 1)]
    #[case::loose(2, "", 0)]
    #[case::off(0, "", 0)]
    #[case::clients_of_that_side(1, "\nallow = [\"198.51.100.0/24\"]\ninterface = \"eth1\"", 0)]
    #[case::other_interface(1, "\ninterface = \"eth0\"", 0)]
    fn clients_by_the_other_uplink(#[case] strict: u8, #[case] more: &str, #[case] count: usize) {
        let all = findings(&config(more), &host(strict));
        assert_eq!(all.len(), count, "{all:?}");
        for one in all {
            assert_eq!(
                (one.check, one.severity),
                (Check::ReversePath, Severity::Warning)
            );
            let mend = format!("{:?}", one.mend);
            assert!(
                mend.contains("sysctl -w net.ipv4.conf.eth1.rp_filter=2"),
                "{mend}"
            );
        }
    }
}
