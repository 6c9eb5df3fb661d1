//! Traffic does not depend on the daemon: it goes on when the daemon is killed, and the next one takes the flows over.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::Value;
use tests::responder::{Server, connect, echo, tcp_exchange};
use tests::scenario::engines::{AUTO, TC, XDP, XDP_GENERIC};
use tests::scenario::{Engine, Forwarder, Rig, Rule, S0};

const RULE: Rule = Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7");

/// The flow of a connection, by the client's port.
fn flow(forwarder: &Forwarder, client: &TcpStream) -> Result<Value> {
    let source = client.local_addr()?.to_string();
    let flows = forwarder.query("flows")?;
    let found = flows.as_array().and_then(|list| {
        list.iter()
            .find(|flow| flow["original"]["source"] == *source)
    });
    found
        .cloned()
        .with_context(|| format!("no flow from {source} in {flows:#}"))
}

fn exchange(stream: &mut TcpStream, when: &str) -> Result<()> {
    let answer = tcp_exchange(stream, when.as_bytes()).with_context(|| when.to_owned())?;
    ensure!(answer == when.as_bytes(), "{when}: other bytes came back");
    Ok(())
}

#[rstest]
fn a_killed_daemon_is_not_missed(
    #[values(XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    let mut rig = Rig::s0(engine, &[RULE])?;
    let _server = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let forwarder = rig
        .gateway
        .forwarder()
        .context("this test is about the daemon")?;
    let client = &rig.hosts.client;

    let mut old = connect(client, S0::at_gateway(7))?;
    exchange(&mut old, "before")?;
    let before = flow(forwarder, &old)?;

    forwarder.kill()?;
    exchange(&mut old, "while nobody watches")?;
    let mut orphan =
        connect(client, S0::at_gateway(7)).context("connecting while nobody watches")?;
    exchange(&mut orphan, "a connection made while nobody watches")?;

    forwarder.restart()?;
    let adopted = flow(forwarder, &old)?;
    assert_eq!(
        adopted["reply"]["destination"], before["reply"]["destination"],
        "another port: not the same flow"
    );
    flow(forwarder, &orphan)?;
    exchange(&mut old, "after the restart")?;
    exchange(&mut orphan, "after the restart")?;
    let mut new = connect(client, S0::at_gateway(7)).context("connecting after the restart")?;
    exchange(&mut new, "a connection made after the restart")?;
    ends_cleanly(old)
}

/// The end of a connection passes in both directions too.
fn ends_cleanly(mut stream: TcpStream) -> Result<()> {
    stream.flush()?;
    stream.shutdown(std::net::Shutdown::Write)?;
    ensure!(
        stream.read(&mut [0; 1])? == 0,
        "the server said something after the end"
    );
    Ok(())
}

/// A daemon that was told to end leaves traffic running as well; only `detach` stops it.
#[rstest]
fn detach_ends_forwarding(#[values(XDP, TC, XDP_GENERIC, AUTO)] engine: Engine) -> Result<()> {
    let mut rig = Rig::s0(engine, &[RULE])?;
    let _server = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let forwarder = rig
        .gateway
        .forwarder()
        .context("this test is about the daemon")?;
    let client = &rig.hosts.client;

    forwarder.stop()?;
    let mut stream =
        connect(client, S0::at_gateway(7)).context("connecting after the daemon ended")?;
    exchange(&mut stream, "after the daemon ended")?;

    forwarder.detach()?;
    connect(client, S0::at_gateway(7))
        .map(drop)
        .expect_err("nothing forwards any more");
    Ok(())
}
