//! `forwarder top`.

use anyhow::Result;
use ratatui::crossterm::terminal;

use super::args::TopArgs;
use super::{output, query};
use crate::top;

/// Where no terminal says how wide it is.
const WIDTH: u16 = 132;

pub(super) fn top(args: &TopArgs) -> Result<()> {
    let socket = query::socket(&args.socket)?;
    if !args.once && !args.json {
        return top::run(socket, args.interval);
    }
    let app = top::once(&socket, args.interval)?;
    if args.json {
        return output::line(&serde_json::to_string_pretty(&app.model)?);
    }
    let width = terminal::size().map_or(WIDTH, |(width, _)| width.max(80));
    output::text(&top::text(&app, width)?)
}
