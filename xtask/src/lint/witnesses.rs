//! Whether the tests that the documents name as `file::function` exist.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::shell::say;

/// Documents whose claims are shown by tests, all of them in [`TESTS`].
const DOCUMENTS: [&str; 1] = ["docs/rfc-scorecard.md"];
const TESTS: &str = "tests/tests";

/// Fails if a document names a test that is not there.
pub fn check(root: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    let mut missing = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document))
            .with_context(|| format!("cannot read {document}"))?;
        for (number, line) in text.lines().enumerate() {
            for (file, function) in named(line) {
                let source = files.entry(file.to_owned()).or_insert_with(|| {
                    fs::read_to_string(root.join(TESTS).join(format!("{file}.rs")))
                        .unwrap_or_default()
                });
                if !source.contains(&format!("fn {function}(")) {
                    say(format!("{document}:{}: no {file}::{function}", number + 1));
                    missing += 1;
                }
            }
        }
    }
    if missing > 0 {
        bail!("{missing} tests that documents name are not there");
    }
    Ok(())
}

/// The tests that a line of Markdown names, as file and function.
fn named(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|name| name.split_once("::"))
        .filter(|(file, _)| file.starts_with("prog_run/") || file.starts_with("namespace_"))
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn tests_are_told_from_other_code() {
        let line = "| `udp`, `to = \"local:PORT\"` | `prog_run/ports::all`, `namespace_s2::only` | `a::b` |";
        let found: Vec<_> = named(line).collect();
        assert_eq!(found, [("prog_run/ports", "all"), ("namespace_s2", "only")]);
    }
}
