//! `forwarder flows`, which may be millions: they are printed as they come.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use anyhow::Result;

use super::args::FlowsArgs;
use super::{output, query};
use crate::control::{FlowQuery, client};
use crate::report::{FlowReport, Render};

pub(super) fn flows(args: FlowsArgs) -> Result<()> {
    let socket = query::socket(&args.query.socket)?;
    let json = args.query.json;
    let query = FlowQuery {
        rule: args.rule,
        address: args.address,
        port: args.port,
        state: args.state,
        protocol: args.protocol,
        sort: args.sort,
        limit: args.limit.map(NonZeroUsize::get),
    };
    let mut printer = Printer {
        json,
        printed: false,
    };
    let mut written = Ok(output::Reader::Stays);
    client::ask_flows(&socket, &query, |flows| {
        written = printer.chunk(&flows).and_then(|text| output::part(&text));
        match written {
            Ok(output::Reader::Stays) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    match written? {
        output::Reader::Stays => output::text(printer.end(&query)),
        output::Reader::Gone => Ok(()),
    }
}

/// Puts chunks together.
struct Printer {
    json: bool,
    printed: bool,
}

impl Printer {
    fn chunk(&mut self, flows: &[FlowReport]) -> Result<String> {
        if !self.json {
            self.printed = true;
            return Ok(flows.render());
        }
        let mut text = String::new();
        for flow in flows {
            text.push_str(if self.printed { ",\n" } else { "[\n" });
            text.push_str(&serde_json::to_string(flow)?);
            self.printed = true;
        }
        Ok(text)
    }

    /// What comes after the last one.
    fn end(&self, query: &FlowQuery) -> &'static str {
        match (self.json, self.printed) {
            (true, true) => "\n]\n",
            (true, false) => "[]\n",
            (false, true) => "",
            (false, false) if query.is_filter() => "no flow is like that\n",
            (false, false) => "no flows\n",
        }
    }
}
