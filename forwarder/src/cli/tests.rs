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
