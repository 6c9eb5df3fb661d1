//! Another version takes over under traffic, forwards and back; and a daemon that dies at any step leaves traffic
//! running and is repaired by the next start.
//!
//! The other version is this build under another number, with maps and pins of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forwarder::fault::{Step, VARIABLE, VERSION};
use rstest::rstest;
use tests::process::output;
use tests::responder::{PATIENCE, Server, connect, echo, tcp_exchange};
use tests::scenario::engines::{TC, XDP};
use tests::scenario::{Engine, Forwarder, Gateway, Rig, Rule, S0};

const ECHO: Rule = Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7");
/// A version with the layouts of this one.
const LIKE: (&str, &str) = (VERSION, "900");
/// A version whose flows nobody else can read.
const UNLIKE: (&str, &str) = (VERSION, "901:77");
/// A start that dies does so within this time.
const START: Duration = Duration::from_secs(240);

fn rig(engine: Engine) -> Result<(S0, Forwarder)> {
    let rig = Rig::s0(engine, &[ECHO])?;
    match rig.gateway {
        Gateway::Forwarder(forwarder) => Ok((rig.hosts, *forwarder)),
        Gateway::Iptables(_) => anyhow::bail!("this test is about the daemon"),
    }
}

/// Directories of pins, by the versions that made them.
fn versions(forwarder: &Forwarder) -> Result<Vec<String>> {
    let mut command = forwarder.command("ls");
    let text = output(command.arg("/sys/fs/bpf/forwarder"), PATIENCE)?;
    let version = |name: &str| name.split('-').next().unwrap_or(name).to_owned();
    Ok(text.lines().map(version).collect())
}

fn works(stream: &mut std::net::TcpStream, when: &str) -> Result<()> {
    let came = tcp_exchange(stream, when.as_bytes()).with_context(|| when.to_owned())?;
    ensure!(came == when.as_bytes(), "{when}: other bytes came back");
    Ok(())
}

/// Old connections go on and new ones are made.
fn forwards(hosts: &S0, old: &mut std::net::TcpStream, when: &str) -> Result<()> {
    works(old, when)?;
    let mut new = connect(&hosts.client, S0::at_gateway(7)).with_context(|| when.to_owned())?;
    works(&mut new, when)
}

fn restart_as(forwarder: &mut Forwarder, variables: &[(&str, &str)]) -> Result<()> {
    forwarder.restart_with(variables)?;
    forwarder.wait_ready()
}

/// A version whose flows this one cannot read is left alone, and goes on; `--replace` ends it.
#[rstest]
fn what_cannot_be_read_is_left_at_work(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let (hosts, mut forwarder) = rig(engine)?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    forwarder.detach()?;
    restart_as(&mut forwarder, &[UNLIKE])?;
    let mut old = connect(&hosts.client, S0::at_gateway(7))?;
    forwarder.kill()?;
    let refused = format!("{:#}", forwarder.restart().expect_err("it cannot be read"));
    for words in ["another version of the forwarder is at work", "--replace"] {
        ensure!(refused.contains(words), "no {words:?} in:\n{refused}");
    }
    forwards(&hosts, &mut old, "after the refusal")?;
    forwarder.restart_as(&["--replace"])?;
    let mut new = connect(&hosts.client, S0::at_gateway(7))?;
    works(&mut new, "after the replacement")?;
    assert_eq!(versions(&forwarder)?.len(), 1);
    Ok(())
}

/// Detaching takes away what any version has left.
#[test]
fn any_version_is_detached() -> Result<()> {
    let (_hosts, mut forwarder) = rig(TC)?;
    forwarder.detach()?;
    restart_as(&mut forwarder, &[UNLIKE])?;
    forwarder.detach()?;
    let left = output(
        forwarder
            .command("ls")
            .args(["--ignore=*.debug", "/sys/fs/bpf"]),
        PATIENCE,
    )?;
    assert_eq!(left, "");
    Ok(())
}

/// Dies at a step of the start, then starts again, and traffic has not noticed.
fn dies(engine: Engine, version: &[(&str, &str)], step: Step) -> Result<()> {
    let (hosts, mut forwarder) = rig(engine)?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let mut old = connect(&hosts.client, S0::at_gateway(7))?;
    works(&mut old, "before")?;
    forwarder.stop()?;
    let fault = format!("die:{}", step.name());
    let mut variables = vec![(VARIABLE, fault.as_str())];
    variables.extend(version);
    forwarder.restart_with(&variables)?;
    let status = forwarder.daemon().wait(START)?;
    ensure!(!status.success(), "it lives: {status}");
    forwards(&hosts, &mut old, "without a daemon")?;
    restart_as(&mut forwarder, version)?;
    forwards(&hosts, &mut old, "after the repair")?;
    // And back.
    forwarder.kill()?;
    forwarder.restart()?;
    forwards(&hosts, &mut old, "with the first version again")
}

#[rstest]
fn a_start_that_dies_is_repaired(
    #[values(XDP, TC)] engine: Engine,
    #[values(Step::Load, Step::Rules, Step::Attach, Step::Flows, Step::Sweep)] step: Step,
) -> Result<()> {
    dies(engine, &[], step)
}

#[rstest]
fn an_upgrade_that_dies_is_repaired(
    #[values(XDP, TC)] engine: Engine,
    #[values(
        Step::Carry,
        Step::Load,
        Step::Links,
        Step::Rules,
        Step::Attach,
        Step::Flows,
        Step::Sweep
    )]
    step: Step,
) -> Result<()> {
    dies(engine, &[LIKE], step)
}

/// Goes back to the old version when the new one has died halfway.
#[rstest]
fn an_upgrade_that_dies_is_taken_back(
    #[values(Step::Carry, Step::Load, Step::Links, Step::Attach)] step: Step,
) -> Result<()> {
    let (hosts, mut forwarder) = rig(XDP)?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let mut old = connect(&hosts.client, S0::at_gateway(7))?;
    forwarder.stop()?;
    let fault = format!("die:{}", step.name());
    forwarder.restart_with(&[(VARIABLE, fault.as_str()), LIKE])?;
    forwarder.daemon().wait(START)?;
    forwarder.restart()?;
    forwards(&hosts, &mut old, "with the first version again")
}

/// The second time a step is reached is in a reload.
#[rstest]
fn a_reload_that_dies_is_repaired(
    #[values(XDP, TC)] engine: Engine,
    #[values(Step::Rules, Step::Flows)] step: Step,
) -> Result<()> {
    let (hosts, mut forwarder) = rig(engine)?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    forwarder.stop()?;
    let fault = format!("die:{}@2", step.name());
    restart_as(&mut forwarder, &[(VARIABLE, fault.as_str())])?;
    let mut old = connect(&hosts.client, S0::at_gateway(7))?;
    let died = forwarder.reload(|text| text.replace("\"echo\"", "\"other\""));
    ensure!(died.is_err(), "it lives: {died:?}");
    forwarder.daemon().wait(START)?;
    forwards(&hosts, &mut old, "without a daemon")?;
    forwarder.restart()?;
    forwards(&hosts, &mut old, "after the repair")
}
