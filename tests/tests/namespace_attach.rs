//! The forwarder and BPF programs of others on the same devices: theirs are neither replaced nor broken without being
//! asked for, and what is detached is what the forwarder has made, nothing else.

use std::fs;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::Value;
use tests::netns::Namespace;
use tests::process::output;
use tests::responder::{PATIENCE, Server, connect, echo, tcp_exchange};
use tests::scenario::engines::TC;
use tests::scenario::{Forwarder, Gateway, GatewayConfig, Mode, Rig, Rule, S0, S3};

const ECHO: Rule = Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7");

/// The number of the XDP program on a device.
fn xdp_on(namespace: &Namespace, device: &str) -> Result<Option<u64>> {
    let mut command = namespace.command("ip");
    let text = output(
        command.args(["-j", "link", "show", "dev", device]),
        PATIENCE,
    )?;
    let facts: Value = serde_json::from_str(&text)?;
    Ok(facts[0]["xdp"]["prog"]["id"].as_u64())
}

/// Another's program on `eth0`, the number it has, and its link if it is one.
fn occupied(gateway: &Namespace, linked: bool) -> Result<(u64, Option<OwnedFd>)> {
    let link = match linked {
        true => Some(gateway.pass_xdp_by_link("eth0")?),
        false => gateway.pass_xdp("eth0").map(|()| None)?,
    };
    let id = xdp_on(gateway, "eth0")?.context("no program")?;
    Ok((id, link))
}

fn forwarder(gateway: Gateway) -> Result<Forwarder> {
    match gateway {
        Gateway::Forwarder(forwarder) => Ok(*forwarder),
        Gateway::Iptables(_) => anyhow::bail!("this test is about the daemon"),
    }
}

/// Hosts, and a daemon that has been there and is detached.
fn detached() -> Result<(S0, Forwarder)> {
    let rig = Rig::s0(TC, &[ECHO])?;
    let mut forwarder = forwarder(rig.gateway)?;
    forwarder.detach()?;
    Ok((rig.hosts, forwarder))
}

fn set_mode(forwarder: &Forwarder, mode: &str) -> Result<()> {
    let text = fs::read_to_string(forwarder.config())?;
    let text = text.replace("mode = \"tc\"", &format!("mode = \"{mode}\""));
    ensure!(text.contains(mode), "no mode in:\n{text}");
    Ok(fs::write(forwarder.config(), text)?)
}

fn works(hosts: &S0) -> Result<()> {
    let mut stream = connect(&hosts.client, S0::at_gateway(7))?;
    assert_eq!(tcp_exchange(&mut stream, b"hello")?, b"hello");
    Ok(())
}

/// A refusal says which program it is, by number and name, and what to do.
#[rstest]
fn a_program_of_another_is_left_alone_and_named(
    #[values(false, true)] linked: bool,
    #[values("xdp", "xdp-generic")] mode: &str,
) -> Result<()> {
    let (hosts, mut forwarder) = detached()?;
    let (id, link) = occupied(&hosts.gateway, linked)?;
    set_mode(&forwarder, mode)?;
    let refused = forwarder.restart().expect_err("the device is taken");
    let said = format!("{refused:#}");
    let off = match link {
        Some(_) => "`bpftool link detach id ",
        None => "`ip link set dev eth0 xdp off`",
    };
    for words in [
        &format!("another XDP program is on eth0: `theirs`, number {id}"),
        off,
        "`forwarder run --replace`",
    ] {
        ensure!(said.contains(words), "no {words:?} in:\n{said}");
    }
    assert_eq!(xdp_on(&hosts.gateway, "eth0")?, Some(id));
    Ok(())
}

/// Where TC serves the device it is none of ours, and both do their work.
#[test]
fn a_program_of_another_works_beside_tc() -> Result<()> {
    let (hosts, mut forwarder) = detached()?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let (id, _link) = occupied(&hosts.gateway, false)?;
    forwarder.restart()?;
    works(&hosts)?;
    forwarder.detach()?;
    assert_eq!(xdp_on(&hosts.gateway, "eth0")?, Some(id));
    Ok(())
}

#[rstest]
fn it_is_replaced_when_that_is_asked_for(#[values(false, true)] linked: bool) -> Result<()> {
    let (hosts, mut forwarder) = detached()?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let (id, _link) = occupied(&hosts.gateway, linked)?;
    set_mode(&forwarder, "xdp")?;
    forwarder.restart_as(&["--replace"])?;
    works(&hosts)?;
    let now = xdp_on(&hosts.gateway, "eth0")?.context("no program")?;
    assert_ne!(now, id, "it is still theirs");
    forwarder.detach()?;
    assert_eq!(xdp_on(&hosts.gateway, "eth0")?, None);
    Ok(())
}

/// What there is on the gateway that a forwarder could have left: programs and queueing disciplines of devices, filters,
/// and `lo`'s settings.
fn traces(gateway: &Namespace) -> Result<String> {
    let script = "ip -o link | sed 's/ qlen .*//'; tc qdisc show; \
        for d in wan1 wan2 lan0; do tc filter show dev $d ingress; tc filter show dev $d egress; done; \
        cat /proc/sys/net/ipv4/conf/lo/forwarding /proc/sys/net/ipv6/conf/lo/forwarding";
    output(gateway.command("sh").args(["-c", script]), PATIENCE)
}

#[rstest]
fn detach_removes_what_was_made_and_nothing_else(
    #[values(Mode::Xdp, Mode::Tc, Mode::Auto)] mode: Mode,
) -> Result<()> {
    let hosts = S3::build(&tests::netns::Prefix::unique(), tests::netns::Wire::CABLE)?;
    let gateway = &hosts.gateway;
    hosts.gateway.forward(false)?;
    gateway.pass_xdp("wan2")?;
    let theirs = gateway.first_on_ingress("wan1")?;
    let before = traces(gateway)?;
    let config = GatewayConfig {
        interfaces: vec!["wan1", "lan0"],
        rules: vec![Rule::preserve("local", "203.0.113.5:7", "local:8")],
        ..GatewayConfig::default()
    };
    let mut forwarder = Forwarder::start(gateway, &config, mode)?;
    output(
        forwarder.command("mkdir").arg("/sys/fs/bpf/theirs"),
        PATIENCE,
    )?;
    ensure!(traces(gateway)? != before, "nothing was attached");
    forwarder.detach()?;
    assert_eq!(traces(gateway)?, before);
    // The kernel's own files aside.
    let mut list = forwarder.command("ls");
    let left = output(list.args(["--ignore=*.debug", "/sys/fs/bpf"]), PATIENCE)?;
    assert_eq!(left, "theirs\n");
    drop(theirs);
    Ok(())
}
