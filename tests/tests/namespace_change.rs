//! What becomes of flows when their rule changes or goes: `on-change`, `drain`, and interfaces that are taken out.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::netns::{Namespace, Prefix, Wire};
use tests::process::wait_until;
use tests::responder::{
    PATIENCE, Server, UdpEcho, connect, connect_within, echo, exchange, tcp_exchange, tell_port,
    udp_client,
};
use tests::scenario::engines::{TC, XDP};
use tests::scenario::{Engine, Family, Forwarder, Gateway, GatewayConfig, Rig, Rule, S0, S3, S4};

/// Two servers behind one listener, by family.
fn rule(family: Family, extra: &'static [&'static str]) -> Rule {
    let (listen, to) = family.pick(
        ("203.0.113.5:7", "195.228.245.1:7"),
        ("[2001:db8:113::5]:7", "[2001:db8:195::1]:7"),
    );
    Rule::masquerade("echo", listen, to).with(extra)
}

/// Sends the rule's packets to the other server.
fn to_other_server(text: &str) -> String {
    text.replace("195.228.245.1:7", "195.228.245.1:8")
        .replace("[2001:db8:195::1]:7", "[2001:db8:195::1]:8")
}

/// Takes the rule out and puts one for another port in its place, since a file must have one.
fn without_rule(text: &str) -> String {
    text.replace("\"echo\"", "\"other\"")
        .replace("203.0.113.5:7", "203.0.113.5:9")
        .replace("[2001:db8:113::5]:7", "[2001:db8:113::5]:9")
}

/// An echo server that tells how each of its connections ended: as an error, or in order.
fn server(namespace: &Namespace, address: &str) -> Result<(Server, Receiver<Option<ErrorKind>>)> {
    let (tell, told) = channel();
    let serve = move |stream| {
        let ended = echo(stream).err().map(|error| error.kind());
        // The test may be over.
        let _ = tell.send(ended);
        Ok(())
    };
    Ok((Server::start(namespace, address, serve)?, told))
}

fn rig(engine: Engine, rule: Rule) -> Result<(S0, Forwarder)> {
    let rig = Rig::s0(engine, &[rule])?;
    match rig.gateway {
        Gateway::Forwarder(forwarder) => Ok((rig.hosts, *forwarder)),
        Gateway::Iptables(_) => anyhow::bail!("this test is about the daemon"),
    }
}

fn works(stream: &mut TcpStream, when: &str) -> Result<()> {
    let came = tcp_exchange(stream, when.as_bytes()).with_context(|| when.to_owned())?;
    ensure!(came == when.as_bytes(), "{when}: other bytes came back");
    Ok(())
}

/// Waits for a connection on which nobody says anything to be reset on both sides.
fn is_reset(client: TcpStream, server: &Receiver<Option<ErrorKind>>) -> Result<()> {
    is_broken(client, server, ErrorKind::ConnectionReset)
}

/// The same where the server's end notices it in its own way.
fn is_broken(
    mut client: TcpStream,
    server: &Receiver<Option<ErrorKind>>,
    expected: ErrorKind,
) -> Result<()> {
    let heard = client.read(&mut [0; 1]).map_err(|error| error.kind());
    ensure!(
        heard == Err(ErrorKind::ConnectionReset),
        "the client heard {heard:?}"
    );
    let ended = server
        .recv_timeout(PATIENCE)
        .context("the server's end was not told")?;
    ensure!(ended == Some(expected), "the server heard {ended:?}");
    Ok(())
}

#[rstest]
fn a_changed_backend_keeps_its_flows_unless_told_otherwise(
    #[values(XDP, TC)] engine: Engine,
    #[values(Family::V4, Family::V6)] family: Family,
) -> Result<()> {
    let (hosts, forwarder) = rig(engine, rule(family, &[]))?;
    let (_old, _) = server(&hosts.server, &family.any(7))?;
    let _new = Server::start(&hosts.server, &family.any(8), tell_port)?;
    let listener = S0::gateway(family, 7);
    let mut stream = connect(&hosts.client, listener)?;
    works(&mut stream, "before")?;
    let said = forwarder.reload(to_other_server)?;
    ensure!(said.contains("by older rules: 1 flow kept"), "{said}");
    works(&mut stream, "after")?;
    let mut told = [0; 6];
    connect(&hosts.client, listener)?.read_exact(&mut told)?;
    assert_eq!(&told, b"port 8");
    Ok(())
}

