//! Real mail servers of Debian's packages, each with a private configuration, directory and set of processes.

mod dovecot;
mod postfix;

use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User};

pub use dovecot::Dovecot;
pub use postfix::Postfix;

/// The user who owns the mailboxes: Debian's own for the purpose.
const OWNER: &str = "mail";

/// The only account.
pub const USER: &str = "user";

/// Its password.
pub const PASSWORD: &str = "secret";

/// The domain mail is accepted for.
pub const DOMAIN: &str = "example.net";

/// A system user's identity.
fn identity(name: &str) -> Result<(Uid, Gid)> {
    let user = User::from_name(name)?.with_context(|| format!("there is no system user {name}"))?;
    Ok((user.uid, user.gid))
}

/// Makes the directory that has the mailboxes.
fn make_mail_directory(directory: &Path) -> Result<()> {
    let mail = directory.join("mail");
    std::fs::create_dir_all(&mail).with_context(|| format!("creating {}", mail.display()))?;
    let (uid, gid) = identity(OWNER)?;
    nix::unistd::chown(&mail, Some(uid), Some(gid)).context("giving the mailboxes to their owner")
}
