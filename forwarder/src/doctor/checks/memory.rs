//! Whether the tables fit.

use crate::doctor::Case;
use crate::doctor::facts::Memory;
use crate::doctor::finding::{Check, Finding};
use crate::report::bytes;

/// From here on maps count as memory of a control group and not against a limit (commit 97306be45fbe).
const WITHOUT_LIMIT: (u16, u16) = (5, 11);

pub(super) fn summary(case: &Case<'_>) -> String {
    let memory = &case.facts.memory;
    if memory.needed == 0 {
        return String::new();
    }
    let needed = bytes(memory.needed);
    match memory.available {
        Some(available) => format!("the tables take {needed} of {} available", bytes(available)),
        None => format!("the tables take {needed}"),
    }
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    // Those of a daemon that runs are in use already.
    if case.facts.forwarder || case.facts.pinned {
        return Vec::new();
    }
    let mut found = Vec::new();
    found.extend(room(case));
    found.extend(locked(case));
    found
}

fn room(case: &Case<'_>) -> Option<Finding> {
    let memory = case.facts.memory;
    let available = memory.available?;
    if memory.needed <= available / 2 {
        return None;
    }
    let (needed, there) = (bytes(memory.needed), bytes(available));
    let what = format!("The tables will take {needed}, and {there} are available.");
    let finding = if memory.needed > available {
        Finding::error(Check::Memory, what)
            .why("`forwarder run` will not start, or other programs will be killed for it.")
    } else {
        Finding::warning(Check::Memory, what)
            .why("That is more than half; the rest of the host may run short.")
    };
    // Somewhat less than the half that is warned of: what is available comes and goes.
    Some(finding.advise(fitting(case, memory, available / 5 * 2)))
}

/// How many flows would fit into `room`.
fn fitting(case: &Case<'_>, memory: Memory, room: u64) -> String {
    let limits = case.config.limits;
    let over = memory.needed.saturating_sub(room);
    let less = over.div_ceil(memory.each_flow.max(1));
    let flows = u64::from(limits.flows).saturating_sub(less);
    match flows {
        0 => format!(
            "Under [limits] in {}, lower `flows` ({}) and `half-open` ({}), or add memory.",
            case.file, limits.flows, limits.half_open
        ),
        flows => format!(
            "Under [limits] in {}, set `flows = {flows}` instead of {}, or add memory.",
            case.file, limits.flows
        ),
    }
}

fn locked(case: &Case<'_>) -> Option<Finding> {
    let host = &case.facts.host;
    let limit = host.memlock?;
    if host.version >= WITHOUT_LIMIT || host.may_raise || limit >= case.facts.memory.needed {
        return None;
    }
    let what = format!(
        "At most {} may be locked into memory, and the tables take {}.",
        bytes(limit),
        bytes(case.facts.memory.needed)
    );
    Some(
        Finding::error(Check::LockedMemory, what)
            .why("Before Linux 5.11 maps count against that limit, and raising it needs CAP_SYS_RESOURCE.")
            .run("ulimit -l unlimited")
            .advise("A service has it from LimitMEMLOCK=infinity in its unit."),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Facts;
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, found};
    use rstest::rstest;

    /// 262,144 flows of 600 bytes and something else.
    #[rstest]
    #[case::tight(1 << 29, Severity::Warning, "set `flows = 262144`")]
    #[case::too_little(1 << 27, Severity::Error, "lower `flows` (262144) and `half-open` (65536)")]
    fn tables_that_do_not_fit(
        #[case] available: u64,
        #[case] severity: Severity,
        #[case] advice: &str,
    ) {
        let change = |facts: &mut Facts| {
            facts.memory.available = Some(available);
            facts.memory.needed += 1;
        };
        let (check, how_bad, mend) = found(CONFIG, change);
        assert_eq!((check, how_bad), (Check::Memory, severity));
        assert!(mend.contains(advice.trim_end_matches("262144`")), "{mend}");
    }

    #[test]
    fn what_is_advised_fits() {
        let (_, _, mend) = found(CONFIG, |facts| facts.memory.available = Some(500 << 20));
        let (_, rest) = mend.split_once("`flows = ").unwrap();
        let (flows, _) = rest.split_once('`').unwrap();
        let flows: u64 = flows.parse().unwrap();
        let needed = (1 << 28) - (262_144 - flows) * 600;
        assert!(needed <= 200 << 20 && needed > 199 << 20, "{mend}");
    }

    #[test]
    fn old_kernels_have_a_limit() {
        let change = |facts: &mut Facts| {
            facts.host.version = (5, 10);
            facts.host.memlock = Some(65536);
            facts.host.may_raise = false;
        };
        let facts = {
            let mut facts = super::super::testing::healthy();
            change(&mut facts);
            facts
        };
        let all = super::super::testing::findings(CONFIG, &facts);
        let one = all.iter().find(|one| one.check == Check::LockedMemory);
        assert_eq!(one.unwrap().severity, Severity::Error);
    }

    #[test]
    fn tables_that_are_there_are_not_counted_again() {
        let (check, ..) = found(CONFIG, |facts| {
            facts.memory.available = Some(1);
            facts.forwarder = true;
        });
        assert_eq!(check, Check::ForwarderRunning);
    }
}