/// Neither end has anything to say, and yet both learn of it; the file that has the rule no more does not say what
/// becomes of its flows, the one before it did.
#[rstest]
fn killed_connections_are_reset_on_both_sides(
    #[values(XDP, TC)] engine: Engine,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(to_other_server, without_rule)] edit: fn(&str) -> String,
) -> Result<()> {
    let (hosts, forwarder) = rig(engine, rule(family, &["on-change = \"kill\""]))?;
    let (_server, ended) = server(&hosts.server, &family.any(7))?;
    let mut stream = connect(&hosts.client, S0::gateway(family, 7))?;
    works(&mut stream, "before")?;
    // What changes nothing for a flow does nothing to it.
    let said = forwarder
        .reload(|text| text.replace("[control]", "[timeouts]\nudp = \"31s\"\n[control]"))?;
    ensure!(!said.contains("by older rules"), "{said}");
    works(&mut stream, "after a reload that changed nothing here")?;

    let said = forwarder.reload(edit)?;
    ensure!(said.contains("by older rules: 1 flow ended"), "{said}");
    is_reset(stream, &ended).with_context(|| forwarder.report())
}

#[rstest]
fn killed_datagrams_begin_anew(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let (hosts, forwarder) = rig(engine, rule(Family::V4, &["on-change = \"kill\""]).udp())?;
    let old = UdpEcho::start(&hosts.server, "195.228.245.1:7")?;
    let new = UdpEcho::start(&hosts.server, "195.228.245.1:8")?;
    let socket = udp_client(&hosts.client, S0::at_gateway(7))?;
    exchange(&socket, b"before")?;
    forwarder.reload(to_other_server)?;
    wait_until("the removal of the flow", PATIENCE, || {
        let flows = forwarder.query("flows");
        flows.is_ok_and(|flows| flows.as_array().is_some_and(Vec::is_empty))
    })?;
    exchange(&socket, b"after")?;
    assert_eq!((old.peers().len(), new.peers().len()), (1, 1));
    Ok(())
}

/// Gone rules take nothing new; what there is goes on, for a while.
#[rstest]
fn a_removed_rule_drains(
    #[values(XDP, TC)] engine: Engine,
    #[values(Family::V4, Family::V6)] family: Family,
) -> Result<()> {
    let (hosts, forwarder) = rig(engine, rule(family, &[]))?;
    let (_server, ended) = server(&hosts.server, &family.any(7))?;
    let listener = S0::gateway(family, 7);
    let mut stream = connect(&hosts.client, listener)?;
    works(&mut stream, "before")?;
    let said = forwarder.reload(without_rule)?;
    ensure!(said.contains("by older rules: 1 flow draining"), "{said}");
    works(&mut stream, "while it drains")?;
    let refused = connect_within(&hosts.client, listener, Duration::from_secs(1));
    refused.map(drop).expect_err("the rule is gone");
    // Back again, it drains no more.
    let said = forwarder.reload(|text| {
        text.replace("\"other\"", "\"echo\"")
            .replace(":9\"", ":7\"")
    })?;
    ensure!(!said.contains("by older rules"), "{said}");
    let short = |text: &str| {
        without_rule(text).replace("[control]", "[timeouts]\ndrain = \"1s\"\n[control]")
    };
    let said = forwarder.reload(short)?;
    ensure!(said.contains("by older rules: 1 flow draining"), "{said}");
    is_reset(stream, &ended).with_context(|| forwarder.report())
}

