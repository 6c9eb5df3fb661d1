//! What came of a scenario, in a form that can be compared.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};

/// Facts by name. Only what has to be the same for every gateway belongs here: no ports, no times.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Outcome(BTreeMap<String, String>);

impl Outcome {
    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// Adds a fact that has only a debugging form: a list of addresses, a result.
    #[must_use]
    pub fn with_debug(self, name: &str, value: impl Debug) -> Self {
        self.with(name, format!("{value:?}"))
    }

    /// A fact.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            writeln!(f, "\n{name}:")?;
            value
                .lines()
                .try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        Ok(())
    }
}
