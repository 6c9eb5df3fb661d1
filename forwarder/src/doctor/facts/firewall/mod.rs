//! Netfilter's rules, as far as they say what becomes of a new connection.
//!
//! They are read with the tools that made them: `nft` and the `save` commands of iptables speak formats that do not
//! change, while what travels over netlink (and, for the legacy tables, through `getsockopt`) are the kernel's own
//! structures, and each match of iptables has another. Where rules are and no tool is, that is said.

mod evaluate;
mod iptables;
mod nft;

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use ipnet::IpNet;

use super::Gaps;
use crate::doctor::finding::Group;

pub(in crate::doctor) use evaluate::{Fate, Packet};

/// All chains of all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Ruleset {
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Chain {
    /// The command for its table: `nft`, `iptables`, `ip6tables-legacy`.
    pub tool: String,
    /// Family and table: `inet filter` for nft, `nat` for iptables.
    pub table: String,
    pub name: String,
    pub v4: bool,
    pub v6: bool,
    /// Where packets get into it, if it is not only jumped to.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// How packets get into a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Base {
    pub hook: Hook,
    pub priority: i32,
    /// Whether what no rule decides is dropped.
    pub drops: bool,
}

/// A place on the way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Hook {
    Prerouting,
    Input,
    Output,
    /// Where nothing of ours comes by.
    Elsewhere,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Rule {
    pub tests: Vec<Test>,
    pub action: Action,
    /// How an operator knows it.
    pub text: String,
    /// The command that removes it.
    pub remove: String,
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Test {
    pub about: About,
    pub negated: bool,
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum About {
    /// The device it came in by, `+` or `*` at the end for all that begin so.
    Device(Vec<String>),
    /// `tcp`, `udp`, or whatever else.
    Protocol(Vec<String>),
    Destination(Vec<IpNet>),
    /// The destination ports.
    Ports(Vec<(u16, u16)>),
    /// `new`, `established` and so on.
    State(Vec<String>),
    /// Something that depends on what is not known.
    Unknown,
}

/// What a rule does with the packets that it matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) enum Action {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
    /// Gives it another destination.
    Translate,
    /// Something that lets it go on.
    #[default]
    Continue,
    /// Something that is not known.
    Unknown,
}

/// The tables that iptables has, which `nft` shows as well.
const IPTABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

pub(super) fn read(gaps: &mut Gaps) -> Option<Ruleset> {
    let mut ruleset = Ruleset::default();
    let native = gaps.take(Group::Firewall, "rules of nftables", nftables());
    let complete = native.is_some();
    ruleset.chains.extend(native.unwrap_or_default());
    for (family, v6) in [("iptables", false), ("ip6tables", true)] {
        let legacy = gaps.take(
            Group::Firewall,
            &format!("rules of {family}-legacy"),
            legacy(family, v6),
        );
        ruleset.chains.extend(legacy.unwrap_or_default());
    }
    (complete || !ruleset.chains.is_empty()).then_some(ruleset)
}

/// Whatever is in nf_tables, what iptables put there in iptables' own words.
fn nftables() -> anyhow::Result<Vec<Chain>> {
    if which("nft").is_none() {
        return match tables_exist() {
            Ok(false) => Ok(Vec::new()),
            Ok(true) => bail!("`nft` is not installed: apt install nftables"),
            Err(error) => Err(error).context("needs CAP_NET_ADMIN; run this with sudo"),
        };
    }
    let text = output("nft", &["-j", "list", "ruleset"])?;
    let mut chains = nft::parse(&text)?;
    for (family, tool, v6) in [("ip ", "iptables", false), ("ip6 ", "ip6tables", true)] {
        let theirs = |chain: &Chain| {
            let table = chain.table.strip_prefix(family);
            table.is_some_and(|table| IPTABLES.contains(&table))
        };
        let save = format!("{tool}-nft-save");
        if chains.iter().any(theirs) && which(&save).is_some() {
            let saved = iptables::parse(&output(&save, &[])?, &format!("{tool}-nft"), v6);
            // Tables that only look like iptables' are not in what it saves.
            let saves = |chain: &Chain| {
                saved
                    .iter()
                    .any(|one| chain.table == format!("{family}{}", one.table))
            };
            chains.retain(|chain| !saves(chain));
            chains.extend(saved);
        }
    }
    Ok(chains)
}

/// The tables of the old iptables, if there are any: asking for one that is not there would make it.
fn legacy(family: &str, v6: bool) -> anyhow::Result<Vec<Chain>> {
    let names = match v6 {
        false => "/proc/net/ip_tables_names",
        true => "/proc/net/ip6_tables_names",
    };
    let tables = match fs::read_to_string(names) {
        Ok(tables) => tables,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(_) => bail!("needs root; run this with sudo"),
    };
    let tool = format!("{family}-legacy");
    let save = format!("{tool}-save");
    let mut chains = Vec::new();
    for table in tables.lines().filter(|table| IPTABLES.contains(table)) {
        if which(&save).is_none() {
            bail!("`{save}` is not installed: apt install iptables");
        }
        chains.extend(iptables::parse(&output(&save, &["-t", table])?, &tool, v6));
    }
    Ok(chains)
}

fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let path = which(program).with_context(|| format!("`{program}` is not installed"))?;
    let output = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{program}` does not start"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        if said.contains("not permitted") || said.contains("must be root") {
            bail!("needs CAP_NET_ADMIN; run this with sudo");
        }
        bail!("`{program}` says: {said}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where `program` is: users' paths often lack the directories of administrators' tools.
fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Whether there is any table in nf_tables.
fn tables_exist() -> anyhow::Result<bool> {
    use netlink_packet_netfilter::{
        NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
        nftables::{NfTablesMessage, TableMessage},
    };
    let question = NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
        NfTablesMessage::GetTable(TableMessage {
            attributes: Vec::new(),
        }),
    );
    let mut exist = false;
    super::conntrack::dump(question, |message| {
        exist |= matches!(
            message,
            NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(_))
        );
    })?;
    Ok(exist)
}