/// The time of a draining flow goes on while there is no daemon, and a daemon that finds another file than its
/// predecessor had does what a reload would have done.
#[rstest]
fn a_restart_with_another_file_is_a_reload(
    #[values(XDP, TC)] engine: Engine,
    #[values("kill", "drain")] what: &str,
) -> Result<()> {
    let lines: &[&str] = match what {
        "kill" => &["on-change = \"kill\""],
        _ => &[],
    };
    let (hosts, mut forwarder) = rig(engine, rule(Family::V4, lines))?;
    let (_server, ended) = server(&hosts.server, "195.228.245.1:7")?;
    let mut stream = connect(&hosts.client, S0::at_gateway(7))?;
    works(&mut stream, "before")?;
    if what == "drain" {
        forwarder.reload(without_rule)?;
    }
    forwarder.kill()?;
    works(&mut stream, "while nobody watches")?;
    let text = std::fs::read_to_string(forwarder.config())?;
    let text = match what {
        "kill" => without_rule(&text),
        _ => text.replace("[control]", "[timeouts]\ndrain = \"1s\"\n[control]"),
    };
    std::fs::write(forwarder.config(), text)?;
    forwarder.restart()?;
    is_reset(stream, &ended).with_context(|| forwarder.report())
}

/// The backend would see the client, which it did not before.
#[rstest]
fn another_source_is_a_change(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let (hosts, forwarder) = rig(engine, rule(Family::V4, &["on-change = \"kill\""]))?;
    let (_server, ended) = server(&hosts.server, "195.228.245.1:7")?;
    let mut stream = connect(&hosts.client, S0::at_gateway(7))?;
    works(&mut stream, "before")?;
    // The address that it masquerades as by its name: nothing changes.
    forwarder.reload(|text| text.replace("\"masquerade\"", "\"203.0.113.5\""))?;
    works(&mut stream, "as before")?;
    forwarder.reload(|text| text.replace("source = \"203.0.113.5\"", "source = \"preserve\""))?;
    is_reset(stream, &ended).with_context(|| forwarder.report())
}

/// A connection that ends at this host: its program and the client are told.
#[rstest]
fn a_killed_connection_to_this_host_is_reset_on_both_sides(
    #[values(XDP, TC)] engine: Engine,
    #[values(Family::V4, Family::V6)] family: Family,
) -> Result<()> {
    let listen = family.pick("203.0.113.5:986", "[2001:db8:113::5]:986");
    let rule = Rule::preserve("local", listen, "local:25").with(&["on-change = \"kill\""]);
    let mut rig = Rig::s4(engine, &[rule], &[])?;
    let (_server, ended) = server(&rig.hosts.gateway, &family.any(25))?;
    let mut stream = connect(&rig.hosts.client, S4::gateway(family, 986))?;
    works(&mut stream, "before")?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let said = forwarder.reload(|text| text.replace("local:25", "local:26"))?;
    ensure!(said.contains("by older rules: 1 flow ended"), "{said}");
    // What the kernel says to a program whose socket it has been told to end.
    let aborted = ErrorKind::ConnectionAborted;
    is_broken(stream, &ended, aborted).with_context(|| forwarder.report())
}

/// Flows to a port of this host go on when the last rule is gone that has one.
#[rstest]
fn a_removed_local_rule_drains(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let rule = Rule::preserve("local", "203.0.113.5:986", "local:25");
    let mut rig = Rig::s4(engine, &[rule], &[])?;
    let (_server, _) = server(&rig.hosts.gateway, "0.0.0.0:25")?;
    let mut stream = connect(&rig.hosts.client, S4::gateway(Family::V4, 986))?;
    works(&mut stream, "before")?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    forwarder.reload(|text| {
        text.replace("\"local\"", "\"other\"")
            .replace("local:25", "10.0.0.7:25")
    })?;
    works(&mut stream, "after")?;
    forwarder.kill()?;
    forwarder.restart()?;
    works(&mut stream, "after a restart")
}

