//! What a service manager is told: readiness, reloads, the end, and the watchdog. The manager is a socket of the test's.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use rstest::rstest;
use tests::process::wait_until;
use tests::responder::{PATIENCE, Server, connect, connect_within, echo};
use tests::scenario::engines::TC;
use tests::scenario::{Forwarder, Gateway, Rig, Rule, S0};

const ECHO: Rule = Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7");

/// A start loads and verifies programs, which takes a while on a busy machine.
const START: Duration = Duration::from_secs(240);

/// The socket that the daemon reports to.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(START))?;
        Ok(Self {
            socket,
            path: path.display().to_string(),
            _directory: directory,
        })
    }

    /// The next message that has a line which starts with `wanted`, as its lines.
    fn hear(&self, wanted: &str) -> Result<Vec<String>> {
        let mut buffer = [0; 4096];
        loop {
            let length = self
                .socket
                .recv(&mut buffer)
                .with_context(|| format!("the manager was not told `{wanted}`"))?;
            let text = String::from_utf8(buffer[..length].to_vec())?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.iter().any(|line| line.starts_with(wanted)) {
                return Ok(lines);
            }
        }
    }
}

/// Hosts, and a daemon under a manager that has heard that it is ready.
fn started(variables: &[(&str, &str)]) -> Result<(S0, Forwarder, Manager)> {
    let rig = Rig::s0(TC, &[ECHO])?;
    let Gateway::Forwarder(mut forwarder) = rig.gateway else {
        anyhow::bail!("this test is about the daemon");
    };
    forwarder.detach()?;
    let manager = Manager::new()?;
    let mut all = vec![("NOTIFY_SOCKET", manager.path.as_str())];
    all.extend(variables);
    forwarder.restart_with(&all)?;
    let told = manager.hear("READY=1")?;
    ensure!(
        told.contains(&"STATUS=1 rule on 1 interface, 0 flows".to_owned()),
        "{told:?}"
    );
    Ok((rig.hosts, *forwarder, manager))
}

fn monotonic() -> Result<i64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000)
}

/// Ready means that the very next packet is forwarded and the very next question answered.
#[test]
fn ready_is_when_it_serves_and_stopping_when_it_is_told_to() -> Result<()> {
    let (hosts, mut forwarder, manager) = started(&[])?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    connect(&hosts.client, S0::at_gateway(7))?;
    forwarder.query("status")?;
    forwarder.daemon().signal(Signal::SIGTERM)?;
    manager.hear("STOPPING=1")?;
    assert_eq!(forwarder.daemon().wait(PATIENCE)?.code(), Some(0));
    Ok(())
}

#[rstest]
#[case::signal(true)]
#[case::command(false)]
fn a_reload_is_announced_and_done_when_it_is_said_to_be(#[case] by_signal: bool) -> Result<()> {
    let (hosts, mut forwarder, manager) = started(&[])?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let good = std::fs::read_to_string(forwarder.config())?;
    let mut reload = |text: &str| -> Result<Vec<String>> {
        std::fs::write(forwarder.config(), text)?;
        let before = monotonic()?;
        if by_signal {
            forwarder.daemon().signal(Signal::SIGHUP)?;
        } else {
            // A refusal is a failure of the command.
            let _ = forwarder.listing("reload");
        }
        let told = manager.hear("RELOADING=1")?;
        let time = told
            .iter()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="))
            .context("no time")?;
        let range = before..=monotonic()?;
        ensure!(range.contains(&time.parse()?), "{time} is not in {range:?}");
        manager.hear("READY=1")
    };

    reload(&good.replace("203.0.113.5:7", "203.0.113.5:9"))?;
    connect(&hosts.client, S0::at_gateway(9))?;
    let second = Duration::from_secs(1);
    connect_within(&hosts.client, S0::at_gateway(7), second).expect_err("no rule any more");

    let told = reload(&good.replace("listen", "lsten"))?;
    ensure!(
        told.iter().any(
            |line| line.starts_with("STATUS=the configuration stays as it was")
                && line.contains("unknown key `lsten`")
        ),
        "{told:?}"
    );
    connect(&hosts.client, S0::at_gateway(9))?;
    Ok(())
}

#[test]
fn the_status_follows_the_flows() -> Result<()> {
    let (hosts, forwarder, manager) = started(&[])?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    // Swept more often.
    forwarder.reload(|text| text.replace("[control]", "[timeouts]\nudp = \"1s\"\n[control]"))?;
    let _stream = connect(&hosts.client, S0::at_gateway(7))?;
    manager.hear("STATUS=1 rule on 1 interface, 1 flow")?;
    Ok(())
}

/// The watchdog hears of the daemon as long as it sweeps, and no longer.
#[rstest]
#[case::all_is_well(&[], true)]
#[case::sweeps_fail(&[(forwarder::fault::VARIABLE, "fail:sweep")], false)]
fn the_watchdog(#[case] fault: &[(&str, &str)], #[case] fed: bool) -> Result<()> {
    let mut variables = vec![("WATCHDOG_USEC", "400000")];
    variables.extend(fault);
    let (_hosts, forwarder, manager) = started(&variables)?;
    // Swept four times a second.
    forwarder.reload(|text| text.replace("[control]", "[timeouts]\nudp = \"1s\"\n[control]"))?;
    if fed {
        for _ in 0..10 {
            manager.hear("WATCHDOG=1")?;
        }
        return Ok(());
    }
    // Until nothing has come for longer than the manager waits.
    let silence = Duration::from_millis(2000);
    manager.socket.set_read_timeout(Some(silence))?;
    let limit = Instant::now() + START;
    wait_until(
        "silence",
        START,
        || matches!(manager.hear("WATCHDOG=1"), Err(error) if is_timeout(&error)),
    )?;
    ensure!(Instant::now() < limit, "it never falls silent");
    // The daemon itself is well, and only does not do its work.
    forwarder.query("status")?;
    Ok(())
}

fn is_timeout(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Another process's watchdog is none of ours.
#[test]
fn a_watchdog_for_another_process_is_left_alone() -> Result<()> {
    let (_hosts, forwarder, manager) =
        started(&[("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")])?;
    forwarder.reload(str::to_owned)?;
    manager.hear("READY=1")?;
    manager
        .socket
        .set_read_timeout(Some(Duration::from_secs(1)))?;
    let heard = manager.hear("WATCHDOG=1");
    ensure!(heard.is_err(), "it is fed: {heard:?}");
    Ok(())
}
