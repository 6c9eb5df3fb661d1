//! Services of the host, other forwarders, and clients that come by another way than they would be answered.

use std::time::Duration;

use anyhow::{Context, Result};
use rstest::rstest;
use tests::netns::{Prefix, Wire};
use tests::process::{Process, wait_until};
use tests::responder::{Server, echo};
use tests::scenario::engines::TC;
use tests::scenario::{Rig, Rule, S3};

use crate::patient::{POP3, Patient, s0};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_service_behind_a_listener() -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    let mut service = hosts.gateway.command("iperf3");
    let mut service = Process::spawn(service.args(["-s", "-p", "110"]))?;
    wait_until("the service", PATIENCE, || {
        patient
            .findings("port-taken")
            .is_ok_and(|found| !found.is_empty())
    })?;
    let finding = patient.finding("port-taken", "warning")?;
    let expected = format!("kill {}", service.pid());
    assert_eq!(crate::patient::commands(&finding), [expected]);
    patient.mend(&finding)?;
    service.wait(PATIENCE)?;
    patient.healed("port-taken")
}

#[rstest]
#[case::tcp("tcp", "0.0.0.0:2525")]
#[case::loopback_does_not_count("tcp", "127.0.0.1:2525")]
fn nobody_to_deliver_to(#[case] protocol: &str, #[case] address: &str) -> Result<()> {
    let hosts = s0()?;
    let config = POP3.replace("195.228.245.1:110", "local:2525").replace(
        "source = \"masquerade\"",
        &format!("protocol = \"{protocol}\""),
    );
    let patient = Patient::new(&hosts.gateway, &config)?;
    patient.finding("local-port-closed", "error")?;
    let _service = Server::start(&hosts.gateway, address, echo)?;
    if address.starts_with("127") {
        patient.finding("local-port-closed", "error")?;
        return Ok(());
    }
    patient.healed("local-port-closed")
}

/// At work, gone without a word, and taken away.
#[test]
fn other_forwarders() -> Result<()> {
    let rule = Rule::masquerade("pop3", "203.0.113.5:110", "195.228.245.1:110");
    let mut rig = Rig::s0(TC, &[rule])?;
    let _server = Server::start(&rig.hosts.server, "195.228.245.1:110", echo)?;
    {
        let forwarder = rig.gateway.forwarder().context("no forwarder")?;
        let patient = Patient::beside(&rig.hosts.gateway, forwarder, POP3)?;
        patient.finding("forwarder-running", "note")?;
        // Its own programs are not taken for others'.
        for check in ["other-xdp", "other-tc", "forwarder-left", "bpffs"] {
            patient.healed(check)?;
        }
    }
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    forwarder.kill()?;
    let patient = Patient::beside(&rig.hosts.gateway, forwarder, POP3)?;
    patient.healed("forwarder-running")?;
    patient.mended("forwarder-left", "warning")
}

/// Clients come by the second uplink; the default route is by the first.
#[test]
fn strict_reverse_path_filtering() -> Result<()> {
    let hosts = S3::build(&Prefix::unique(), Wire::CABLE)?;
    hosts.gateway.sysctl("net/ipv4/conf/wan2/rp_filter", "1")?;
    let config = "\
[[interface]]
name = \"wan1\"
[[interface]]
name = \"wan2\"
[[forward]]
name = \"smtp\"
listen = \"192.0.2.5:986\"
to = \"local:25\"
";
    let patient = Patient::new(&hosts.gateway, config)?;
    patient.mended("reverse-path", "warning")?;
    let now = hosts.gateway.sysctl_value("net/ipv4/conf/wan2/rp_filter")?;
    assert_eq!(now.trim(), "2");
    Ok(())
}
