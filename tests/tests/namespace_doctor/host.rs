//! Privileges, memory, and settings of the host.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forwarder::datapath::{Needs, Sizes, memory};
use forwarder_common::settings::FAMILY_V4;
use rstest::rstest;
use serde_json::Value;
use tests::process::{Process, output};
use tests::scenario::{Forwarder, binary, socket_in};

use crate::patient::{POP3, Patient, advice, all, s0};

const PATIENCE: Duration = Duration::from_secs(60);

/// Everybody can ask; what needs privileges is named, and the rest is found all the same.
#[test]
fn without_privileges() -> Result<()> {
    let hosts = s0()?;
    hosts.gateway.ip("link set eth0 down")?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    let file = patient.file();
    let directory = file.parent().context("the file is in a directory")?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    // Where nobody else can get at the binary, a copy serves.
    let binary = directory.join("forwarder");
    fs::copy(tests::scenario::binary()?, &binary)?;
    let mut command = patient.command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .arg("doctor")
        .arg(&file)
        .arg("--json");
    let mut process = Process::spawn(&mut command)?;
    assert_eq!(process.wait(PATIENCE)?.code(), Some(1));
    let report: Value = serde_json::from_str(&process.stdout())
        .with_context(|| format!("no JSON{}", process.said()))?;
    let found: Vec<_> = all(&report)
        .iter()
        .map(|one| one["check"].as_str().unwrap_or_default().to_owned())
        .collect();
    for check in ["capabilities", "interface-down", "no-route"] {
        ensure!(
            found.iter().any(|one| one == check),
            "{check} is not among {found:?}"
        );
    }
    let unseen = report["unseen"].to_string();
    for what in [
        "other BPF programs",
        "what the kernel's BPF can do",
        "the other end of the veth pair",
        "tracked connections",
    ] {
        ensure!(unseen.contains(what), "{what} is not named: {unseen}");
    }
    // The command is to be root.
    patient.healed("capabilities")
}

/// The words of the report for people, and its colours only for terminals.
#[test]
fn what_people_read() -> Result<()> {
    let hosts = s0()?;
    hosts.gateway.ip("link set eth0 down")?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    let mut process = Process::spawn(&mut patient.doctor()?)?;
    assert_eq!(process.wait(PATIENCE)?.code(), Some(1));
    let text = process.stdout();
    for part in [
        "✗ interface eth0",
        "error: eth0 is down. [interface-down]",
        "$ ip link set dev eth0 up",
        "✓ kernel",
        " errors, ",
    ] {
        ensure!(text.contains(part), "{part:?} is not in\n{text}");
    }
    ensure!(!text.contains('\u{1b}'), "colours in a file:\n{text}");
    ensure!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    Ok(())
}

/// In a mount namespace where something else is in its place.
#[test]
fn no_bpf_file_system() -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    let in_place = |line: &str| -> Result<Vec<Value>> {
        let mut command = patient.command("unshare");
        let whole = format!(
            "mount -t tmpfs none /sys/fs/bpf && {line} && \"$0\" doctor \"$1\" --json || true"
        );
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", &whole])
            .arg(binary()?)
            .arg(patient.file());
        let report: Value = serde_json::from_str(&output(&mut command, PATIENCE)?)?;
        let found = all(&report).into_iter();
        Ok(found.filter(|one| one["check"] == "bpffs").collect())
    };
    let found = in_place("true")?;
    ensure!(
        found.len() == 1 && found[0]["severity"] == "note",
        "{found:?}"
    );
    let mend = crate::patient::commands(&found[0]).concat();
    let left = in_place(&mend)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// As containers have it.
#[test]
fn settings_that_cannot_be_written() -> Result<()> {
    let hosts = s0()?;
    for family in ["ipv4", "ipv6"] {
        hosts
            .gateway
            .sysctl(&format!("net/{family}/conf/lo/forwarding"), "0")?;
    }
    let patient = Patient::new(&hosts.gateway, POP3)?;
    let contained = || -> Result<Vec<Value>> {
        let mut command = patient.command("unshare");
        let line = "mount -o bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \"$0\" doctor \"$1\" --json || true";
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", line])
            .arg(binary()?)
            .arg(patient.file());
        let report: Value = serde_json::from_str(&output(&mut command, PATIENCE)?)?;
        let found = all(&report).into_iter();
        Ok(found
            .filter(|one| one["check"] == "read-only-settings")
            .collect())
    };
    let found = contained()?;
    ensure!(
        found.len() == 1 && found[0]["severity"] == "error",
        "{found:?}"
    );
    // It is to be run outside of the container.
    patient.mend(&found[0])?;
    let left = contained()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn no_place_for_the_control_socket() -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    let text = fs::read_to_string(patient.file())?;
    fs::write(patient.file(), text.replace("/s\"", "/not there/s\""))?;
    patient.does_not_start()?;
    patient.mended("control-socket", "error")
}

