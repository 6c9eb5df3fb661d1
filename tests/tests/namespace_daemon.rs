//! What the daemon itself does: how it ends, what it follows, what it refuses, what it gives up.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rstest::rstest;
use tests::process::{Process, output, wait_until};
use tests::responder::{
    Server, Talk, UdpEcho, connect, connect_within, echo, tcp_exchange, tell_port, udp_exchange,
};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Engine, Forwarder, GatewayConfig, Mode, Rig, Rule, S0, binary, socket_in};

const ECHO: Rule = Rule::masquerade("echo", "*:7", "195.228.245.1:7");
const PATIENCE: Duration = Duration::from_secs(10);

/// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF (include/uapi/linux/capability.h).
const NEEDED: u64 = 1 << 12 | 1 << 38 | 1 << 39;

#[test]
fn other_capabilities_are_given_up() -> Result<()> {
    let mut rig = Rig::s0(TC, &[ECHO])?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let pid = forwarder.query("status")?["pid"].clone();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    for set in ["CapEff:", "CapPrm:"] {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        let mask = u64::from_str_radix(line.context("no such line")?.trim(), 16)?;
        assert_eq!(mask, NEEDED, "{set} {mask:x}");
    }
    Ok(())
}

#[rstest]
fn the_masquerade_address_is_followed(#[values(IPTABLES, XDP, TC)] engine: Engine) -> Result<()> {
    let rule = Rule::masquerade("echo", "203.0.113.6:7", "195.228.245.1:7");
    let rig = Rig::s0(engine, &[rule])?;
    let server = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let gateway = &rig.hosts.gateway;
    rig.observe(|hosts| {
        gateway.sysctl("net/ipv4/conf/eth0/promote_secondaries", "1")?;
        gateway.ip("addr add 203.0.113.6/24 dev eth0")?;
        gateway.ip("addr del 203.0.113.5/24 dev eth0")?;
        let new: SocketAddr = "203.0.113.6:7".parse()?;
        // The new address is promoted; the kernel tells the daemon a moment later.
        wait_until("a connection from the new address", PATIENCE, || {
            let talked = connect(&hosts.client, new).and_then(|mut stream| {
                tcp_exchange(&mut stream, b"who am I")?;
                Ok(())
            });
            talked.is_ok() && server.peer_addresses().contains(&new.ip())
        })
    })
}

#[rstest]
fn timeouts_are_the_configurations(#[values(Mode::Xdp, Mode::Tc)] mode: Mode) -> Result<()> {
    let (hosts, forwarder) = with_extra(mode, "[timeouts]\nudp = \"1s\"\nudp-stream = \"2s\"\n")?;
    let _echo = UdpEcho::start(&hosts.server, "195.228.245.1:7")?;
    udp_exchange(&hosts.client, S0::at_gateway(7), b"one")?;
    let flows = || Ok::<_, anyhow::Error>(forwarder.query("flows")?.as_array().map_or(0, Vec::len));
    assert_eq!(flows()?, 1);
    wait_until("the end of the flow", PATIENCE, || {
        flows().is_ok_and(|count| count == 0)
    })
}

#[test]
fn a_reload_changes_rules_and_a_bad_one_changes_nothing() -> Result<()> {
    let (hosts, forwarder) = with_extra(Mode::Tc, "")?;
    let _old = Server::start(&hosts.server, "195.228.245.1:7", tell_port)?;
    let _new = Server::start(&hosts.server, "195.228.245.1:8", tell_port)?;
    let reached =
        || Ok::<_, anyhow::Error>(Talk::client(connect(&hosts.client, S0::at_gateway(7))?).hear()?);
    assert!(reached()?.ends_with('7'));

    let good = fs::read_to_string(forwarder.config())?;
    fs::write(forwarder.config(), good.replace("listen", "lsten"))?;
    let refused = forwarder.listing("reload").expect_err("a bad file");
    assert!(
        format!("{refused:#}").contains("did you mean `listen`"),
        "{refused:#}"
    );
    assert!(reached()?.ends_with('7'));

    fs::write(
        forwarder.config(),
        good.replace("195.228.245.1:7", "195.228.245.1:8"),
    )?;
    forwarder.listing("reload")?;
    assert!(reached()?.ends_with('8'));
    Ok(())
}

