//! `forwarder import`, as a program: where it reads and writes, and how it ends.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const RULES: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 110 -j DNAT --to-destination 195.228.245.1:110
-A PREROUTING -p gre -j DNAT --to-destination 195.228.245.1
-A POSTROUTING -j MASQUERADE
COMMIT
";

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(args: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_forwarder"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that ends before it has read everything is no failure here.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("the program ends");
    Ran {
        code: status.code().expect("no signal"),
        stdout: String::from_utf8(stdout).expect("text"),
        stderr: String::from_utf8(stderr).expect("text"),
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn what_is_imported_passes_the_check() {
    let imported = run(&["import", "iptables-save"], RULES);
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    assert!(
        imported.stdout.contains("source = \"masquerade\""),
        "{}",
        imported.stdout
    );
    let place = imported
        .stderr
        .lines()
        .find(|line| line.starts_with("line 5: not translated: "));
    assert!(place.is_some_and(|line| {
        line.ends_with("-A PREROUTING -p gre -j DNAT --to-destination 195.228.245.1")
    }));

    let directory = directory();
    let path = directory.path().join("forwarder.toml");
    fs::write(&path, imported.stdout).expect("a file");
    let checked = run(&["check", text(&path)], "");
    assert_eq!(
        checked.stdout,
        format!("{}: good, 1 rule on 1 interface\n", path.display())
    );
}

#[test]
fn a_file_is_written_once_and_replaced_when_asked() {
    let directory = directory();
    let (rules, path) = (
        directory.path().join("rules.v4"),
        directory.path().join("forwarder.toml"),
    );
    fs::write(&rules, RULES).expect("a file");
    let command = [
        "import",
        "iptables-save",
        text(&rules),
        "--output",
        text(&path),
    ];
    let first = run(&command, "");
    assert_eq!(
        (first.code, first.stdout.as_str()),
        (0, ""),
        "{}",
        first.stderr
    );
    fs::write(&path, "mine").expect("a file");

    let second = run(&command, "");
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains("replace it with --force"),
        "{}",
        second.stderr
    );
    assert_eq!(fs::read_to_string(&path).expect("the file"), "mine");

    let third = run(&[&command[..], &["--force"]].concat(), "");
    assert_eq!(third.code, 0, "{}", third.stderr);
    assert!(
        fs::read_to_string(&path)
            .expect("the file")
            .contains("[[forward]]")
    );
    let left = fs::read_dir(directory.path())
        .expect("the directory")
        .count();
    assert_eq!(left, 2, "nothing but rules and configuration is left");
}

#[test]
fn where_nothing_can_be_translated_nothing_is_written() {
    let directory = directory();
    let path = directory.path().join("forwarder.toml");
    let command = ["import", "iptables-save", "--output", text(&path)];
    let ran = run(
        &command,
        "*nat\n-A PREROUTING -p gre -j DNAT --to-destination 192.0.2.1\nCOMMIT\n",
    );
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .starts_with("line 2: not translated: its protocol is neither"),
        "{}",
        ran.stderr
    );
    assert!(!path.exists());

    let ran = run(&command, "{}\n");
    assert_eq!(ran.code, 1);
    let ran = run(&command, "");
    assert_eq!((ran.code, path.exists()), (1, false));
    assert!(
        ran.stderr.contains("expected what `iptables-save` prints"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_route_is_a_prefix_and_a_device() {
    let good = run(
        &["import", "iptables-save", "--route", "195.228.245.1=eth1"],
        RULES,
    );
    assert_eq!(good.code, 0, "{}", good.stderr);
    assert!(good.stdout.contains("name = \"eth1\""), "{}", good.stdout);
    for bad in ["eth1", "195.228.245.1", "x=eth1"] {
        let ran = run(&["import", "iptables-save", "--route", bad], RULES);
        assert_eq!(ran.code, 2, "{bad}");
        assert!(
            ran.stderr.contains("expected PREFIX=NAME"),
            "{}",
            ran.stderr
        );
    }
}