/// The largest tables that a file can ask for, on a host that cannot have them.
#[test]
fn tables_that_do_not_fit() -> Result<()> {
    let limits = "[limits]\nflows = 16777216\nhalf-open = 16777216\n";
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, &format!("{POP3}{limits}"))?;
    let found = patient.findings("memory")?;
    if found.is_empty() {
        eprintln!("skipped: this machine has memory for the largest tables");
        return Ok(());
    }
    // Half of them, as it were, until the advice is about flows alone.
    let text = fs::read_to_string(patient.file())?;
    fs::write(
        patient.file(),
        text.replace("half-open = 16777216", "half-open = 65536"),
    )?;
    let Some(finding) = patient.findings("memory")?.pop() else {
        eprintln!("skipped: this machine has memory for the largest table of flows");
        return Ok(());
    };
    let advice = advice(&finding)?;
    let (_, rest) = advice
        .split_once("`flows = ")
        .with_context(|| advice.clone())?;
    let (flows, _) = rest.split_once('`').with_context(|| advice.clone())?;
    let text = fs::read_to_string(patient.file())?;
    fs::write(
        patient.file(),
        text.replace("flows = 16777216", &format!("flows = {flows}")),
    )?;
    patient.healed("memory")
}

/// What the kernel says that the daemon's maps take, against what is reckoned beforehand.
#[test]
fn the_tables_take_what_is_reckoned() -> Result<()> {
    let limits = "[limits]\nflows = 100000\nhalf-open = 20000\nrules = 1000\n";
    let hosts = s0()?;
    let directory = tests::netns::Prefix::unique().directory();
    let socket = socket_in(&directory);
    let text = format!(
        "{POP3}{limits}[control]\nsocket = \"{}\"\n",
        socket.display()
    );
    let forwarder = Forwarder::start_with(&hosts.gateway, binary()?, directory, &text)?;
    let pid = forwarder.query("status")?["pid"].clone();
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        if let (Some(map), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(map, bytes);
        }
    }
    let taken: u64 = maps.values().sum();
    let sizes = Sizes {
        flows: 100_000,
        half_open: 20_000,
        rules: 1000,
    };
    // What the one rule is about.
    let needs = Needs {
        flows: FAMILY_V4,
        mappings: 0,
    };
    let reckoned = memory::needed(sizes, needs)?;
    let tenth = taken / 10;
    ensure!(
        reckoned.abs_diff(taken) < tenth,
        "{} maps take {taken} bytes, {reckoned} were reckoned",
        maps.len()
    );
    Ok(())
}

#[rstest]
#[case::a_listener("listen = \"*:40000-40010\"\nto = \"195.228.245.1\"\n")]
#[case::several(
    "listen = \"*:40000-40010\"\nto = \"195.228.245.1\"\n[[forward]]\nlisten = \"203.0.113.5:50000\"\nto = \"195.228.245.1:1\"\n"
)]
fn ports_that_are_given_away(#[case] rules: &str) -> Result<()> {
    let hosts = s0()?;
    hosts
        .gateway
        .sysctl("net/ipv4/ip_local_port_range", "32768 60999")?;
    hosts
        .gateway
        .sysctl("net/ipv4/ip_local_reserved_ports", "8080")?;
    let config = format!("{POP3}[[forward]]\n{rules}");
    let patient = Patient::new(&hosts.gateway, &config)?;
    patient.mended("ephemeral-ports", "warning")?;
    let reserved = hosts
        .gateway
        .sysctl_value("net/ipv4/ip_local_reserved_ports")?;
    assert!(reserved.starts_with("8080,40000-40010"), "{reserved}");
    Ok(())
}

#[test]
fn source_ports_that_are_given_away() -> Result<()> {
    let hosts = s0()?;
    hosts
        .gateway
        .sysctl("net/ipv4/ip_local_port_range", "32768 60999")?;
    let config = format!("{POP3}[limits]\nsource-ports = \"20000-40000\"\n");
    let patient = Patient::new(&hosts.gateway, &config)?;
    let advice = advice(&patient.finding("ephemeral-ports", "warning")?)?;
    assert!(
        advice.contains("`source-ports = \"1024-32767\"`"),
        "{advice}"
    );
    let text = fs::read_to_string(patient.file())?;
    fs::write(patient.file(), text.replace("20000-40000", "1024-32767"))?;
    patient.healed("ephemeral-ports")
}
