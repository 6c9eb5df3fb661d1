//! Other BPF programs on the device.

use anyhow::{Context, Result};
use rstest::rstest;
use tests::scenario::engines::TC;
use tests::scenario::{Rig, Rule};

use crate::patient::{POP3, Patient, in_mode, s0};

#[rstest]
#[case("xdp", "error")]
#[case("tc", "warning")]
fn another_xdp_program(#[case] mode: &str, #[case] severity: &str) -> Result<()> {
    let hosts = s0()?;
    hosts.gateway.pass_xdp("eth0")?;
    let patient = Patient::new(&hosts.gateway, &in_mode(mode))?;
    if mode == "xdp" {
        patient.does_not_start()?;
    }
    patient.mended("other-xdp", severity)?;
    patient.starts()
}

/// Whether TC programs are links here (Linux 6.6).
fn has_links(patient: &Patient<'_>) -> Result<bool> {
    let report = patient.report()?;
    let kernel = report["groups"][0]["summary"].as_str().context("no text")?;
    Ok(kernel.contains("TC links"))
}

/// Where programs are links, ours goes first by itself; where they are filters, it is one among them.
#[test]
fn a_filter_in_front() -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    patient.shell("tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress pref 10 protocol ip bpf bytecode '1,6 0 0 0,'")?;
    if has_links(&patient)? {
        return patient.healed("other-tc");
    }
    patient.mended("other-tc", "warning")
}

/// Somebody has put a program in front of a forwarder that is at work.
#[test]
fn a_link_in_front() -> Result<()> {
    let rule = Rule::masquerade("pop3", "203.0.113.5:110", "195.228.245.1:110");
    let mut rig = Rig::s0(TC, &[rule])?;
    let gateway = &rig.hosts.gateway;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let patient = Patient::beside(gateway, forwarder, POP3)?;
    if !has_links(&patient)? {
        return Ok(());
    }
    patient.healed("other-tc")?;
    let _link = gateway.first_on_ingress("eth0")?;
    patient.mended("other-tc", "warning")
}
