//! Amounts: datagrams of every size, a thousand connections at once, and bulk in both directions, every byte checked.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::netns::Wire;
use tests::process::{self, Process};
use tests::responder::{
    Bulk, Direction, Server, UdpEcho, bulk_transfer, connect, crowd, echo, udp_exchange,
    udp_exchange_without_checksum,
};
use tests::scenario::engines::{AUTO, IPTABLES, TC, XDP, XDP_GENERIC};
use tests::scenario::{Baseline, Engine, Outcome, Rig, Rule, S0};

const MEGABYTE: u64 = 1_000_000;

fn datagrams(engine: Engine) -> Result<Outcome> {
    let rig = Rig::s0(
        engine,
        &[Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7").udp()],
    )?;
    let server = UdpEcho::start(&rig.hosts.server, "195.228.245.1:7")?;
    rig.observe(|hosts| {
        // Empty, odd, and as large as a frame takes.
        for length in [0, 1, 2, 3, 511, 1472] {
            let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
            for exchange in [udp_exchange, udp_exchange_without_checksum] {
                let came = exchange(&hosts.client, S0::at_gateway(7), &sent)?;
                ensure!(
                    came == sent,
                    "{length} bytes came back as {} others",
                    came.len()
                );
            }
        }
        Ok(Outcome::default().with_debug("the server saw", server.peer_addresses()))
    })
}

#[rstest]
fn datagrams_of_every_size(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, datagrams)
}

fn connections(engine: Engine) -> Result<Outcome> {
    let rig = Rig::s0(
        engine,
        &[Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7")],
    )?;
    let server = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    rig.observe(|hosts| {
        crowd(&hosts.client, S0::at_gateway(7), 1000)?;
        let mut ports: Vec<u16> = server
            .peers()
            .iter()
            .map(std::net::SocketAddr::port)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        Ok(Outcome::default()
            .with("distinct ports", ports.len())
            .with_debug("the server saw", server.peer_addresses()))
    })
}

#[rstest]
fn a_thousand_connections_at_once(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| {
        let outcome = connections(engine)?;
        assert_eq!(outcome.get("distinct ports"), Some("1000"));
        Ok(outcome)
    })
}

fn bulk(wire: Wire, engine: Engine) -> Result<Outcome> {
    let rig = Rig::s0_on(
        wire,
        engine,
        &[Rule::masquerade(
            "bulk",
            "203.0.113.5:9000",
            "195.228.245.1:9000",
        )],
    )?;
    let _server = Server::start(&rig.hosts.server, "195.228.245.1:9000", Bulk::serve)?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for (direction, seed) in [(Direction::Upload, 1), (Direction::Download, 2)] {
            let stream = connect(&hosts.client, S0::at_gateway(9000))?;
            let [sent, received] = bulk_transfer(stream, direction, 100 * MEGABYTE, seed)
                .with_context(|| format!("{direction:?}"))?;
            ensure!(
                sent == received,
                "{direction:?}: sent {sent:#x}, received {received:#x}"
            );
            outcome = outcome.with(&format!("{direction:?}"), format!("{received:#x}"));
        }
        Ok(outcome)
    })
}

#[rstest]
fn bulk_is_intact(#[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| bulk(Wire::CABLE, engine))
}

/// Segments of 64 KB with partial checksums, as containers send them. XDP cannot take these, TC must.
#[rstest]
fn bulk_in_super_packets_is_intact(#[values(IPTABLES, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| bulk(Wire::VIRTUAL, engine))
}

/// iperf3 has a control connection, data connections in either direction, and datagrams; its figures are not judged.
#[rstest]
fn iperf3_runs(#[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine) -> Result<()> {
    let tcp = Rule::masquerade("iperf", "203.0.113.5:5201", "195.228.245.1:5201");
    let udp = Rule {
        name: "iperf-udp",
        ..tcp.udp()
    };
    let rig = Rig::s0(engine, &[tcp, udp])?;
    let mut command = rig.hosts.server.command("iperf3");
    let mut server = Process::spawn(command.args(["--server", "--forceflush"]))
        .context("Debian's package is iperf3")?;
    server.wait_output("Server listening", Duration::from_secs(10))?;
    for options in [
        &["--parallel=4"][..],
        &["--reverse"],
        &["--udp", "--bitrate=50M"],
    ] {
        let mut client = rig.hosts.client.command("iperf3");
        client
            .args(["--client", S0::GATEWAY, "--json", "--time=1"])
            .args(options);
        let report = rig.observe(|_| process::output(&mut client, Duration::from_secs(30)))?;
        let report: serde_json::Value = serde_json::from_str(&report)?;
        let sum = ["sum_received", "sum"]
            .iter()
            .find_map(|name| report["end"][name]["bytes"].as_u64());
        ensure!(
            sum > Some(MEGABYTE),
            "{options:?}: {sum:?} bytes in a second"
        );
    }
    Ok(())
}
