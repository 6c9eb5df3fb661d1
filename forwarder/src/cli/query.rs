//! Commands that ask the running daemon and print what it says.

use std::env;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{DropsArgs, QueryArgs, SocketArgs};
use super::output;
use crate::config;
use crate::control::{Request, client};
use crate::report::{DropReport, Render, RuleReport, Status};

const SOCKET_VARIABLE: &str = "FORWARDER_SOCKET";

pub(super) fn ask<T: DeserializeOwned>(args: &SocketArgs, request: Request) -> Result<T> {
    Ok(client::ask(&socket(args)?, request)?)
}

pub(super) fn status(args: &QueryArgs) -> Result<()> {
    let status: Status = ask(&args.socket, Request::Status)?;
    show(&status, args.json)
}

pub(super) fn rules(args: &QueryArgs) -> Result<()> {
    let rules: Vec<RuleReport> = ask(&args.socket, Request::Rules)?;
    show(rules.as_slice(), args.json)
}

pub(super) fn drops(args: &DropsArgs) -> Result<()> {
    let mut drops: Vec<DropReport> = ask(&args.query.socket, Request::Drops)?;
    drops.retain(|one| args.all || one.packets > 0);
    show(drops.as_slice(), args.query.json)
}

pub(super) fn show<T: Render + Serialize + ?Sized>(report: &T, json: bool) -> Result<()> {
    match json {
        true => output::line(&serde_json::to_string_pretty(report)?),
        false => output::text(&report.render()),
    }
}

pub(super) fn socket(args: &SocketArgs) -> Result<PathBuf> {
    if let Some(socket) = &args.socket {
        return Ok(socket.clone());
    }
    if let Some(socket) = env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty()) {
        return Ok(socket.into());
    }
    match &args.config {
        Some(path) => Ok(config::load(path)?.control.socket),
        None => Ok(config::DEFAULT_SOCKET.into()),
    }
}
