//! Reading the file, and telling what is wrong with one that cannot be read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::errors::{ConfigErrors, Diagnostic};
use super::span::Origin;

/// A file of 65,536 rules with long names is under 32 MiB; more is not a configuration.
const MAX_BYTES: u64 = 64 << 20;

/// The name to use in messages, and the text.
pub(super) fn read(path: &Path) -> Result<(String, String), ConfigErrors> {
    let name = path.display().to_string();
    let bytes = bytes(path).map_err(|error| ConfigErrors::from_file(&name, unreadable(&error)))?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!(
            "too large for a configuration: expected at most {} MiB",
            MAX_BYTES >> 20
        );
        return Err(ConfigErrors::from_file(&name, Diagnostic::file(message)));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(not_utf8(
            &name,
            error.as_bytes(),
            error.utf8_error().valid_up_to(),
        )),
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> Diagnostic {
    let (message, help) = match error.kind() {
        io::ErrorKind::NotFound => ("no such file".to_owned(), "write one, or name another"),
        io::ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            "run it with sudo, or make it readable",
        ),
        io::ErrorKind::IsADirectory => ("this is a directory".to_owned(), "name a file in it"),
        _ => (format!("cannot be read: {error}"), "name a regular file"),
    };
    Diagnostic::file(message).help(help)
}

fn not_utf8(name: &str, bytes: &[u8], at: usize) -> ConfigErrors {
    // Up to the bad byte the lossy text has the same offsets.
    let origin = Origin::file(name, &String::from_utf8_lossy(bytes));
    let byte = bytes.get(at).copied().unwrap_or_default();
    let message = format!("not UTF-8: byte `0x{byte:02x}` starts no character");
    let found = Diagnostic::at((at..at + 1).into(), message).help("save the file as UTF-8");
    ConfigErrors::new(origin, vec![found])
}
