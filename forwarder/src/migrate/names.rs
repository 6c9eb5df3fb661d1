//! Names for rules that had none.

use std::collections::BTreeSet;

use crate::config::{PortRange, Protocol};

/// What a configuration takes.
const LONGEST: usize = 64;

/// Names that are taken.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// The first of `wishes` that is free and fits, else something like the first that is not empty.
    pub fn take(&mut self, wishes: &[String]) -> String {
        let wishes: Vec<String> = wishes.iter().map(|one| clean(one)).collect();
        let mut wishes = wishes.iter().filter(|one| !one.is_empty());
        let first = wishes
            .clone()
            .next()
            .cloned()
            .unwrap_or_else(|| "rule".to_owned());
        let free = wishes.find(|one| !self.0.contains(*one));
        let mut name = free.unwrap_or(&first).clone();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            let suffix = format!("-{number}");
            name = format!("{}{suffix}", cut(&first, LONGEST - suffix.len()));
            number += 1;
        }
        name
    }
}

/// What a configuration takes of it.
fn clean(text: &str) -> String {
    let plain: String = text.chars().filter(|one| !one.is_control()).collect();
    cut(plain.trim(), LONGEST).trim_end().to_owned()
}

/// At most `bytes` of `text`.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What people call the service at these ports.
pub(super) fn service(protocols: &[Protocol], ports: PortRange) -> String {
    let known = SERVICES.iter().find(|(_, port)| {
        ports
            == PortRange {
                first: *port,
                last: *port,
            }
    });
    match (known, protocols) {
        (Some((name, _)), _) => (*name).to_owned(),
        (None, [one]) => format!("{}-{ports}", one.name()),
        (None, _) => format!("port-{ports}"),
    }
}

const SERVICES: [(&str, u16); 10] = [
    ("smtp", 25),
    ("dns", 53),
    ("http", 80),
    ("pop3", 110),
    ("imap", 143),
    ("https", 443),
    ("smtps", 465),
    ("submission", 587),
    ("imaps", 993),
    ("pop3s", 995),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit() {
        let mut names = Names::default();
        let mut take = |wishes: &[&str]| {
            let wishes: Vec<String> = wishes.iter().map(|one| (*one).to_owned()).collect();
            names.take(&wishes)
        };
        let long = "é".repeat(40);
        assert_eq!(take(&["", "pop3"]), "pop3");
        assert_eq!(take(&[" pop3\u{7} ", "pop3-eth0"]), "pop3-eth0");
        assert_eq!(take(&["pop3", "pop3-eth0"]), "pop3-2");
        assert_eq!(take(&[&long]), "é".repeat(32));
        assert_eq!(take(&[&long]), format!("{}-2", "é".repeat(31)));
        assert_eq!(take(&[]), "rule");
    }
}
