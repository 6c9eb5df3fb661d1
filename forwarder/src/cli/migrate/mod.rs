//! `forwarder import` and `forwarder export`: from netfilter's rules to a configuration, and back.

pub(super) mod args;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::output;
use crate::config::{self, Config};
use crate::migrate::{self, Family, Hints, ImportError, Imported};
use args::{ExportArgs, ExportCommand, ImportArgs, ImportCommand, OutputArgs};

pub(super) fn import(command: ImportCommand) -> Result<()> {
    match command {
        ImportCommand::IptablesSave(args) => write(args, migrate::import_iptables),
        ImportCommand::Nft(args) => write(args, migrate::import_nft),
    }
}

pub(super) fn export(command: ExportCommand) -> Result<()> {
    match command {
        ExportCommand::Iptables(args) => {
            let family = if args.ipv6 { Family::V6 } else { Family::V4 };
            let config = load(&args.export)?;
            put(
                &args.export.output,
                &migrate::export_iptables(&config, family),
            )
        }
        ExportCommand::Nft(args) => put(&args.output, &migrate::export_nft(&load(&args)?)),
    }
}

fn load(args: &ExportArgs) -> Result<Config> {
    let path = args.file.as_deref();
    Ok(config::load(
        path.unwrap_or(Path::new(config::DEFAULT_PATH)),
    )?)
}

fn write(
    args: ImportArgs,
    import: fn(&str, &Hints) -> Result<Imported, ImportError>,
) -> Result<()> {
    let text = read(args.file.as_deref())?;
    let hints = Hints {
        interfaces: args.interface,
        addresses: args.address,
        routes: args.route,
    };
    let imported = match import(&text, &hints) {
        Ok(imported) => imported,
        Err(error) => {
            if let ImportError::Untranslatable { findings } = &error {
                output::error(findings.trim_end());
            }
            return Err(error.into());
        }
    };
    put(&args.output, &imported.text)?;
    if !imported.findings.is_empty() {
        output::error(imported.findings.trim_end());
    }
    Ok(())
}

/// Comments may be in any encoding; what is not UTF-8 is replaced.
fn read(file: Option<&Path>) -> Result<String> {
    let mut bytes = Vec::new();
    match file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()));
            file?
                .read_to_end(&mut bytes)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
        None => {
            io::stdin()
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// To standard output, or to a file that is not there or may be replaced, whole or not at all.
fn put(args: &OutputArgs, text: &str) -> Result<()> {
    let Some(path) = &args.output else {
        return output::text(text);
    };
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    match created {
        Ok(mut file) => {
            let written = file.write_all(text.as_bytes());
            if written.is_err() {
                // Half a configuration is worse than none.
                let _ = fs::remove_file(path);
            }
            written.with_context(|| format!("cannot write {}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && args.force => {
            replace(path, text).with_context(|| format!("cannot replace {}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
            "{} is there already: choose another file, or replace it with --force",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
}

/// Beside the file first, so that there is one whatever happens.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    fs::write(&beside, text)?;
    if let Ok(metadata) = fs::metadata(&path) {
        fs::set_permissions(&beside, metadata.permissions())?;
    }
    fs::rename(&beside, &path)
}
