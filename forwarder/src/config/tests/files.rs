//! Files that cannot be read, and problems that show at run time.

use std::fs;
use std::path::Path;

use super::super::load;
use super::{good, with_rule};

fn refusal(path: &Path) -> String {
    let shown = load(path).expect_err("a refusal").to_string();
    shown.replace(&path.display().to_string(), "FILE")
}

#[test]
fn a_missing_file() {
    let directory = tempfile::tempdir().unwrap();
    let shown = refusal(&directory.path().join("none.toml"));
    assert_eq!(
        shown,
        "FILE: error: no such file; write one, or name another\n1 error in FILE; nothing was changed"
    );
}

#[test]
fn a_directory() {
    let directory = tempfile::tempdir().unwrap();
    assert!(
        refusal(directory.path())
            .starts_with("FILE: error: this is a directory; name a file in it\n")
    );
}

#[test]
fn a_file_that_is_not_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("latin1.toml");
    fs::write(&path, b"[[interface]]\nname = \"\xc3\xa9 caf\xe9\"\n").unwrap();
    let shown = refusal(&path);
    let expected =
        "FILE:2:14: error: not UTF-8: byte `0xe9` starts no character; save the file as UTF-8\n";
    assert!(shown.starts_with(expected), "{shown}");
}

#[test]
fn a_good_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("good.toml");
    fs::write(&path, with_rule("listen = 110\nto = \"192.0.2.1\"")).unwrap();
    assert_eq!(load(&path).unwrap().rules.len(), 1);
}

#[test]
fn a_problem_at_run_time_looks_like_one_of_the_file() {
    let config = good(&with_rule("listen = 110\nto = \"192.0.2.1\""));
    let span = config.interfaces[0].span;
    let error = config.error_at(
        span,
        "no interface `eth0` on this host",
        Some("set `optional`".to_owned()),
    );
    let expected = "f.toml:2:9: error: no interface `eth0` on this host; set `optional`\n    \
                    2 | name = \"eth0\"\n      |         ^^^^\n1 error in f.toml; nothing was changed";
    assert_eq!(error.to_string(), expected);
}
