//! What clap takes and refuses. Exit codes and output are tested on the program itself, in `tests/cli.rs`.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use rstest::rstest;

use super::args::{Cli, Command};

const RULE: [&str; 8] = [
    "run",
    "--interface",
    "eth0",
    "--listen",
    "110",
    "--to",
    "192.0.2.1:110",
    "--source=masquerade",
];

fn parse<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<Command, clap::Error> {
    Cli::try_parse_from(["forwarder"].into_iter().chain(args)).map(|cli| cli.command)
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_rule_needs_no_file() {
    let Command::Run(args) = parse(RULE).unwrap() else {
        panic!("another command")
    };
    let flags = super::run::flags(args.rule.unwrap());
    assert_eq!(
        (flags.interface.as_str(), flags.listen.as_str()),
        ("eth0", "110")
    );
    assert_eq!(
        (flags.to, flags.source.as_deref()),
        (vec!["192.0.2.1:110".to_owned()], Some("masquerade"))
    );
}

#[test]
fn a_file_needs_no_rule() {
    let Command::Run(args) = parse(["run"]).unwrap() else {
        panic!("another command")
    };
    assert!(args.rule.is_none() && args.config.is_none());
}

#[test]
fn a_rule_and_a_file_exclude_each_other() {
    let error = parse(RULE.into_iter().chain(["--config", "x"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
}

#[rstest]
#[case::no_listen(&["run", "--interface", "eth0", "--to", "192.0.2.1"])]
#[case::no_to(&["run", "--interface", "eth0", "--listen", "110"])]
#[case::no_interface(&["run", "--listen", "110", "--to", "192.0.2.1"])]
#[case::no_rule(&["run", "--source", "masquerade"])]
#[case::allow_only(&["run", "--config", "x", "--allow", "10.0.0.0/8"])]
fn half_a_rule_is_refused(#[case] args: &[&str]) {
    assert_eq!(parse(args.iter().copied()).unwrap_err().exit_code(), 2);
}

#[test]
fn every_help_has_an_example() {
    fn check(command: &mut clap::Command) {
        for command in command.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{help}");
            check(command);
        }
    }
    check(&mut Cli::command());
}

/// Command lines of a document: what stands indented, after `sudo`, a prompt, or a pipe.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    let commands = lines.flat_map(|line| line.split(" | "));
    let commands = commands.filter_map(|command| {
        let command = command.trim_start_matches("$ ").trim_start_matches("sudo ");
        let arguments = command.strip_prefix("forwarder ")?;
        Some(words(arguments.split(" > ").next().unwrap_or_default()))
    });
    commands.collect()
}

/// As a shell takes them apart, as far as the documents need it.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in text.trim().chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(character),
        }
    }
    words
}

/// What an operator copies is understood.
#[rstest]
#[case::events("events.md", 4)]
#[case::operations("operations.md", 20)]
fn command_lines_of_the_documents_are_understood(#[case] name: &str, #[case] least: usize) {
    let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = command_lines(&text);
    assert!(lines.len() >= least, "{lines:?}");
    for line in lines {
        if let Err(error) = parse(line.iter().map(String::as_str)) {
            panic!("{line:?}: {error}");
        }
    }
}
