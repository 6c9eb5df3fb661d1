//! What can be typed.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, value_parser};
use clap_complete::Shell;
use forwarder_common::capture::LONGEST;
use forwarder_common::tcp::State;
use ipnet::IpNet;

use super::events::{EventsArgs, WhoArgs};
use super::explain::{End, end};
use super::migrate::args::{ExportCommand, ImportCommand};
use crate::control::{FlowOrder, FlowProtocol, prefix};
use crate::explain::TcpFlag;

/// Forwards TCP and UDP connections to other hosts with eBPF, without the kernel's stack.
#[derive(Debug, Parser)]
#[command(
    bin_name = "forwarder",
    name = "forwarder",
    version,
    after_help = "Example: forwarder check /etc/forwarder/forwarder.toml"
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Forward until stopped, in the foreground
    Run(Box<RunArgs>),
    /// Say all that is wrong with a configuration file, without privileges
    Check(CheckArgs),
    /// Say what keeps forwarding from working on this host, and what mends it; changes nothing
    Doctor(DoctorArgs),
    /// Show interfaces, how full the tables are, and what was forwarded
    #[command(after_help = "Example: forwarder status --json | jq .flows.used")]
    Status(QueryArgs),
    /// Show the rules and their counters
    #[command(after_help = "Example: forwarder rules --json | jq '.[] | {name, flows_active}'")]
    Rules(QueryArgs),
    /// Show flows in both directions, one a line
    Flows(FlowsArgs),
    /// Show why packets were not forwarded: how often, who sent the last one that was dropped, and what to do
    #[command(after_help = "Example: forwarder drops --all")]
    Drops(DropsArgs),
    /// Watch rules, flows and drops with their rates
    Top(TopArgs),
    /// Tell of flows as they begin, are established and are gone, until stopped
    Events(EventsArgs),
    /// Say which client was behind a translated connection, now or earlier
    Who(WhoArgs),
    /// Run a described packet through the programs: what each stage decides, and what would leave
    Explain(ExplainArgs),
    /// Write packets before and after translation to a file that Wireshark reads
    Capture(CaptureArgs),
    /// Make a configuration of iptables' or nftables' rules
    #[command(
        subcommand,
        disable_help_subcommand = true,
        after_help = "Example: sudo iptables-save | forwarder import iptables-save --output forwarder.toml"
    )]
    Import(ImportCommand),
    /// Make iptables' or nftables' rules of a configuration
    #[command(
        subcommand,
        disable_help_subcommand = true,
        after_help = "Example: forwarder export iptables /etc/forwarder/forwarder.toml"
    )]
    Export(ExportCommand),
    /// Make the running forwarder read its file again; a bad file changes nothing
    #[command(after_help = "Example: forwarder check && sudo forwarder reload")]
    Reload(SocketArgs),
    /// Write the manual's pages
    Man(ManArgs),
    /// Write completions of the command line for a shell
    #[command(after_help = "\
Examples:
  forwarder completions bash | sudo tee /usr/share/bash-completion/completions/forwarder > /dev/null
  forwarder completions zsh > ~/.zfunc/_forwarder")]
    Completions(CompletionsArgs),
    /// Stop forwarding: remove what keeps working after the daemon has ended
    #[command(after_help = "Example: sudo forwarder detach")]
    Detach,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  forwarder run --config /etc/forwarder/forwarder.toml
  forwarder run --interface eth0 --listen 110 --to 195.228.245.1:110 --source masquerade")]
pub(super) struct RunArgs {
    /// The configuration file [default: /etc/forwarder/forwarder.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take the XDP programs of others off the devices that are to have the forwarder's
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    pub rule: Option<RuleArgs>,
}

