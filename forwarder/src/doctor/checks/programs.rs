//! Other BPF programs on a device, which see packets before ours.

use super::{Hook, Served};
use crate::doctor::Case;
use crate::doctor::facts::Program;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

/// Priority of our filter where links do not exist, see `datapath/attach.rs`.
const OUR_PRIORITY: u16 = 0x6677;

pub(super) fn check(case: &Case<'_>, served: &Served<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(xdp(served));
    if served.hook == Hook::Tc {
        found.extend(links(served));
        found.extend(filters(case, served));
    }
    found
}

fn xdp(served: &Served<'_>) -> Option<Finding> {
    let program = served.device.xdp.as_ref().filter(|one| !one.ours)?;
    let name = served.name();
    let what = format!("Another XDP program is on {name}: {}.", described(program));
    let finding = match served.hook {
        Hook::Tc => Finding::warning(Check::OtherXdp, what).why(
            "It sees every packet first, and what it drops or sends elsewhere never gets to the forwarder.",
        ),
        _ => served.refused(Check::OtherXdp, what).why(format!(
            "A device has one XDP program, and the forwarder does not replace another's. {}",
            served.consequence()
        )),
    };
    let off = if program.generic { "xdpgeneric" } else { "xdp" };
    Some(match program.link {
        Some(link) => finding.run(format!("bpftool link detach id {link}")),
        None => finding.run(format!("ip link set dev {} {off} off", shell(name))),
    })
}

/// Of links, ours goes first when it is attached; only later ones can be in front of it.
fn links(served: &Served<'_>) -> Vec<Finding> {
    let links = &served.device.links;
    let ours = links.iter().position(|one| one.ours).unwrap_or(0);
    let name = served.name();
    links[..ours]
        .iter()
        .map(|program| {
            let what = format!(
                "Another TC program stands before the forwarder's on {name}: {}.",
                described(program)
            );
            let finding = Finding::warning(Check::OtherTc, what)
                .why("What it drops or sends elsewhere never gets to the forwarder.");
            match program.link {
                Some(link) => finding.run(format!("bpftool link detach id {link}")),
                None => finding.run(format!(
                    "bpftool net detach tcx_ingress dev {}",
                    shell(name)
                )),
            }
        })
        .collect()
}

/// Filters come after links; where there are no links, ours is one among them.
fn filters(case: &Case<'_>, served: &Served<'_>) -> Vec<Finding> {
    if case.facts.host.tcx != Some(false) {
        return Vec::new();
    }
    let name = served.name();
    let before = served
        .device
        .filters
        .iter()
        .filter(|filter| !filter.ours && filter.priority < OUR_PRIORITY);
    before
        .map(|filter| {
            let what = format!(
                "A TC filter stands before the forwarder's on {name}: {} {}with priority {}.",
                filter.kind,
                match filter.name.as_str() {
                    "" => String::new(),
                    name => format!("{name} "),
                },
                filter.priority
            );
            Finding::warning(Check::OtherTc, what)
                .why("What it drops or sends elsewhere never gets to the forwarder.")
                .run(format!(
                    "tc filter del dev {} ingress pref {}",
                    shell(name),
                    filter.priority
                ))
        })
        .collect()
}

fn described(program: &Program) -> String {
    match program.name.as_str() {
        "" => format!("number {}", program.id),
        name => format!("{name}, number {}", program.id),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Facts;
    use super::super::super::facts::devices::{Classifier, Program};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, findings, found, healthy};
    use rstest::rstest;

    fn program(id: u32) -> Program {
        Program {
            id,
            name: "theirs".to_owned(),
            ..Program::default()
        }
    }

    fn ours(id: u32) -> Program {
        Program {
            ours: true,
            ..program(id)
        }
    }

    fn in_mode(mode: &str) -> String {
        CONFIG.replace("\"eth0\"", &format!("\"eth0\"\nmode = \"{mode}\""))
    }

    #[rstest]
    #[case("xdp", Severity::Error)]
    #[case("auto", Severity::Warning)]
    #[case("tc", Severity::Warning)]
    fn another_xdp_program(#[case] mode: &str, #[case] severity: Severity) {
        let mend = "$ ip link set dev eth0 xdp off".to_owned();
        let change = |facts: &mut Facts| facts.devices[0].xdp = Some(program(7));
        assert_eq!(
            found(&in_mode(mode), change),
            (Check::OtherXdp, severity, mend)
        );
    }

    #[rstest]
    #[case::generic(Program { generic: true, ..program(7) }, "$ ip link set dev eth0 xdpgeneric off")]
    #[case::link(Program { link: Some(9), ..program(7) }, "$ bpftool link detach id 9")]
    fn how_it_goes_depends_on_how_it_came(#[case] program: Program, #[case] mend: &str) {
        let (_, _, command) = found(CONFIG, |facts| facts.devices[0].xdp = Some(program));
        assert_eq!(command, mend);
    }

    #[test]
    fn a_tc_program_in_front_of_ours() {
        let change =
            |facts: &mut Facts| facts.devices[0].links = vec![program(7), ours(8), program(9)];
        let mend = "$ bpftool net detach tcx_ingress dev eth0".to_owned();
        assert_eq!(
            found(&in_mode("tc"), change),
            (Check::OtherTc, Severity::Warning, mend)
        );
    }

    #[test]
    fn a_filter_in_front_of_ours_where_there_are_no_links() {
        let filter = |priority| Classifier {
            kind: "flower".to_owned(),
            priority,
            ..Classifier::default()
        };
        let mut facts = healthy();
        facts.devices[0].filters = vec![filter(10), filter(49152)];
        assert_eq!(findings(&in_mode("tc"), &facts), []);
        facts.host.tcx = Some(false);
        let all = findings(&in_mode("tc"), &facts);
        let before: Vec<_> = all
            .iter()
            .filter(|one| one.check == Check::OtherTc)
            .collect();
        assert_eq!(before.len(), 1);
        assert!(before[0].what.contains("priority 10"), "{before:?}");
    }

    #[test]
    fn ours_are_no_others() {
        let mut facts = healthy();
        facts.devices[0].xdp = Some(ours(7));
        facts.devices[0].links = vec![ours(8)];
        assert_eq!(findings(CONFIG, &facts), []);
    }
}
