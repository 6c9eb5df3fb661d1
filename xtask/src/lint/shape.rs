//! What the house rules ask for and no linter checks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::shell::say;

/// The house rules' sizes, without tests.
const FILE_LINES: usize = 300;
const FUNCTION_LINES: usize = 50;

/// Words that promise to finish something later. Written apart, or this file would find itself.
const PROMISES: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!("),
    concat!("unim", "plemented!("),
];

/// Fails on promises. Sizes are only listed: the rules say "about", and a reader decides.
pub fn check(root: &Path) -> Result<()> {
    let mut promises = 0;
    for path in sources(root)? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let path = path.strip_prefix(root).unwrap_or(&path);
        for finding in sizes(&text) {
            say(format!("{}: {finding}", path.display()));
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = PROMISES.iter().find(|word| has_word(line, word)) {
                say(format!("{}:{}: {word}", path.display(), number + 1));
                promises += 1;
            }
        }
    }
    if promises > 0 {
        bail!("{promises} lines promise to finish something later");
    }
    Ok(())
}

/// Every Rust file of the workspace. What git ignores is cargo's `target`, and asking git would fail where the files
/// belong to somebody else, as they do in many a CI.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    directories.push(entry.path());
                }
            } else if name.ends_with(".rs") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Part of a longer name or number is none.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let letter = |character: char| character.is_alphanumeric() || character == '_';
        let before = line[..at].chars().next_back().is_some_and(letter);
        let after = line[at + word.len()..].chars().next().is_some_and(letter);
        !before && (!after || word.ends_with('('))
    })
}

/// Relies on rustfmt: a function ends at the first brace as far in as it began.
fn sizes(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.iter().position(|line| *line == "#[cfg(test)]");
    let lines = &lines[..tests.unwrap_or(lines.len())];
    let mut findings = Vec::new();
    if lines.len() > FILE_LINES {
        findings.push(format!("{} lines", lines.len()));
    }
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", &line[..indent]);
        let length = lines[start..].iter().position(|line| *line == end);
        if let Some(length) = length
            && length + 1 > FUNCTION_LINES
        {
            let (line, length) = (start + 1, length + 1);
            findings.push(format!("fn {name} at line {line} has {length} lines"));
        }
    }
    findings
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let modifiers = ["pub", "async", "const", "unsafe", "extern", "\"C\""];
    let is_modifier = |word: &str| modifiers.contains(&word) || word.starts_with("pub(");
    let one_line = line.ends_with('}') || line.ends_with(';');
    if one_line || !before.split_whitespace().all(is_modifier) {
        return None;
    }
    after.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_a_word_of_its_own() {
        let word = PROMISES[2];
        assert!(has_word(&format!("// {word}: later"), word));
        assert!(!has_word(&format!("0x{word}X"), word));
        assert!(has_word(&format!("    {}\"x\")", PROMISES[3]), PROMISES[3]));
    }

    #[test]
    fn a_long_function_is_found_with_its_line() {
        let body = "        step();\n".repeat(60);
        let text =
            format!("impl X {{\n    pub(crate) const fn long<T>(\n    ) {{\n{body}    }}\n}}\n");
        assert_eq!(sizes(&text), ["fn long at line 2 has 63 lines"]);
    }

    #[test]
    fn tests_do_not_count() {
        let text = format!("fn main() {{}}\n#[cfg(test)]\n{}", "//\n".repeat(400));
        assert!(sizes(&text).is_empty());
    }
}
