//! The first packet of a connection arrives even if the gateway does not know the next hop's MAC address yet.
//!
//! A forwarder that passes such a packet to a stack which does not forward, or drops it and hopes for the next, makes
//! every first client after a quiet hour wait a second for its retransmission.

use anyhow::{Result, ensure};
use rstest::rstest;
use tests::netns::Namespace;
use tests::responder::{Server, connect, echo, tcp_exchange};
use tests::scenario::engines::{AUTO, IPTABLES, TC, XDP, XDP_GENERIC};
use tests::scenario::{Baseline, Engine, Family, Outcome, Rig, Rule, S0, S3};

/// Connects over a gateway that has just forgotten its neighbours, and counts the client's retransmissions.
fn cold_connect(
    client: &Namespace,
    gateway: &Namespace,
    address: std::net::SocketAddr,
) -> Result<Outcome> {
    gateway.flush_neighbours()?;
    let known = gateway.ip("neigh show")?;
    ensure!(
        !known.contains("lladdr"),
        "the gateway still knows:\n{known}"
    );
    let before = client.counters()?;
    let mut stream = connect(client, address)?;
    let answer = tcp_exchange(&mut stream, b"hello")?;
    let after = client.counters()?;
    assert_eq!(
        after.since(&before, "Tcp.RetransSegs"),
        0,
        "a segment had to be sent again"
    );
    assert_eq!(after.since(&before, "Tcp.ActiveOpens"), 1);
    Ok(Outcome::default().with("echo", String::from_utf8_lossy(&answer)))
}

fn one_interface(engine: Engine, family: Family) -> Result<Outcome> {
    let rule = family.pick(
        Rule::masquerade("echo", "203.0.113.5:110", "195.228.245.1:110"),
        Rule::masquerade("echo", "[2001:db8:113::5]:110", "[2001:db8:195::1]:110"),
    );
    let rig = Rig::s0(engine, &[rule])?;
    let address = S0::server(family, 110).to_string();
    let _server = Server::start(&rig.hosts.server, &address, echo)?;
    rig.observe(|hosts| cold_connect(&hosts.client, &hosts.gateway, S0::gateway(family, 110)))
}

fn several_interfaces(engine: Engine, family: Family) -> Result<Outcome> {
    let rule = family.pick(
        Rule::preserve("echo", "192.0.2.5:110", "10.1.0.2:110"),
        Rule::preserve("echo", "[2001:db8:2::5]:110", "[2001:db8:a::2]:110"),
    );
    let rig = Rig::s3(engine, &[rule])?;
    let address = S3::mail(family, 110).to_string();
    let _server = Server::start(&rig.hosts.mail, &address, echo)?;
    rig.observe(|hosts| cold_connect(&hosts.near, &hosts.gateway, S3::public_of(family, 2, 110)))
}

#[rstest]
fn syn_is_not_lost_on_one_interface(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family
        .among(&BASELINE)
        .compare(engine, |engine| one_interface(engine, family))
}

#[rstest]
fn syn_is_not_lost_between_interfaces(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family
        .among(&BASELINE)
        .compare(engine, |engine| several_interfaces(engine, family))
}
