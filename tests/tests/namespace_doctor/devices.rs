//! Devices that are missing, down, or not as XDP needs them.

use std::fs;

use anyhow::{Context, Result};
use rstest::rstest;
use tests::netns::{End, Feature, Namespace, Prefix, Reception, Wire, mac, veth};
use tests::responder::{Server, pop3};
use tests::scenario::S0;

use crate::patient::{POP3, Patient, all, in_mode, on_xdp, s0};

#[test]
fn a_host_on_which_all_is_well() -> Result<()> {
    let hosts = s0()?;
    let _mailbox = Server::start(&hosts.server, "195.228.245.1:110", pop3)?;
    let patient = Patient::new(&hosts.gateway, &on_xdp())?;
    let report = patient.report()?;
    let bad: Vec<_> = all(&report)
        .into_iter()
        .filter(|one| one["severity"] != "note")
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(report["unseen"], serde_json::json!([]));
    patient.starts()
}

#[test]
fn a_device_that_is_not_there() -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, &POP3.replace("eth0", "eth9"))?;
    patient.does_not_start()?;
    patient.finding("interface-missing", "error")?;
    let text = fs::read_to_string(patient.file())?;
    fs::write(patient.file(), text.replace("eth9", "eth0"))?;
    patient.healed("interface-missing")
}

#[rstest]
#[case::here("gateway")]
#[case::there("internet")]
fn a_device_that_is_down(#[case] end: &str) -> Result<()> {
    let hosts = s0()?;
    match end {
        "gateway" => hosts.gateway.ip("link set eth0 down")?,
        _ => hosts.internet.ip("link set gateway down")?,
    };
    Patient::new(&hosts.gateway, POP3)?.mended("interface-down", "error")
}

#[test]
fn a_part_of_a_bridge() -> Result<()> {
    let hosts = s0()?;
    hosts
        .gateway
        .ip("link add br0 type bridge\nlink set eth0 master br0\nlink set br0 up")?;
    Patient::new(&hosts.gateway, POP3)?.mended("interface-enslaved", "error")
}

#[test]
fn something_that_is_no_ethernet() -> Result<()> {
    let hosts = s0()?;
    hosts
        .gateway
        .ip("tuntap add dev tun0 mode tun\nlink set tun0 up")?;
    let config = format!("{POP3}[[interface]]\nname = \"tun0\"\n");
    let patient = Patient::new(&hosts.gateway, &config)?;
    patient.does_not_start()?;
    patient.finding("interface-kind", "error")?;
    let text = fs::read_to_string(patient.file())?;
    let without = text.replace("[[interface]]\nname = \"tun0\"\n", "");
    fs::write(patient.file(), without)?;
    patient.healed("interface-kind")
}

#[test]
fn ipv6_that_is_off() -> Result<()> {
    let hosts = s0()?;
    hosts
        .gateway
        .sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")?;
    let config = POP3
        .replace("203.0.113.5", "[2001:db8:113::5]")
        .replace("195.228.245.1", "[2001:db8:195::1]");
    Patient::new(&hosts.gateway, &config)?.mended("ipv6-disabled", "error")
}

/// With what `run` says to it before and after.
#[rstest]
#[case::mtu("link set gateway mtu 9000", "mtu-too-large")]
#[case::checksums("", "checksum-offload")]
fn a_peer_that_xdp_cannot_deal_with(#[case] fault: &str, #[case] check: &str) -> Result<()> {
    let hosts = s0()?;
    hosts.internet.ip(fault)?;
    if check == "checksum-offload" {
        hosts
            .internet
            .set_feature("gateway", Feature::TxChecksum, true)?;
    }
    let patient = Patient::new(&hosts.gateway, &on_xdp())?;
    if check == "mtu-too-large" {
        patient.does_not_start()?;
    }
    patient.mended(check, "error")?;
    patient.starts()
}

