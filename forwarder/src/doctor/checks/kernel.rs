//! Version and features of the kernel.

use crate::doctor::Case;
use crate::doctor::finding::{Check, Finding};

/// The oldest that this works on.
const OLDEST: (u16, u16) = (5, 10);

/// What newer kernels have, and what is done without it.
const NEWER: [((u16, u16), &str); 2] = [
    (
        (5, 14),
        "network namespaces have no cookies, so their inodes tell them apart",
    ),
    (
        (5, 12),
        "routes do not tell their MTU to programs, so the device's counts",
    ),
];

pub(super) fn summary(case: &Case<'_>) -> String {
    let host = &case.facts.host;
    let mut features = vec![format!("Linux {}", host.release)];
    if host.tcx == Some(true) {
        features.push("TC links".to_owned());
    }
    if host.btf {
        features.push("BTF".to_owned());
    }
    features.join(", ")
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let host = &case.facts.host;
    let mut found = Vec::new();
    let (major, minor) = host.version;
    if host.version < OLDEST {
        let what = format!("Linux {major}.{minor} is older than 5.10.");
        found.push(
            Finding::error(Check::KernelTooOld, what)
                .why("It lacks helpers that the programs call, and refuses to load them.")
                .advise("Install Linux 5.10 or later."),
        );
    }
    for name in &host.lacks {
        found.push(
            Finding::error(Check::KernelLacks, format!("The kernel has no {name}."))
                .why("The programs cannot be loaded without.")
                .advise("Use a kernel with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_ACT, CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS, as distributions' kernels have them."),
        );
    }
    if host.jit == Some(0) {
        found.push(
            Finding::warning(Check::JitOff, "BPF programs are interpreted.")
                .why("Every packet costs several times as much as compiled.")
                .run("sysctl -w net.core.bpf_jit_enable=1"),
        );
    }
    if host.lockdown.as_deref() == Some("confidentiality") {
        found.push(
            Finding::note(Check::Lockdown, "The kernel is locked down (confidentiality).")
                .why("Forwarding works, as its programs read no kernel memory; tools that trace the kernel do not."),
        );
    }
    found.extend(features(case));
    found
}

/// What is done without, all in one.
fn features(case: &Case<'_>) -> Option<Finding> {
    let host = &case.facts.host;
    let mut missing = Vec::new();
    if host.tcx == Some(false) {
        missing.push(
            "TC programs are filters and not links (6.6), so other filters may stand before them",
        );
    }
    if !host.xdp_features {
        missing.push("devices do not say whether they take redirected XDP frames (6.3), so a list of drivers does");
    }
    let newer = NEWER.iter().filter(|(since, _)| host.version < *since);
    missing.extend(newer.map(|(_, without)| without));
    if missing.is_empty() || host.version < OLDEST {
        return None;
    }
    let what = format!("Linux {} does without newer features.", host.release);
    let why = format!("{}.", missing.join("; "));
    Some(
        Finding::note(Check::KernelFeatures, what)
            .why(why)
            .advise("Nothing needs to be done; a newer kernel has them."),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::super::facts::Facts;
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, findings, found, healthy};

    #[rstest]
    #[case::old(|facts: &mut Facts| facts.host.version = (5, 4), Check::KernelTooOld, Severity::Error)]
    #[case::without(|facts: &mut Facts| facts.host.lacks = vec!["LPM tries"], Check::KernelLacks, Severity::Error)]
    #[case::interpreted(|facts: &mut Facts| facts.host.jit = Some(0), Check::JitOff, Severity::Warning)]
    #[case::locked(|facts: &mut Facts| facts.host.lockdown = Some("confidentiality".into()), Check::Lockdown, Severity::Note)]
    #[case::no_links(|facts: &mut Facts| facts.host.tcx = Some(false), Check::KernelFeatures, Severity::Note)]
    #[case::no_mtu(|facts: &mut Facts| facts.host.version = (5, 10), Check::KernelFeatures, Severity::Note)]
    fn what_a_kernel_lacks(
        #[case] change: fn(&mut Facts),
        #[case] check: Check,
        #[case] severity: Severity,
    ) {
        let (found, how_bad, _) = found(CONFIG, change);
        assert_eq!((found, how_bad), (check, severity));
    }

    #[test]
    fn the_features_that_are_done_without_are_named() {
        let mut facts = healthy();
        facts.host.version = (5, 13);
        let why = &findings(CONFIG, &facts)[0].why;
        assert!(why.contains("cookies") && !why.contains("MTU"), "{why}");
    }
}
