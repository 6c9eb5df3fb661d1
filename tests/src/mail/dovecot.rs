//! Dovecot: POP3 and IMAP.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{OWNER, PASSWORD, identity, make_mail_directory};
use crate::netns::Namespace;
use crate::process::Process;

/// A running Dovecot; dropping it ends it.
#[derive(Debug)]
pub struct Dovecot {
    _master: Process,
}

impl Dovecot {
    /// Starts it on ports 110 and 143 of an address, with mailboxes in `directory`/mail.
    ///
    /// # Errors
    /// If it is not installed, refuses the configuration, or does not listen in time.
    pub fn start(namespace: &Namespace, address: Ipv4Addr, directory: &Path) -> Result<Self> {
        make_mail_directory(directory)?;
        let config = directory.join("dovecot.conf");
        std::fs::write(&config, configuration(address, directory)?)
            .context("writing dovecot.conf")?;
        let mut command = namespace.command("dovecot");
        let mut master = Process::spawn(command.arg("-F").arg("-c").arg(&config))
            .context("Debian's packages are dovecot-pop3d and dovecot-imapd")?;
        let listens = |port| {
            let address = SocketAddr::from((address, port));
            namespace
                .run(|| TcpStream::connect(address).is_ok())
                .unwrap_or(false)
        };
        master.wait_ready("Dovecot listening", Duration::from_secs(20), || {
            listens(110) && listens(143)
        })?;
        Ok(Self { _master: master })
    }
}

fn configuration(address: Ipv4Addr, directory: &Path) -> Result<String> {
    let directory = directory.display();
    let (uid, gid) = identity(OWNER)?;
    Ok(format!(
        "base_dir = {directory}/dovecot\n\
         state_dir = {directory}/dovecot-state\n\
         log_path = /dev/stderr\n\
         listen = {address}\n\
         protocols = pop3 imap\n\
         ssl = no\n\
         disable_plaintext_auth = no\n\
         first_valid_uid = 1\n\
         mail_location = maildir:{directory}/mail/%n\n\
         passdb {{\n  driver = static\n  args = password={PASSWORD}\n}}\n\
         userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={directory}/mail/%n\n}}\n"
    ))
}
