//! The kit's own tests that need namespaces.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use tests::netns::{End, Namespace, Prefix, Switch, Wire, mac, veth};
use tests::process::{Process, wait_until};
use tests::responder::Ping;

fn pair(prefix: &Prefix) -> anyhow::Result<[Namespace; 2]> {
    let pair = [
        Namespace::create(prefix, "left")?,
        Namespace::create(prefix, "right")?,
    ];
    let [left, right] = &pair;
    veth(
        [
            End {
                namespace: left,
                device: "eth0",
                addresses: &["192.0.2.1/24", "2001:db8::1/64"],
            },
            End {
                namespace: right,
                device: "eth0",
                addresses: &["192.0.2.2/24", "2001:db8::2/64"],
            },
        ],
        [&mac(1, 1), &mac(1, 2)],
        Wire::CABLE,
    )?;
    Ok(pair)
}

#[rstest::rstest]
#[case::ipv4("192.0.2.2:7")]
#[case::ipv6("[2001:db8::2]:7")]
fn two_namespaces_talk(#[case] address: &str) -> anyhow::Result<()> {
    let [left, right] = pair(&Prefix::unique())?;
    let before = left.counters()?;
    let listener = right.run(|| TcpListener::bind(address))??;
    let mut client = left.run(|| TcpStream::connect(address))??;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"hello")?;
    let mut received = [0; 5];
    server.read_exact(&mut received)?;
    assert_eq!(&received, b"hello");
    assert_eq!(left.counters()?.since(&before, "Tcp.ActiveOpens"), 1);
    assert!(right.device_counters("eth0")?.rx_packets >= 3);
    Ok(())
}

/// Three hosts on one link ping each other; the identifier is the caller's, and is free again afterwards.
#[rstest::rstest]
#[case::ipv4("192.0.2.3")]
#[case::ipv6("2001:db8::3")]
fn hosts_on_a_switch_ping(#[case] target: &str) -> anyhow::Result<()> {
    let prefix = Prefix::unique();
    let switch = Switch::create(&prefix, "switch")?;
    let mut hosts = Vec::new();
    for number in 1..=3 {
        let namespace = Namespace::create(&prefix, &format!("host{number}"))?;
        let end = End {
            namespace: &namespace,
            device: "eth0",
            addresses: &[
                &format!("192.0.2.{number}/24"),
                &format!("2001:db8::{number}/64"),
            ],
        };
        let macs = [mac(1, number), mac(2, number)];
        switch.plug(
            end,
            &format!("port{number}"),
            macs.each_ref().map(|it| &**it),
            Wire::CABLE,
        )?;
        hosts.push(namespace);
    }
    let before = switch.namespace().device_counters("port1")?.rx_packets;
    for host in &hosts[..2] {
        for _ in 0..2 {
            let ping = Ping::open(host, target.parse()?, 77)?;
            ping.ask(5, b"are you there")?;
            assert_eq!(ping.hear()?, (5, b"are you there".to_vec()));
        }
    }
    assert!(switch.namespace().device_counters("port1")?.rx_packets >= before + 2);
    Ok(())
}

#[test]
fn a_command_runs_inside_and_dies_with_the_namespace() -> anyhow::Result<()> {
    let prefix = Prefix::unique();
    let [left, _right] = pair(&prefix)?;
    let mut sleeper = Process::spawn(left.command("sleep").arg("1000"))?;
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
    assert_ne!(of(&sleeper.pid().to_string())?, of("self")?);
    // The mount namespace, and with it /sys/fs/bpf, is the same.
    let mounts = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt"));
    assert_eq!(mounts(&sleeper.pid().to_string())?, mounts("self")?);

    let name = left.name().to_owned();
    drop(left);
    assert!(!Path::new("/run/netns").join(name).exists());
    wait_until("the end of the process", Duration::from_secs(5), || {
        sleeper.is_running().is_ok_and(|running| !running)
    })
}

#[test]
fn leftovers_of_a_dead_process_are_swept() -> anyhow::Result<()> {
    // A process that is certainly dead: one that was waited for.
    let mut ended = std::process::Command::new("true").spawn()?;
    ended.wait()?;
    let prefix = Prefix::fixed(&format!("fw-{}-0", ended.id()));
    let mut namespace = Namespace::create(&prefix, "left")?;
    namespace.keep();
    fs::create_dir_all(prefix.directory())?;
    tests::netns::sweep();
    assert!(!Path::new("/run/netns").join(namespace.name()).exists());
    assert!(!prefix.directory().exists());
    Ok(())
}

#[test]
fn what_ip_says_is_in_the_error() -> anyhow::Result<()> {
    let namespace = Namespace::create(&Prefix::unique(), "only")?;
    let error = format!(
        "{:#}",
        namespace
            .ip("addr add nonsense dev lo")
            .expect_err("not an address")
    );
    assert!(
        error.contains("nonsense") && error.contains(namespace.name()),
        "{error}"
    );
    Ok(())
}
