//! Addresses, routes, neighbours and backends.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use rstest::rstest;
use tests::netns::{Prefix, Wire};
use tests::process::{output, wait_until};
use tests::responder::{Server, echo};
use tests::scenario::{S3, S4};

use crate::patient::{POP3, Patient, advice, s0};

const PATIENCE: Duration = Duration::from_secs(20);

#[rstest]
#[case::listener("listen", "203.0.113.6:110", "warning")]
#[case::listener_of_ipv6("listen", "[2001:db8:113::6]:110", "warning")]
#[case::routed_here("listen", "192.0.2.6:110", "note")]
#[case::source("source", "203.0.113.7", "warning")]
#[case::pool("source", "203.0.113.4-203.0.113.7", "warning")]
fn addresses_that_this_host_lacks(
    #[case] key: &str,
    #[case] value: &str,
    #[case] severity: &str,
) -> Result<()> {
    let hosts = s0()?;
    let mut config = match key {
        "listen" => POP3.replace("203.0.113.5:110", value),
        _ => POP3.replace("masquerade", value),
    };
    if value.contains("db8") {
        config = config.replace("195.228.245.1", "[2001:db8:195::1]");
    }
    Patient::new(&hosts.gateway, &config)?.mended("foreign-address", severity)
}

#[test]
fn masquerade_without_an_address() -> Result<()> {
    let hosts = s0()?;
    hosts
        .gateway
        .ip("addr flush dev eth0\nroute add 195.228.245.1/32 dev eth0")?;
    let patient = Patient::new(&hosts.gateway, &POP3.replace("203.0.113.5:110", "110"))?;
    let advice = advice(&patient.finding("no-own-address", "error")?)?;
    assert!(
        advice.contains("ip addr add ADDRESS/LENGTH dev eth0"),
        "{advice}"
    );
    hosts.gateway.ip("addr add 203.0.113.5/24 dev eth0")?;
    patient.healed("no-own-address")
}

#[test]
fn no_route() -> Result<()> {
    let hosts = s0()?;
    hosts.gateway.ip("route del default")?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    let advice = advice(&patient.finding("no-route", "error")?)?;
    let (_, command) = advice.split_once("ip ").expect("a command of ip");
    hosts
        .gateway
        .ip(&command.replace("ROUTER", "203.0.113.1"))?;
    patient.healed("no-route")
}

#[rstest]
#[case::blackhole("route add blackhole 195.228.0.0/16")]
#[case::unreachable("route add unreachable 195.228.245.1/32")]
#[case::prohibit("route add prohibit 195.228.245.0/24")]
#[case::ipv6("route add blackhole 2001:db8:195::/64")]
fn routes_that_refuse(#[case] route: &str) -> Result<()> {
    let hosts = s0()?;
    hosts.gateway.ip(route)?;
    let config = match route.contains("db8") {
        false => POP3.to_owned(),
        true => POP3
            .replace("203.0.113.5", "[2001:db8:113::5]")
            .replace("195.228.245.1", "[2001:db8:195::1]"),
    };
    Patient::new(&hosts.gateway, &config)?.mended("no-route", "error")
}

#[test]
fn a_backend_that_is_this_host() -> Result<()> {
    let hosts = s0()?;
    hosts.gateway.ip("addr add 195.228.245.1/32 dev lo")?;
    let config = POP3
        .replace("source = \"masquerade\"\n", "")
        .replace("195.228.245.1:110", "195.228.245.1:2525");
    Patient::new(&hosts.gateway, &config)?.mended("route-to-self", "error")
}

#[test]
fn replies_by_a_device_that_nobody_looks_at() -> Result<()> {
    let hosts = S3::build(&Prefix::unique(), Wire::CABLE)?;
    let config = POP3
        .replace("eth0", "wan1")
        .replace("195.228.245.1", "10.1.0.2");
    Patient::new(&hosts.gateway, &config)?.mended("egress-not-configured", "error")
}

#[test]
fn clients_leave_by_a_device_that_nobody_looks_at() -> Result<()> {
    let hosts = S4::build(&Prefix::unique(), Wire::CABLE)?;
    let config = "\
[[interface]]
name = \"eth1\"
[[masquerade]]
from = [\"10.0.0.0/24\"]
";
    Patient::new(&hosts.gateway, config)?.mended("egress-not-configured", "error")
}

#[rstest]
#[case::the_backend_itself("203.0.113.77", "203.0.113.77")]
#[case::a_router("195.228.245.1", "203.0.113.78")]
fn a_next_hop_that_does_not_answer(#[case] backend: &str, #[case] next_hop: &str) -> Result<()> {
    let hosts = s0()?;
    if backend != next_hop {
        hosts
            .gateway
            .ip(&format!("route add {backend}/32 via {next_hop}"))?;
    }
    let patient = Patient::new(&hosts.gateway, &POP3.replace("195.228.245.1", backend))?;
    let advice = advice(&patient.finding("neighbour", "error")?)?;
    assert!(
        advice.contains(&format!("ip neigh show {next_hop} dev eth0")),
        "{advice}"
    );
    // The same is not said twice.
    patient.healed("backend-silent")?;
    hosts
        .internet
        .ip(&format!("addr add {next_hop}/32 dev gateway"))?;
    // The kernel may be in the middle of giving up.
    wait_until("an answer of the next hop", PATIENCE, || {
        patient.healed("neighbour").is_ok()
    })
}

#[test]
fn a_closed_port() -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    let advice = advice(&patient.finding("backend-closed", "error")?)?;
    assert!(advice.contains("on 195.228.245.1"), "{advice}");
    let _server = Server::start(&hosts.server, "195.228.245.1:110", echo)?;
    patient.healed("backend-closed")
}

#[test]
fn a_closed_udp_port() -> Result<()> {
    let hosts = s0()?;
    let config = POP3.replace("listen", "protocol = \"udp\"\nlisten");
    let patient = Patient::new(&hosts.gateway, &config)?;
    patient.finding("backend-closed", "error")?;
    // It need not say anything.
    let bound = hosts.server.run(|| UdpSocket::bind("195.228.245.1:110"))?;
    let _socket = bound?;
    patient.healed("backend-closed")
}

#[rstest]
#[case::this_host_is_the_client("masquerade", "error")]
#[case::clients_may_be_let_in("preserve", "warning")]
fn a_backend_behind_a_firewall(#[case] source: &str, #[case] severity: &str) -> Result<()> {
    let hosts = s0()?;
    let listening = hosts
        .server
        .run(|| TcpListener::bind("195.228.245.1:110"))?;
    let _listener = listening?;
    let patient = Patient::new(&hosts.gateway, &POP3.replace("masquerade", source))?;
    let firewall = |line: &str| {
        let mut command = hosts.server.command("nft");
        command.arg(line);
        output(&mut command, PATIENCE)
    };
    firewall(
        "table ip f { chain in { type filter hook input priority 0; tcp dport 110 drop; }; }",
    )?;
    patient.finding("backend-silent", severity)?;
    firewall("delete table ip f")?;
    patient.healed("backend-silent")
}