/// Tables keep their size until everything is detached; the daemon must know which one they have.
#[test]
fn a_restart_with_other_limits_keeps_the_tables() -> Result<()> {
    let (hosts, mut forwarder) = with_extra(Mode::Tc, "[limits]\nrules = 10\n")?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let mut before = connect(&hosts.client, S0::at_gateway(7))?;
    forwarder.kill()?;
    let text = fs::read_to_string(forwarder.config())?;
    fs::write(forwarder.config(), text.replace("rules = 10", "rules = 20"))?;
    forwarder.restart()?;
    assert_eq!(forwarder.query("status")?["rules"]["limit"], 10);
    tcp_exchange(&mut before, b"from before")?;
    let mut after = connect(&hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut after, b"from after")?;
    Ok(())
}

#[test]
fn a_reload_changes_source_ports() -> Result<()> {
    let (hosts, forwarder) = with_extra(Mode::Tc, "[limits]\nsource-ports = \"2000-2009\"\n")?;
    let server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let seen_in = |ports: std::ops::RangeInclusive<u16>| {
        let mut stream = connect(&hosts.client, S0::at_gateway(7))?;
        tcp_exchange(&mut stream, b"which port")?;
        let port = server.peers().last().map_or(0, SocketAddr::port);
        anyhow::ensure!(ports.contains(&port), "port {port} is not in {ports:?}");
        Ok(())
    };
    seen_in(2000..=2009)?;
    let text = fs::read_to_string(forwarder.config())?;
    fs::write(forwarder.config(), text.replace("2000-2009", "3000-3009"))?;
    forwarder.listing("reload")?;
    seen_in(3000..=3009)
}

/// The form without a file, a second daemon beside it, Ctrl-C, and the way back to nothing.
#[test]
fn flags_a_second_daemon_and_the_end() -> Result<()> {
    let rig = Rig::s0(IPTABLES, &[])?;
    let forwarding = || {
        rig.hosts
            .gateway
            .sysctl_value("net/ipv4/conf/lo/forwarding")
    };
    rig.hosts.gateway.sysctl("net/ipv4/ip_forward", "0")?;
    assert_eq!(forwarding()?.trim(), "0");
    let _server = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let directory = tempfile::tempdir()?;
    let socket = socket_in(directory.path());
    let gateway = &rig.hosts.gateway;
    let run = || {
        let mut command = gateway.command(binary().expect("the forwarder is built"));
        command.args(["run", "--interface", "eth0", "--listen", "203.0.113.5:7"]);
        command.args([
            "--to",
            "195.228.245.1:7",
            "--source",
            "masquerade",
            "--mode",
            "xdp",
        ]);
        command.arg("--control-socket").arg(&socket);
        command
    };
    let mut daemon = Process::spawn(&mut run())?;
    daemon.wait_ready("the control socket", PATIENCE, || socket.exists())?;
    wait_until("the first connection", PATIENCE, || {
        connect_within(&rig.hosts.client, S0::at_gateway(7), Duration::from_secs(1)).is_ok()
    })?;

    let second = output(&mut run(), PATIENCE).expect_err("there is one already");
    assert!(
        format!("{second:#}").contains("already running in this network namespace"),
        "{second:#}"
    );

    daemon.signal(Signal::SIGINT)?;
    assert_eq!(daemon.wait(PATIENCE)?.code(), Some(0), "{}", daemon.said());
    assert!(!socket.exists(), "the control socket is left behind");
    let mut unwatched = connect(&rig.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut unwatched, b"still here")?;

    output(gateway.command(binary()?).arg("detach"), PATIENCE)?;
    connect_within(&rig.hosts.client, S0::at_gateway(7), Duration::from_secs(1))
        .expect_err("nothing forwards any more");
    assert_eq!(forwarding()?.trim(), "0", "forwarding is still on for lo");
    Ok(())
}

/// S0 with one rule for TCP and UDP, and more text in the configuration.
fn with_extra(mode: Mode, extra: &str) -> Result<(S0, Forwarder)> {
    let prefix = tests::netns::Prefix::unique();
    let hosts = S0::build(&prefix, tests::netns::Wire::CABLE)?;
    let directory = prefix.directory();
    let config = GatewayConfig {
        interfaces: vec![S0::DEVICE],
        rules: vec![ECHO],
        ..GatewayConfig::default()
    };
    let text = config.to_toml(mode, &socket_in(&directory)) + extra;
    let both = text.replace("\"tcp\"", "[\"tcp\", \"udp\"]");
    let forwarder = Forwarder::start_with(&hosts.gateway, binary()?, directory, &both)?;
    Ok((hosts, forwarder))
}
