//! What became of every rule that was read: nothing is left out in silence.

use std::collections::BTreeSet;

/// One rule as its author wrote it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Where it stands, such as `line 6`.
    pub place: String,
    /// On one line and without control characters.
    pub text: String,
}

/// Position in [`Journal::origins`].
pub(super) type OriginId = usize;

/// Why a rule is mentioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It is not in the configuration, or not all of it.
    Untranslated,
    /// It is in the configuration, which does not do quite the same.
    Differs,
    /// It stays where it is and no longer sees what is forwarded.
    Bypassed,
    /// Nothing is missing without it.
    Needless,
}

/// Something to know about a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub kind: Kind,
    pub origin: OriginId,
    pub reason: String,
}

/// All rules, and what is known of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    origins: Vec<Origin>,
    translated: BTreeSet<OriginId>,
    findings: BTreeSet<Finding>,
    told: BTreeSet<OriginId>,
    remarks: Vec<String>,
}

impl Journal {
    /// Takes down a rule; from then on it must get a fate.
    pub fn add(&mut self, place: String, text: &str) -> OriginId {
        self.origins.push(Origin {
            place,
            text: one_line(text),
        });
        self.origins.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    pub fn origin(&self, id: OriginId) -> &Origin {
        &self.origins[id]
    }

    /// The rule has a part in the configuration.
    pub fn translated(&mut self, id: OriginId) {
        self.translated.insert(id);
    }

    pub fn note(&mut self, kind: Kind, origin: OriginId, reason: impl Into<String>) {
        self.told.insert(origin);
        self.findings.insert(Finding {
            kind,
            origin,
            reason: one_line(&reason.into()),
        });
    }

    /// The same of several rules.
    pub fn note_all(&mut self, kind: Kind, origins: &[OriginId], reason: &str) {
        for origin in origins {
            self.note(kind, *origin, reason);
        }
    }

    /// Something to know that belongs to no rule.
    pub fn remark(&mut self, text: impl Into<String>) {
        let text = one_line(&text.into());
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }

    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// In the order in which the rules were read.
    pub fn findings(&self, kind: Kind) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |one| one.kind == kind)
    }

    /// Whether anything is known of it.
    pub fn has_fate(&self, id: OriginId) -> bool {
        self.translated.contains(&id) || self.told.contains(&id)
    }

    pub fn is_translated(&self, id: OriginId) -> bool {
        self.translated.contains(&id)
    }

    /// The rules of which nothing is known.
    pub fn fateless(&self) -> Vec<OriginId> {
        (0..self.origins.len())
            .filter(|id| !self.has_fate(*id))
            .collect()
    }

    /// `line 6`, or `lines 6, 7 and 9`.
    pub fn places(&self, ids: &[OriginId]) -> String {
        let places: Vec<&str> = ids
            .iter()
            .map(|id| self.origin(*id).place.as_str())
            .collect();
        match places.as_slice() {
            [] => String::new(),
            [one] => (*one).to_owned(),
            [most @ .., last] => format!("{} and {last}", most.join(", ")),
        }
    }
}

/// `text` fit for a comment: TOML has no control characters there.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim().chars() {
        match character {
            '\t' => line.push(' '),
            character if character.is_control() => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    line
}
