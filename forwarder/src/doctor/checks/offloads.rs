//! What the device does to packets before the programs see them.

use super::{Hook, Served};
use crate::doctor::Case;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

pub(super) fn check(case: &Case<'_>, served: &Served<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(lro(served));
    found.extend(vlan(case, served));
    found.extend(generic(served));
    found
}

fn lro(served: &Served<'_>) -> Option<Finding> {
    let features = served.device.features.as_ref()?;
    if !features.on("rx-lro") {
        return None;
    }
    let name = served.name();
    let what = format!("{name} merges received packets (LRO).");
    let finding = match served.hook {
        Hook::Xdp => {
            let why = format!(
                "Drivers refuse XDP together with it, or hand XDP frames in several pieces. {}",
                served.consequence()
            );
            served.refused(Check::Lro, what).why(why)
        }
        _ => Finding::warning(Check::Lro, what).why(
            "It forgets how large the packets were: what is sent on may be too large for the way and is dropped.",
        ),
    };
    Some(off(finding, served, "rx-lro", "lro"))
}

/// XDP tells the VLANs of a device apart by their tags.
fn vlan(case: &Case<'_>, served: &Served<'_>) -> Option<Finding> {
    let name = served.name();
    let features = served.device.features.as_ref()?;
    if served.hook != Hook::Xdp || !features.on("rx-vlan-hw-parse") {
        return None;
    }
    let above: Vec<_> = case
        .facts
        .devices
        .iter()
        .filter(|device| device.lower.as_deref() == Some(name))
        .map(|device| device.name.as_str())
        .collect();
    if above.is_empty() {
        return None;
    }
    let configured = |device: &&str| {
        case.config
            .interfaces
            .iter()
            .any(|one| one.name == **device)
    };
    let ours = above.iter().any(configured);
    let above = above.join(", ");
    let what = format!("{name} takes VLAN tags off before XDP sees them.");
    let why = format!(
        "Packets for {above} look as if they were {name}'s own, and rules take them or not by mistake."
    );
    let finding = if ours {
        Finding::error(Check::VlanOffload, what)
    } else {
        Finding::warning(Check::VlanOffload, what)
    };
    Some(off(finding.why(why), served, "rx-vlan-hw-parse", "rxvlan"))
}

/// The kernel's own XDP hook stands behind GRO.
fn generic(served: &Served<'_>) -> Option<Finding> {
    let features = served.device.features.as_ref()?;
    if served.hook != Hook::Generic || !features.on("rx-gro") {
        return None;
    }
    let what = format!(
        "{} merges received packets (GRO) before generic XDP.",
        served.name()
    );
    let finding = Finding::warning(Check::GenericGro, what).why(
        "Several packets come as one, without a complete checksum: connections are slow or break off.",
    );
    Some(off(finding, served, "rx-gro", "gro"))
}

/// Adds the command that switches an offload off, where that is possible.
fn off(finding: Finding, served: &Served<'_>, feature: &str, word: &str) -> Finding {
    let features = served.device.features.as_ref();
    match features.is_some_and(|features| features.removable(feature)) {
        true => finding.run(format!("ethtool -K {} {word} off", shell(served.name()))),
        false => finding.advise("The driver does not let it be switched off: set `mode = \"tc\"`."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Facts;
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, card, findings, found, healthy, on};
    use rstest::rstest;

    fn in_mode(mode: &str) -> String {
        CONFIG.replace("\"eth0\"", &format!("\"eth0\"\nmode = \"{mode}\""))
    }

    #[rstest]
    #[case("auto", Severity::Warning)]
    #[case("xdp", Severity::Error)]
    #[case("tc", Severity::Warning)]
    fn lro(#[case] mode: &str, #[case] severity: Severity) {
        let change = |facts: &mut Facts| facts.devices[0].features = Some(on(&["rx-lro"], false));
        let mend = "$ ethtool -K eth0 lro off".to_owned();
        assert_eq!(found(&in_mode(mode), change), (Check::Lro, severity, mend));
    }

    #[test]
    fn what_is_fixed_cannot_be_switched() {
        let (_, _, mend) = found(CONFIG, |facts| {
            facts.devices[0].features = Some(on(&["rx-lro"], true));
        });
        assert!(mend.contains("`mode = \"tc\"`"), "{mend}");
    }

    fn tagged(facts: &mut Facts) {
        facts.devices[0].features = Some(on(&["rx-vlan-hw-parse"], false));
        let mut above = card("eth0.5", 3);
        above.driver = Some("802.1Q VLAN Support".to_owned());
        above.lower = Some("eth0".to_owned());
        facts.devices.push(above);
    }

    #[rstest]
    #[case::ours("[[interface]]\nname = \"eth0.5\"\n", Severity::Error)]
    #[case::others("", Severity::Warning)]
    fn tags_that_xdp_does_not_see(#[case] more: &str, #[case] severity: Severity) {
        let mend = "$ ethtool -K eth0 rxvlan off".to_owned();
        let config = format!("{CONFIG}{more}");
        assert_eq!(found(&config, tagged), (Check::VlanOffload, severity, mend));
    }

    #[test]
    fn tags_are_nothing_to_tc() {
        let mut facts = healthy();
        tagged(&mut facts);
        assert_eq!(findings(&in_mode("tc"), &facts), []);
    }

    #[test]
    fn generic_xdp_behind_gro() {
        let change = |facts: &mut Facts| facts.devices[0].features = Some(on(&["rx-gro"], false));
        let mend = "$ ethtool -K eth0 gro off".to_owned();
        assert_eq!(
            found(&in_mode("xdp-generic"), change),
            (Check::GenericGro, Severity::Warning, mend)
        );
    }
}
