//! The program itself: exit codes, and what goes to which stream.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rstest::rstest;
use tempfile::TempDir;

const GOOD: &str = "\
[[interface]]
name = \"eth0\"
[[forward]]
listen = 110
to = \"192.0.2.1:110\"
[control]
socket = \"/nonexistent/from-file\"
";

fn forwarder(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forwarder"));
    command
        .args(args)
        .env_remove("FORWARDER_SOCKET")
        .stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        status.code().expect("no signal"),
        text(stdout),
        text(stderr),
    )
}

fn file(text: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("forwarder.toml");
    fs::write(&path, text).expect("a file");
    (directory, path.display().to_string())
}

#[test]
fn a_good_file() {
    let (_directory, path) = file(GOOD);
    let expected = format!("{path}: good, 1 rule on 1 interface\n");
    assert_eq!(
        output(&mut forwarder(&["check", &path])),
        (0, expected, String::new())
    );
}

#[rstest]
#[case::check(&["check"])]
#[case::run(&["run", "--config"])]
#[case::query(&["status", "--config"])]
fn a_bad_file_is_refused_everywhere_alike(#[case] command: &[&str]) {
    let (_directory, path) = file(&GOOD.replace("listen", "lsten"));
    let (code, stdout, stderr) = output(forwarder(command).arg(&path));
    assert_eq!((code, stdout.as_str()), (1, ""));
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{path}:4:1: error: unknown key `lsten` in")),
        "{stderr}"
    );
    assert!(lines[0].ends_with("; did you mean `listen`?"), "{stderr}");
    assert_eq!(
        lines.last(),
        Some(&format!("1 error in {path}; nothing was changed").as_str())
    );
}

#[rstest]
#[case::run(&["run", "--interface", "eth0", "--listen", "0", "--to", "192.0.2.1"], "--listen: error: bad port `0`")]
#[case::nothing(&[], "Usage: forwarder")]
#[case::unknown(&["chek"], "error: unrecognized subcommand 'chek'")]
fn usage_errors(#[case] args: &[&str], #[case] expected: &str) {
    let (code, stdout, stderr) = output(&mut forwarder(args));
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains(expected), "{stderr}");
}

#[rstest]
#[case::flag(&["status", "--socket", "/nonexistent/a"], "/nonexistent/a")]
#[case::variable(&["rules", "--json"], "/nonexistent/from-env")]
#[case::variable_before_file(&["flows", "--config", "FILE"], "/nonexistent/from-env")]
#[case::reload(&["reload", "--socket", "/nonexistent/b"], "/nonexistent/b")]
fn without_a_daemon(#[case] args: &[&str], #[case] socket: &str) {
    let (_directory, path) = file(GOOD);
    let args: Vec<&str> = args
        .iter()
        .map(|arg| if *arg == "FILE" { path.as_str() } else { *arg })
        .collect();
    let (code, stdout, stderr) =
        output(forwarder(&args).env("FORWARDER_SOCKET", "/nonexistent/from-env"));
    let sentence =
        format!("error: no forwarder is running on {socket}: start it with `forwarder run`\n");
    assert_eq!((code, stdout.as_str(), stderr), (1, "", sentence));
}

#[test]
fn the_socket_of_a_file() {
    let (_directory, path) = file(GOOD);
    let (_, _, stderr) = output(&mut forwarder(&["drops", "--config", &path]));
    assert!(stderr.contains("/nonexistent/from-file"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (_directory, path) = file(GOOD);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (code, _, stderr) = {
        let output = forwarder(&["check", &path])
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let Output {
            status,
            stdout,
            stderr,
        } = output.wait_with_output().unwrap();
        (status.code(), stdout, String::from_utf8(stderr).unwrap())
    };
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn every_example_is_good() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut examples = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let (code, _, stderr) = output(forwarder(&["check"]).arg(&path));
            assert_eq!(code, 0, "{stderr}");
            examples += 1;
        }
    }
    assert!(examples > 0);
}

/// The documentation's fragments leave out what they are not about.
#[test]
fn every_fragment_of_the_documentation_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    let fragments: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(fragments.len() > 5);
    for fragment in fragments {
        let mut text = fragment.to_owned();
        for (header, rest) in [
            ("[[interface]]", "name = \"eth0\""),
            ("[[forward]]", "listen = 1\nto = \"192.0.2.1\""),
        ] {
            if !fragment.contains(header) {
                text.push_str(&format!("\n{header}\n{rest}\n"));
            }
        }
        let (_directory, path) = file(&text);
        let (code, _, stderr) = output(&mut forwarder(&["check", &path]));
        assert_eq!(code, 0, "{stderr}");
    }
}
