//! A host on which all is well, for tests that change one thing about it.

use std::net::{IpAddr, SocketAddr};

use super::super::facts::ethtool::Feature;
use super::super::facts::{
    Answer, Channels, Device, Facts, Features, Host, Memory, Neighbour, Probe, Ruleset, Way,
};
use super::super::finding::{Check, Finding, Mend, Severity};
use super::super::{Case, report::Examined};
use crate::config::{self, Protocol};
use crate::datapath::Address;

/// One interface, and one rule that every part of [`healthy`] serves.
pub(super) const CONFIG: &str = "\
[[interface]]
name = \"eth0\"
[[forward]]
name = \"pop3\"
listen = \"203.0.113.5:110\"
to = \"195.228.245.1:110\"
source = \"masquerade\"
[control]
socket = \"/tmp/forwarder.sock\"
";

/// [`CONFIG`] with another rule instead.
pub(super) fn with_rule(rule: &str) -> String {
    let (start, _) = CONFIG.split_once("[[forward]]").unwrap();
    format!("{start}[[forward]]\n{rule}\n[control]\nsocket = \"/tmp/forwarder.sock\"\n")
}

/// Delivers to this host.
pub(super) fn delivering() -> String {
    with_rule("name = \"smtp\"\nlisten = \"203.0.113.5:986\"\nto = \"local:25\"")
}

pub(super) fn healthy() -> Facts {
    Facts {
        host: Host {
            release: "6.18.0".to_owned(),
            version: (6, 18),
            cpus: 4,
            page: 4096,
            tcx: Some(true),
            xdp_features: true,
            btf: true,
            jit: Some(1),
            bpffs: true,
            may_mount: true,
            may_raise: true,
            local_ports: (32768, 60999),
            ..Host::default()
        },
        memory: Memory {
            needed: 1 << 28,
            each_flow: 600,
            available: Some(1 << 33),
            total: 1 << 34,
        },
        devices: vec![card("eth0", 2)],
        addresses: vec![own("203.0.113.5", 24, 2), own("2001:db8:113::5", 64, 2)],
        ways: [(
            "195.228.245.1".parse().unwrap(),
            out("eth0", "203.0.113.1", Neighbour::Known),
        )]
        .into(),
        defaults: [Some("eth0".to_owned()), Some("eth0".to_owned())],
        probes: vec![probe("195.228.245.1:110", Answer::Open)],
        firewall: Some(Ruleset::default()),
        ..Facts::default()
    }
}

/// A network card as they should be.
pub(super) fn card(name: &str, index: u32) -> Device {
    Device {
        index,
        name: name.to_owned(),
        driver: Some("virtio_net".to_owned()),
        mtu: 1500,
        ethernet: true,
        up: true,
        carrier: true,
        transmits: true,
        features: Some(Features::default()),
        channels: Some(Channels {
            combined: 4,
            max_combined: 8,
            ..Channels::default()
        }),
        ..Device::default()
    }
}

/// A veth device.
pub(super) fn veth(name: &str, index: u32) -> Device {
    Device {
        driver: Some("veth".to_owned()),
        kind: Some("veth".to_owned()),
        channels: Some(Channels {
            rx: 1,
            tx: 1,
            max_rx: 2,
            max_tx: 2,
            ..Channels::default()
        }),
        ..card(name, index)
    }
}

pub(super) fn own(address: &str, prefix: u8, interface: u32) -> Address {
    Address {
        interface,
        address: address.parse().unwrap(),
        prefix,
        primary: true,
    }
}

pub(super) fn out(device: &str, next_hop: &str, neighbour: Neighbour) -> Way {
    Way::Out {
        device: device.to_owned(),
        next_hop: next_hop.parse().unwrap(),
        neighbour,
    }
}

pub(super) fn probe(address: &str, answer: Answer) -> Probe {
    let address: SocketAddr = address.parse().unwrap();
    Probe {
        protocol: Protocol::Tcp,
        address,
        answer,
    }
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Offloads that are on, and whether they can be switched.
pub(super) fn on(names: &[&str], fixed: bool) -> Features {
    let feature = Feature { on: true, fixed };
    Features(
        names
            .iter()
            .map(|name| ((*name).to_owned(), feature))
            .collect(),
    )
}

/// All that is found.
pub(super) fn findings(config: &str, facts: &Facts) -> Vec<Finding> {
    let config = config::parse("f.toml", config).unwrap();
    let case = Case {
        config: &config,
        file: "f.toml",
        facts,
    };
    let groups: Vec<Examined> = super::examine(&case);
    groups
        .into_iter()
        .flat_map(|group| group.findings)
        .collect()
}

/// What one change to a healthy host leads to, as check, severity, and the first command or advice.
#[track_caller]
pub(super) fn found(config: &str, change: impl FnOnce(&mut Facts)) -> (Check, Severity, String) {
    let mut facts = healthy();
    change(&mut facts);
    let all = findings(config, &facts);
    let [one] = all.as_slice() else {
        panic!("not one finding: {all:#?}")
    };
    assert!(!one.why.is_empty(), "{one:?}");
    let mend = match one.mend.first() {
        Some(Mend::Run(command)) => format!("$ {command}"),
        Some(Mend::Do(advice)) => advice.clone(),
        None => String::new(),
    };
    (one.check, one.severity, mend)
}

#[test]
fn a_healthy_host_has_no_findings() {
    assert_eq!(findings(CONFIG, &healthy()), []);
}