/// One rule without a file. Values are checked by the configuration's own parsers, so they are plain text here.
#[derive(Args, Debug)]
#[group(id = "rule", multiple = true, conflicts_with = "config")]
pub(super) struct RuleArgs {
    /// Instead of a file: the device on which packets arrive
    #[arg(long, value_name = "NAME", required = false, requires_all = ["listen", "to"])]
    pub interface: String,
    /// What to forward: PORT, ADDR:PORT or *:PORT, each also with PORT-PORT
    #[arg(long, value_name = "LISTEN", required = false, requires_all = ["interface", "to"])]
    pub listen: String,
    /// Where to: ADDR, ADDR:PORT or ADDR:PORT-PORT, several share the flows; or local:PORT
    #[arg(long, value_name = "TARGET", required = false, requires_all = ["interface", "listen"])]
    pub to: Vec<String>,
    /// As whom: preserve, masquerade, ADDR or ADDR-ADDR [default: preserve]
    #[arg(long, value_name = "SOURCE", requires = "listen")]
    pub source: Option<String>,
    /// tcp or udp, or both by repeating the flag [default: tcp]
    #[arg(long, value_name = "PROTOCOL", requires = "listen")]
    pub protocol: Vec<String>,
    /// Where on the device: auto, xdp, xdp-generic or tc [default: auto]
    #[arg(long, value_name = "MODE", requires = "listen")]
    pub mode: Option<String>,
    /// Clients to let in; others are dropped and counted
    #[arg(long, value_name = "PREFIX", requires = "listen")]
    pub allow: Vec<String>,
    /// Clients to keep out
    #[arg(long, value_name = "PREFIX", requires = "listen")]
    pub deny: Vec<String>,
    /// Where to answer `forwarder status` and its kin [default: /run/forwarder.sock]
    #[arg(long, value_name = "PATH", requires = "listen")]
    pub control_socket: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example: forwarder check forwarder.toml")]
pub(super) struct CheckArgs {
    /// The configuration file [default: /etc/forwarder/forwarder.toml]
    pub file: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Backends are asked whether they answer: TCP with a handshake, UDP with an empty datagram.
Exit code 1 if something does not work. Without root it looks at what it may, and says what it may not.

Examples:
  sudo forwarder doctor
  sudo forwarder doctor forwarder.toml --json | jq -r '.groups[].findings[].mend[].run // empty'")]
pub(super) struct DoctorArgs {
    /// The configuration file [default: /etc/forwarder/forwarder.toml]
    pub file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Each packet is in the file twice, and its comment says of which rule it is, in which direction, and whether it is as it
came or as it leaves. Packets cost more time while this runs, and nothing before and after. Ctrl-C stops it.

Examples:
  sudo forwarder capture pop3 -w pop3.pcapng --count 100
  sudo forwarder capture -w - | wireshark -k -i -
  tshark -r pop3.pcapng -T fields -e frame.comment -e ip.src -e ip.dst")]
pub(super) struct CaptureArgs {
    /// The rule whose packets are wanted [default: every rule]
    pub rule: Option<String>,
    /// The file to write; - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,
    /// Stop after so many translated packets
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = value_parser!(u64).range(1..))]
    pub count: u64,
    /// Bytes of each packet, from the Ethernet header on
    #[arg(long, value_name = "BYTES", default_value_t = LONGEST, value_parser = value_parser!(u32).range(64..=i64::from(LONGEST)))]
    pub snaplen: u32,
    #[command(flatten)]
    pub socket: SocketArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Nothing comes of it: no flow is made, nothing is counted or sent. The programs are those that are at work, with the rules,
routes, neighbours and flows of this moment.

Examples:
  forwarder explain --interface eth0 198.51.100.7:40000 203.0.113.5:110
  forwarder explain --interface eth0 --protocol udp 198.51.100.7:40000 203.0.113.5:53 --payload 30
  forwarder explain --interface eth0 --flags ack 195.228.245.1:110 203.0.113.5:40000
  forwarder explain --interface eth1 --protocol icmp 10.0.0.5 192.0.2.1 --ttl 1 --json")]
pub(super) struct ExplainArgs {
    /// The device that it comes in by
    #[arg(long, value_name = "NAME")]
    pub interface: String,
    /// Its protocol; icmp is an echo request
    #[arg(long, value_name = "PROTOCOL", value_enum, default_value = "tcp")]
    pub protocol: FlowProtocol,
    /// Who sends it: ADDR:PORT; for an echo ADDR, or ADDR:IDENTIFIER
    #[arg(value_name = "SOURCE", value_parser = end)]
    pub source: End,
    /// To whom: ADDR:PORT; for an echo ADDR
    #[arg(value_name = "DESTINATION", value_parser = end)]
    pub destination: End,
    /// TCP flags [default: syn]
    #[arg(long, value_name = "FLAG", value_enum, value_delimiter = ',')]
    pub flags: Vec<TcpFlag>,
    /// Time to live, or hop limit
    #[arg(long, value_name = "HOPS", default_value_t = 64)]
    pub ttl: u8,
    /// Bytes behind its headers
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = value_parser!(u16).range(..=3000))]
    pub payload: u16,
    /// It is one that this host itself sends, about to leave by the device
    #[arg(long)]
    pub output: bool,
    #[command(flatten)]
    pub query: QueryArgs,
}

#[derive(Args, Debug)]
pub(super) struct SocketArgs {
    /// The forwarder to ask [default: $FORWARDER_SOCKET, else that of --config, else /run/forwarder.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Take the socket from this configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct QueryArgs {
    /// Print JSON: plain numbers, bytes and seconds
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub socket: SocketArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  forwarder flows --address 198.51.100.0/24 --state established
  forwarder flows --rule pop3 --sort bytes --limit 10
  forwarder flows --json --protocol udp | jq '.[].reply.source'")]
pub(super) struct FlowsArgs {
    /// Only of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Only with an address in this prefix: client, listener, backend or translated source
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub address: Option<IpNet>,
    /// Only with this port at any of these
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Only in this state
    #[arg(long, value_name = "STATE", ignore_case = true, value_parser = states())]
    pub state: Option<String>,
    /// Only of this protocol
    #[arg(long, value_name = "PROTOCOL", value_enum)]
    pub protocol: Option<FlowProtocol>,
    /// The largest first; otherwise in no order
    #[arg(long, value_name = "KEY", value_enum)]
    pub sort: Option<FlowOrder>,
    /// No more than so many
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
    #[command(flatten)]
    pub query: QueryArgs,
}

/// The names of the states, in whatever case.
fn states() -> PossibleValuesParser {
    State::ALL.map(State::name).into()
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  forwarder top
  forwarder top --interval 5s
  forwarder top --json | jq '.rules[] | {name, packets, bits}'")]
pub(super) struct TopArgs {
    /// How often to look, from 100ms to 1h; less often where many flows make it slow
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Look twice, an interval apart, print what there is and end
    #[arg(long)]
    pub once: bool,
    /// The same as JSON: rates a second, bytes, seconds
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub socket: SocketArgs,
}

fn interval(text: &str) -> Result<Duration, String> {
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    match humantime::parse_duration(text) {
        Ok(interval) if range.contains(&interval) => Ok(interval),
        _ => Err("expected a duration from 100ms to 1h such as 2s".to_owned()),
    }
}

#[derive(Args, Debug)]
pub(super) struct DropsArgs {
    /// Also list reasons that never occurred
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub query: QueryArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  forwarder man | man -l -
  forwarder man --output /usr/share/man/man1")]
pub(super) struct ManArgs {
    /// A page for every command, into this directory [default: the main page, to standard output]
    #[arg(long, value_name = "DIRECTORY")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}
