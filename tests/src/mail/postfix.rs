//! Postfix: SMTP in, Maildir out.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{DOMAIN, OWNER, USER, identity, make_mail_directory};
use crate::netns::Namespace;
use crate::process::{self, Process};

/// The services a message that comes in by SMTP and goes to a Maildir needs. None is in a chroot: the private queue
/// has no copies of /etc and libraries.
const MASTER_CF: &str = "\
smtp      inet  n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
proxymap  unix  - - n - - proxymap
virtual   unix  - n n - - virtual
error     unix  - - n - - error
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
";

/// Postfix's first process.
const MASTER: &str = "/usr/lib/postfix/sbin/master";

/// How long the check of the queue may take.
const CHECK: Duration = Duration::from_secs(30);

/// A running Postfix; dropping it ends it.
#[derive(Debug)]
pub struct Postfix {
    _master: Process,
}

impl Postfix {
    /// Starts it on port 25 of an address. Mail for the account goes to `directory`/mail, where Dovecot finds it.
    ///
    /// # Errors
    /// If it is not installed, refuses the configuration, or does not listen in time.
    pub fn start(namespace: &Namespace, address: Ipv4Addr, directory: &Path) -> Result<Self> {
        make_mail_directory(directory)?;
        let etc = directory.join("postfix");
        for name in ["postfix", "spool", "data"] {
            fs::create_dir_all(directory.join(name)).with_context(|| format!("creating {name}"))?;
        }
        fs::write(etc.join("main.cf"), main_cf(address, directory)?).context("writing main.cf")?;
        fs::write(etc.join("master.cf"), MASTER_CF).context("writing master.cf")?;
        let (uid, gid) = identity("postfix").context("Debian's package is postfix")?;
        nix::unistd::chown(&directory.join("data"), Some(uid), Some(gid))?;
        // Makes the directories of the queue; master alone does not.
        process::output(
            namespace
                .command("postfix")
                .arg("-c")
                .arg(&etc)
                .arg("check"),
            CHECK,
        )?;
        // Not `postfix start-fg`: that is a shell script, which would take the signals meant for its child.
        let mut command = namespace.command(MASTER);
        let mut master = Process::spawn(
            command
                .args(["-s", "-c"])
                .arg(&etc)
                .env("MAIL_CONFIG", &etc),
        )?;
        let listens = || {
            let address = SocketAddr::from((address, 25));
            namespace
                .run(|| TcpStream::connect(address).is_ok())
                .unwrap_or(false)
        };
        let log = || fs::read_to_string(directory.join("postfix.log")).unwrap_or_default();
        master
            .wait_ready("Postfix listening", Duration::from_secs(30), listens)
            .with_context(log)?;
        Ok(Self { _master: master })
    }
}

fn main_cf(address: Ipv4Addr, directory: &Path) -> Result<String> {
    let directory = directory.display();
    let (uid, gid) = identity(OWNER)?;
    Ok(format!(
        "compatibility_level = 3.6\n\
         queue_directory = {directory}/spool\n\
         data_directory = {directory}/data\n\
         command_directory = /usr/sbin\n\
         daemon_directory = /usr/lib/postfix/sbin\n\
         shlib_directory = /usr/lib/postfix\n\
         meta_directory = /etc/postfix\n\
         mail_owner = postfix\n\
         setgid_group = postdrop\n\
         maillog_file = {directory}/postfix.log\n\
         maillog_file_prefixes = {directory}\n\
         myhostname = mail.{DOMAIN}\n\
         mydestination =\n\
         mynetworks = 127.0.0.0/8\n\
         inet_interfaces = {address}\n\
         inet_protocols = ipv4\n\
         alias_maps =\n\
         smtpd_peername_lookup = no\n\
         smtpd_relay_restrictions = reject_unauth_destination\n\
         virtual_mailbox_domains = {DOMAIN}\n\
         virtual_mailbox_base = {directory}/mail\n\
         virtual_mailbox_maps = inline:{{ {USER}@{DOMAIN}={USER}/ }}\n\
         virtual_minimum_uid = 1\n\
         virtual_uid_maps = static:{uid}\n\
         virtual_gid_maps = static:{gid}\n"
    ))
}