fn uplinks(engine: Engine, extra: &'static [&'static str]) -> Result<(S3, Forwarder)> {
    let config = GatewayConfig {
        interfaces: vec!["wan1", "wan2", "lan0"],
        rules: vec![Rule::preserve("echo", "*:7", "10.1.0.2:7").with(extra)],
        ..GatewayConfig::default()
    };
    let rig = Rig::start(engine, S3::build(&Prefix::unique(), Wire::CABLE)?, &config)?;
    match rig.gateway {
        Gateway::Forwarder(forwarder) => Ok((rig.hosts, *forwarder)),
        Gateway::Iptables(_) => anyhow::bail!("this test is about the daemon"),
    }
}

fn without_wan2(text: &str) -> String {
    let (before, rest) = text
        .split_once("[[interface]]\nname = \"wan2\"")
        .expect("wan2");
    let (_, after) = rest.split_once("[[").expect("more tables");
    format!("{before}[[{after}")
}

fn interfaces(forwarder: &Forwarder) -> Result<Vec<String>> {
    let status = forwarder.query("status")?;
    let interfaces = status["interfaces"].as_array().context("no interfaces")?;
    let names = interfaces.iter().filter_map(|one| one["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// It serves the flows that it has, takes no new ones, and goes with the last.
#[rstest]
fn a_removed_interface_serves_its_flows_to_their_end(
    #[values(XDP, TC)] engine: Engine,
    #[values(false, true)] restarted: bool,
) -> Result<()> {
    let (hosts, mut forwarder) = uplinks(engine, &[])?;
    let (_server, _) = server(&hosts.mail, "10.1.0.2:7")?;
    let open = |uplink| connect(&hosts.near, S3::public(uplink, 7));
    let (mut stays, mut leaves) = (open(1)?, open(2)?);
    works(&mut leaves, "before")?;
    let said = forwarder.reload(without_wan2)?;
    ensure!(said.contains("by older rules: 1 flow draining"), "{said}");
    if restarted {
        forwarder.kill()?;
        forwarder.restart()?;
    }
    works(&mut stays, "by another interface")?;
    works(&mut leaves, "by the removed interface")?;
    let refused = connect_within(&hosts.near, S3::public(2, 7), Duration::from_secs(1));
    refused.map(drop).expect_err("the interface is removed");
    assert_eq!(interfaces(&forwarder)?, ["wan1", "lan0", "wan2"]);
    let said = forwarder.reload(|text| {
        text.replace(
            "[control]",
            "[timeouts]\ntcp-transitory = \"1s\"\n[control]",
        )
    })?;
    ensure!(said.contains("1 flow draining"), "{said}");
    drop(leaves);
    wait_until("the interface is let go", PATIENCE, || {
        interfaces(&forwarder).is_ok_and(|names| names == ["wan1", "lan0"])
    })?;
    works(&mut stays, "to the end")
}

#[rstest]
fn a_removed_interface_kills_as_told(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let (hosts, forwarder) = uplinks(engine, &["on-change = \"kill\""])?;
    let (_server, ended) = server(&hosts.mail, "10.1.0.2:7")?;
    let open = |uplink| connect(&hosts.near, S3::public(uplink, 7));
    let (mut stays, mut leaves) = (open(1)?, open(2)?);
    works(&mut leaves, "before")?;
    let said = forwarder.reload(without_wan2)?;
    ensure!(said.contains("by older rules: 1 flow ended"), "{said}");
    is_reset(leaves, &ended).with_context(|| forwarder.report())?;
    works(&mut stays, "by another interface")
}

/// It is back before its flows have ended, and takes new ones again.
#[rstest]
fn an_interface_comes_back(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let (hosts, forwarder) = uplinks(engine, &[])?;
    let (_server, _) = server(&hosts.mail, "10.1.0.2:7")?;
    let mut old = connect(&hosts.near, S3::public(2, 7))?;
    let whole = std::fs::read_to_string(forwarder.config())?;
    forwarder.reload(without_wan2)?;
    works(&mut old, "meanwhile")?;
    let said = forwarder.reload(|_| whole)?;
    ensure!(!said.contains("by older rules"), "{said}");
    let mut new = connect(&hosts.near, S3::public(2, 7))?;
    works(&mut new, "again")?;
    works(&mut old, "still")
}
