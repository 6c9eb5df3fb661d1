//! `forwarder man` and `forwarder completions`: what packages install beside the binary.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::output;

pub(super) fn man(args: &ManArgs) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    match &args.output {
        None => output::text(&page(&command)?),
        Some(directory) => pages(&command, directory),
    }
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    output::text(&script(args.shell)?)
}

fn script(shell: Shell) -> Result<String> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "forwarder", &mut text);
    Ok(String::from_utf8(text)?)
}

/// One page a command, as man(1) looks for them: `forwarder-import-nft.1`.
fn pages(command: &Command, directory: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or("forwarder");
    let path = directory.join(format!("{name}.1"));
    fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    command
        .get_subcommands()
        .filter(|one| one.get_name() != "help")
        .try_for_each(|one| pages(one, directory))
}

fn page(command: &Command) -> Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_example() {
        let directory = tempfile::tempdir().unwrap();
        let args = ManArgs {
            output: Some(directory.path().to_owned()),
        };
        man(&args).unwrap();
        for name in ["forwarder", "forwarder-run", "forwarder-import-nft"] {
            let text = fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
            assert!(
                text.contains(".SH SYNOPSIS") && text.contains("Example"),
                "{text}"
            );
        }
        let count = fs::read_dir(directory.path()).unwrap().count();
        fn all(command: &Command) -> usize {
            let subcommands = command
                .get_subcommands()
                .filter(|one| one.get_name() != "help");
            1 + subcommands.map(all).sum::<usize>()
        }
        assert_eq!(count, all(&Cli::command()));
    }

    #[test]
    fn every_shell_is_served() {
        for shell in Shell::value_variants() {
            let text = script(*shell).unwrap();
            assert!(text.contains("iptables-save"), "{shell}: {text}");
        }
    }
}
