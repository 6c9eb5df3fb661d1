//! `forwarder events` and `forwarder who`.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use ipnet::IpNet;
use serde_json::json;

use super::args::QueryArgs;
use super::{output, query};
use crate::config;
use crate::control::{ControlError, FlowProtocol, client, prefix};
use crate::events::time::{self, Moment};
use crate::events::{EventQuery, Heard, Kind};
use crate::history::{Kept, Reader, WhoQuery, WhoReport};

#[derive(Args, Debug)]
#[command(after_help = "\
One line for each event: for people on a terminal, JSON elsewhere. Events that were lost because something was too
slow are counted, in a line {\"event\":\"lost\",\"count\":N} and on standard error.

Examples:
  forwarder events --rule pop3 --kind new
  forwarder events --json --kind closed | jq -c '{client, cause, bytes: .reply.bytes}'")]
pub(super) struct EventsArgs {
    /// Only of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Only with an address in this prefix: client, listener, backend or translated source
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub address: Option<IpNet>,
    /// Only with this port at any of these
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Only of this protocol
    #[arg(long, value_name = "PROTOCOL", value_enum)]
    pub protocol: Option<FlowProtocol>,
    /// Only of this kind; several with commas
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    pub kind: Vec<Kind>,
    /// End after so many
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
    #[command(flatten)]
    pub query: QueryArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Flows that are gone are known if the configuration has [history]. Without --at all that are known are listed, by time.
While no forwarder runs, the history that --config names is read, which needs its owner's rights.

TIME is RFC 3339, \"2026-11-26 14:03\" in this host's time zone, or \"10m ago\"; of a time without seconds the whole
minute is meant. When a flow began is known to about a second.

Examples:
  forwarder who 203.0.113.5:65166
  forwarder who 203.0.113.5:65166 --at '2026-11-26 14:03' --protocol tcp
  forwarder who 203.0.113.5:65166 --at 2026-11-26T14:03:05+01:00 --json | jq -r '.flows[].client'
  forwarder who '[2001:db8::5]:65166' --at '10m ago'")]
pub(super) struct WhoArgs {
    /// The address and port that the backend saw
    #[arg(value_name = "ADDR:PORT")]
    pub translated: SocketAddr,
    /// When [default: at any time]
    #[arg(long, value_name = "TIME", value_parser = time::parse_here)]
    pub at: Option<Moment>,
    /// Only of this protocol
    #[arg(long, value_name = "PROTOCOL", value_enum)]
    pub protocol: Option<FlowProtocol>,
    #[command(flatten)]
    pub query: QueryArgs,
}

pub(super) fn events(args: EventsArgs) -> Result<()> {
    let socket = query::socket(&args.query.socket)?;
    let mut printer = Printer {
        json: args.query.json || !io::stdout().is_terminal(),
        left: args.limit.map(|limit| limit.get() as u64),
    };
    let query = EventQuery {
        rule: args.rule,
        address: args.address,
        port: args.port,
        protocol: args.protocol,
        kinds: args.kind,
    };
    let mut written = Ok(output::Reader::Stays);
    client::ask_events(&socket, &query, |heard| {
        let lost = heard.lost;
        written = printer.lines(heard).and_then(|text| output::part(&text));
        if lost != 0 {
            output::error(&format!("{lost} events were lost"));
        }
        match written {
            Ok(output::Reader::Stays) if printer.left != Some(0) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    written.map(drop)
}

struct Printer {
    json: bool,
    /// How many more are wanted; `None`: all.
    left: Option<u64>,
}

impl Printer {
    fn lines(&mut self, heard: Heard) -> Result<String> {
        let mut text = String::new();
        if heard.lost != 0 && self.json {
            let lost = json!({"event": "lost", "count": heard.lost});
            text.push_str(&format!("{lost}\n"));
        }
        for event in heard.events {
            match &mut self.left {
                Some(0) => break,
                Some(left) => *left -= 1,
                None => {}
            }
            let line = match self.json {
                true => serde_json::to_string(&event)?,
                false => event.to_string(),
            };
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }
}

pub(super) fn who(args: &WhoArgs) -> Result<()> {
    let asked = WhoQuery {
        translated: args.translated,
        protocol: args.protocol,
        at: args.at,
    };
    let socket = query::socket(&args.query.socket)?;
    let report = match client::ask_who(&socket, asked) {
        Err(ControlError::NotRunning(path)) => {
            let file = args.query.socket.config.as_deref();
            match kept(file.unwrap_or(Path::new(config::DEFAULT_PATH)), &asked)? {
                Some(report) => report,
                None => return Err(ControlError::NotRunning(path).into()),
            }
        }
        answer => answer?,
    };
    query::show(&report, args.query.json)
}

/// What the history says while no daemon runs; `None` if the configuration names none.
fn kept(file: &Path, query: &WhoQuery) -> Result<Option<WhoReport>> {
    let Ok(config) = config::load(file) else {
        return Ok(None);
    };
    let Some(history) = config.history else {
        return Ok(None);
    };
    let found = Reader::open(&history.path)?.find(query)?;
    Ok(Some(WhoReport {
        flows: found.records,
        left_out: found.left_out,
        kept: Kept::History,
    }))
}
