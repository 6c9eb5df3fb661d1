//! What was found, as a whole.

use serde::Serialize;

use super::finding::{Finding, Group, Severity};

/// Everything that was found, by what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The configuration file.
    pub config: String,
    /// The kernel's release.
    pub kernel: String,
    /// What was looked at, in a fixed order.
    pub groups: Vec<Examined>,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
}

/// One group of checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examined {
    /// What it is about.
    pub group: Group,
    /// How it is, in a few words.
    pub summary: String,
    /// What was found, the worst first; nothing if all is well.
    pub findings: Vec<Finding>,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// What it would have told about.
    pub group: Group,
    /// What it is.
    pub what: String,
    /// Why it was not possible, and what makes it possible.
    pub why: String,
}

impl Report {
    /// How many findings there are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        let findings = self.groups.iter().flat_map(|group| &group.findings);
        findings.filter(|one| one.severity == severity).count()
    }

    /// Whether something does not work.
    pub fn is_bad(&self) -> bool {
        self.count(Severity::Error) > 0
    }
}

impl Examined {
    /// With the findings in order.
    pub(super) fn new(group: Group, summary: String, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|one| std::cmp::Reverse(one.severity));
        Self {
            group,
            summary,
            findings,
        }
    }

    /// How bad the worst is.
    pub fn severity(&self) -> Option<Severity> {
        self.findings.first().map(|one| one.severity)
    }
}