#[test]
fn tc_can_deal_with_all_of_that() -> Result<()> {
    let hosts = S0::build(
        &Prefix::unique(),
        Wire {
            mtu: 9000,
            ..Wire::VIRTUAL
        },
    )?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    for check in ["mtu-too-large", "checksum-offload", "peer-without-napi"] {
        patient.healed(check)?;
    }
    Ok(())
}

#[test]
fn a_peer_with_more_queues() -> Result<()> {
    let prefix = Prefix::unique();
    let gateway = Namespace::create(&prefix, "gateway")?;
    let internet = Namespace::create(&prefix, "internet")?;
    gateway.ip(&format!(
        "link add eth0 numtxqueues 1 numrxqueues 1 type veth peer name gateway numtxqueues 2 numrxqueues 2 netns {}\n\
         addr add 203.0.113.5/24 dev eth0\nlink set eth0 up",
        internet.name()
    ))?;
    internet.ip("link set gateway up")?;
    let patient = Patient::new(&gateway, &on_xdp())?;
    patient.shell(&format!(
        "ip netns exec {} ethtool -L gateway tx 2",
        internet.name()
    ))?;
    patient.does_not_start()?;
    patient.mended("transmit-queues", "error")?;
    patient.starts()
}

/// In a namespace with a name, in one without, and in the same one.
#[rstest]
#[case::named("named")]
#[case::of_a_process("process")]
#[case::here("here")]
fn a_peer_without_napi(#[case] place: &str) -> Result<()> {
    let prefix = Prefix::unique();
    let gateway = Namespace::create(&prefix, "gateway")?;
    let internet = Namespace::create(&prefix, "internet")?;
    let ends = |far| {
        let end = |namespace, device, addresses| End {
            namespace,
            device,
            addresses,
        };
        let wire = Wire {
            reception: Reception::Plain,
            ..Wire::CABLE
        };
        let near = end(&gateway, "eth0", &["203.0.113.5/24"][..]);
        veth(
            [near, end(far, "gateway", &[])],
            [&mac(1, 2), &mac(1, 1)],
            wire,
        )
    };
    let patient = Patient::new(&gateway, &on_xdp())?;
    // A process is what keeps a namespace without a name alive.
    let mut keeper = tests::process::Process::spawn(internet.command("sleep").arg("600"))?;
    ends(if place == "here" { &gateway } else { &internet })?;
    if place == "process" {
        patient.shell(&format!("ip netns del {}", internet.name()))?;
    }
    let finding = patient.finding("peer-without-napi", "warning")?;
    let command = crate::patient::commands(&finding).concat();
    let (named, unnamed) = (
        command.contains("ip netns exec"),
        command.contains("nsenter"),
    );
    assert_eq!(
        (named, unnamed),
        (place == "named", place == "process"),
        "{command}"
    );
    patient.mend(&finding)?;
    patient.healed("peer-without-napi")?;
    keeper.stop().context("stopping what kept the namespace")
}

#[test]
fn generic_xdp_behind_gro() -> Result<()> {
    let hosts = s0()?;
    hosts.gateway.set_feature("eth0", Feature::Gro, true)?;
    Patient::new(&hosts.gateway, &in_mode("xdp-generic"))?.mended("generic-gro", "warning")
}

/// On a kernel without VLAN devices there is nothing to look at.
#[rstest]
#[case::ours("[[interface]]\nname = \"eth0.5\"\n", "error")]
#[case::others("", "warning")]
fn vlan_tags_that_xdp_does_not_see(#[case] more: &str, #[case] severity: &str) -> Result<()> {
    let hosts = s0()?;
    let made = hosts
        .gateway
        .ip("link add link eth0 name eth0.5 type vlan id 5\nlink set eth0.5 up");
    if let Err(error) = made {
        eprintln!("skipped: no VLAN devices ({})", error.root_cause());
        return Ok(());
    }
    let patient = Patient::new(&hosts.gateway, &format!("{}{more}", on_xdp()))?;
    patient.shell("ethtool -K eth0 rxvlan on")?;
    patient.mended("vlan-offload", severity)
}
