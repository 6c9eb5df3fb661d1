//! Tables that nothing needs are small, and grow under traffic when a reload brings rules that need them.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;

use anyhow::{Result, ensure};
use rstest::rstest;
use tests::netns::{Namespace, Prefix, Wire};
use tests::responder::{Server, UdpEcho, connect, echo, tcp_exchange, udp_exchange};
use tests::scenario::{Family, Forwarder, GatewayConfig, Mode, Rule, S0, S2, binary, socket_in};

const FLOWS: u64 = 65_536;
const FOUR: Rule = Rule::masquerade("four", "203.0.113.5:7", "195.228.245.1:7");
const INWARD: Rule = Rule::masquerade("inward", "203.0.113.5:7", "10.0.0.7:7");

/// Both directions of a flow over IPv6, and both sides of a mapping before there is one: see docs/memory-cost.toml.
const V6_FLOW: u64 = 384;
const MAPPING: u64 = 32;

/// Bytes that the kernel has given to the daemon's maps.
fn memory(forwarder: &Forwarder) -> Result<u64> {
    let pid = &forwarder.query("status")?["pid"];
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum())
}

fn reload(forwarder: &Forwarder, more: &str) -> Result<()> {
    let text = fs::read_to_string(forwarder.config())?;
    fs::write(forwarder.config(), format!("{text}\n{more}"))?;
    forwarder.listing("reload")?;
    Ok(())
}

fn talk(stream: &mut TcpStream) -> Result<()> {
    tcp_exchange(stream, b"still there?")?;
    Ok(())
}

/// The forwarder on a gateway with one rule, and no more room than that takes.
fn start(gateway: &Namespace, mode: Mode, config: &GatewayConfig) -> Result<Forwarder> {
    let directory = Prefix::unique().directory();
    let text = config.to_toml(mode, &socket_in(&directory));
    let text = format!("{text}\n[limits]\nflows = {FLOWS}\n");
    Forwarder::start_with(gateway, binary()?, directory, &text)
}

fn counted(forwarder: &Forwarder) -> Result<Option<usize>> {
    Ok(forwarder.query("flows")?.as_array().map(Vec::len))
}

#[rstest]
fn a_family_takes_memory_when_a_rule_is_about_it(
    #[values(Mode::Xdp, Mode::Tc)] mode: Mode,
) -> Result<()> {
    let hosts = S0::build(&Prefix::unique(), Wire::CABLE)?;
    let config = GatewayConfig {
        interfaces: vec![S0::DEVICE],
        rules: vec![FOUR],
        ..GatewayConfig::default()
    };
    let mut forwarder = start(&hosts.gateway, mode, &config)?;
    let at = |family| S0::server(family, 7).to_string();
    let _four = Server::start(&hosts.server, &at(Family::V4), echo)?;
    let _six = Server::start(&hosts.server, &at(Family::V6), echo)?;
    let mut before = connect(&hosts.client, S0::gateway(Family::V4, 7))?;
    talk(&mut before)?;
    let small = memory(&forwarder)?;

    reload(
        &forwarder,
        "[[forward]]\nname = \"six\"\nlisten = \"[2001:db8:113::5]:7\"\n\
         to = \"[2001:db8:195::1]:7\"\nsource = \"masquerade\"\n",
    )?;
    let large = memory(&forwarder)?;
    ensure!(
        large > small + FLOWS * V6_FLOW,
        "{large} bytes with both families, {small} with one"
    );
    talk(&mut before)?;
    let mut six = connect(&hosts.client, S0::gateway(Family::V6, 7))?;
    talk(&mut six)?;
    assert_eq!(counted(&forwarder)?, Some(2));

    // What has been made stays, with what is in it.
    forwarder.kill()?;
    talk(&mut six)?;
    forwarder.restart()?;
    talk(&mut before)?;
    talk(&mut six)?;
    assert_eq!(counted(&forwarder)?, Some(2));
    assert_eq!(forwarder.query("status")?["flows"]["limit"], 2 * FLOWS);
    Ok(())
}

#[rstest]
fn mappings_take_memory_when_a_rule_makes_some(
    #[values(Mode::Xdp, Mode::Tc)] mode: Mode,
) -> Result<()> {
    let hosts = S2::build(&Prefix::unique(), Wire::CABLE)?;
    let config = GatewayConfig {
        interfaces: vec![S2::OUTSIDE, S2::INSIDE],
        rules: vec![INWARD],
        ..GatewayConfig::default()
    };
    let forwarder = start(&hosts.gateway, mode, &config)?;
    let _inward = Server::start(&hosts.one, "10.0.0.7:7", echo)?;
    let names = UdpEcho::start(&hosts.dns, &S2::dns(Family::V4, 53).to_string())?;
    let mut before = connect(&hosts.mail, S2::outside(Family::V4, 7))?;
    talk(&mut before)?;
    let small = memory(&forwarder)?;

    reload(
        &forwarder,
        "[[masquerade]]\nname = \"names\"\nfrom = [\"10.0.0.0/24\"]\ninterface = \"eth1\"\n\
         ports = [\"udp/53\"]\nsource = \"masquerade\"\n",
    )?;
    let large = memory(&forwarder)?;
    ensure!(
        large > small + FLOWS * MAPPING,
        "{large} bytes with mappings, {small} without"
    );
    for question in [b"one", b"two"] {
        let answer = udp_exchange(&hosts.one, S2::dns(Family::V4, 53), question)?;
        assert_eq!(answer, question);
    }
    assert_eq!(names.peer_addresses(), [S2::outside(Family::V4, 0).ip()]);
    talk(&mut before)
}
