//! What can be typed after `forwarder import` and `forwarder export`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImportCommand {
    /// What iptables-save or ip6tables-save prints, or one after the other
    #[command(after_help = "\
Examples:
  sudo iptables-save | forwarder import iptables-save > forwarder.toml
  forwarder import iptables-save /etc/iptables/rules.v4 --route 192.168.1.0/24=eth1 --output forwarder.toml")]
    IptablesSave(ImportArgs),
    /// What nft -j list ruleset prints
    #[command(
        after_help = "Example: sudo nft -j list ruleset | forwarder import nft > forwarder.toml"
    )]
    Nft(ImportArgs),
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ExportCommand {
    /// A file for iptables-restore --noflush
    #[command(after_help = "\
Examples:
  forwarder export iptables | sudo iptables-restore --noflush
  forwarder export iptables --ipv6 forwarder.toml --output rules.v6")]
    Iptables(ExportIptablesArgs),
    /// A file for nft -f
    #[command(after_help = "Example: forwarder export nft forwarder.toml --output forwarder.nft")]
    Nft(ExportArgs),
}

#[derive(Args, Debug)]
pub(in crate::cli) struct ExportIptablesArgs {
    /// The rules of IPv6, for ip6tables-restore
    #[arg(long)]
    pub ipv6: bool,
    #[command(flatten)]
    pub export: ExportArgs,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct ExportArgs {
    /// The configuration file [default: /etc/forwarder/forwarder.toml]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct ImportArgs {
    /// The rules [default: standard input]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// A device on which packets arrive, besides those that rules name
    #[arg(long, value_name = "NAME")]
    pub interface: Vec<String>,
    /// An address of the host that the rules are for
    #[arg(long, value_name = "ADDR")]
    pub address: Vec<IpAddr>,
    /// The device that leads to these addresses
    #[arg(long, value_name = "PREFIX=NAME", value_parser = route)]
    pub route: Vec<(IpNet, String)>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct OutputArgs {
    /// Write to this file, which must not exist [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// `PREFIX=NAME`; an address is a prefix of one.
fn route(text: &str) -> Result<(IpNet, String), String> {
    let expected = || "expected PREFIX=NAME, such as 192.168.1.0/24=eth1".to_owned();
    let (prefix, name) = text.split_once('=').ok_or_else(expected)?;
    let alone = || prefix.parse::<IpAddr>().map(IpNet::from).ok();
    let prefix = prefix.parse().ok().or_else(alone).ok_or_else(expected)?;
    Ok((prefix, name.to_owned()))
}
