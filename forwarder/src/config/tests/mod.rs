//! Bad input is written with «marks» around what is wrong with it, and the marks are the expectation: line,
//! column and offending text of the one problem that must be found, no more and no fewer.

mod files;
mod flags;
mod fuzz;
mod good;
mod local;
mod masquerade;
mod output;
mod rules;
mod settings;
mod syntax;
mod v6;
mod whole;

use super::{Config, ConfigErrors, parse};

const NAME: &str = "f.toml";

/// A valid file around a rule's `lines`.
fn with_rule(lines: &str) -> String {
    with_table("[[forward]]", lines)
}

/// A valid file around a rule's `lines` behind its `header`.
fn with_table(header: &str, lines: &str) -> String {
    format!("[[interface]]\nname = \"eth0\"\n\n{header}\n{lines}\n")
}

/// A valid file before `lines`.
fn with_tables(lines: &str) -> String {
    with_rule(&format!("listen = 110\nto = \"192.0.2.1\"\n\n{lines}"))
}

fn errors(text: &str) -> ConfigErrors {
    parse(NAME, text).expect_err(text)
}

fn good(text: &str) -> Config {
    parse(NAME, text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// The first line of each problem, as a user can search for it.
fn one_liners(errors: &ConfigErrors) -> Vec<String> {
    let text = errors.to_string();
    text.lines()
        .filter(|line| line.contains(": error: "))
        .map(str::to_owned)
        .collect()
}

/// Asserts that `marked` has exactly one problem, where the marks are, with exactly this message.
fn assert_problem(marked: &str, message: &str) {
    let start = marked.find('«').expect("a mark");
    let text = marked.replace(['«', '»'], "");
    let offending = &marked[start + '«'.len_utf8()..marked.find('»').expect("a second mark")];
    let line = marked[..start].matches('\n').count() + 1;
    let column = marked[..start].lines().last().map_or(0, |line| {
        if marked[..start].ends_with('\n') {
            0
        } else {
            line.chars().count()
        }
    }) + 1;

    let errors = errors(&text);
    assert_eq!(
        one_liners(&errors),
        [format!("{NAME}:{line}:{column}: error: {message}")],
        "{text}"
    );
    let span = errors.diagnostics[0].span.expect("a place");
    assert_eq!(&text[span.start..span.end], offending);
    let last = errors.to_string().lines().last().map(str::to_owned);
    assert_eq!(
        last.as_deref(),
        Some("1 error in f.toml; nothing was changed")
    );
}
