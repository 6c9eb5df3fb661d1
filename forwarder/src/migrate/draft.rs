//! A configuration that is being put together, each rule with where it comes from.

use crate::config::{Interface, Masquerade, Output, PortRange, Rule};

use super::journal::OriginId;

/// All of it; the order is that of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub interfaces: Vec<Named>,
    pub forwards: Vec<Written<Rule>>,
    pub masquerades: Vec<Written<Masquerade>>,
    pub outputs: Vec<Written<Output>>,
    pub source_ports: Option<PortRange>,
}

impl Draft {
    pub fn rule_count(&self) -> usize {
        self.forwards.len() + self.masquerades.len() + self.outputs.len()
    }
}

/// A device, and what to know about it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub interface: Interface,
    pub remark: Option<String>,
}

/// A rule and the rules that it was made from.
#[derive(Clone, Debug)]
pub(super) struct Written<T> {
    pub rule: T,
    /// In the order in which they were read, each once.
    pub origins: Vec<OriginId>,
}

impl<T> Written<T> {
    pub fn new(rule: T, mut origins: Vec<OriginId>) -> Self {
        origins.sort_unstable();
        origins.dedup();
        Self { rule, origins }
    }
}
