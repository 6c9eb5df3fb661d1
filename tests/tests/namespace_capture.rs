//! `forwarder capture`, read with tshark: every packet of a rule is there before and after translation, and traffic does
//! not notice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rstest::rstest;
use tempfile::TempDir;
use tests::process::{Process, output};
use tests::responder::{
    Server, UdpEcho, connect, echo, smtp, smtp_client, tcp_exchange, udp_client, udp_exchange,
};
use tests::scenario::engines::{TC, XDP};
use tests::scenario::{Engine, Family, Forwarder, Output, Protocol, Rig, Rule, S0, S3, S4};

const ECHO: Rule = Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7");
const OTHER: Rule = Rule::masquerade("other", "203.0.113.5:9", "195.228.245.1:9");
const PATIENCE: Duration = Duration::from_secs(60);

/// A capture at work.
struct Capture {
    process: Process,
    directory: TempDir,
}

impl Capture {
    /// Begins one, with arguments of `forwarder capture`.
    fn begin(forwarder: &Forwarder, arguments: &[&str]) -> Result<Self> {
        let mut it = Self::start(forwarder, arguments)?;
        it.process.wait_message("capturing packets", PATIENCE)?;
        Ok(it)
    }

    fn start(forwarder: &Forwarder, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = forwarder.command(forwarder.binary());
        command
            .arg("capture")
            .args(arguments)
            .arg("--socket")
            .arg(forwarder.socket())
            .arg("--write")
            .arg(file_in(directory.path()));
        Ok(Self {
            process: Process::spawn(&mut command)?,
            directory,
        })
    }

    /// Ctrl-C, and what is in the file.
    fn end(mut self) -> Result<Vec<Packet>> {
        self.process.signal(Signal::SIGINT)?;
        self.ended()
    }

    /// What is in the file, when it has ended by itself.
    fn ended(&mut self) -> Result<Vec<Packet>> {
        let code = self.process.wait(PATIENCE)?.code();
        ensure!(code == Some(0), "exit code {code:?}{}", self.process.said());
        ensure!(
            !self.process.stderr().contains("lost"),
            "{}",
            self.process.said()
        );
        packets(&file_in(self.directory.path()))
    }
}

fn file_in(directory: &Path) -> PathBuf {
    directory.join("packets.pcapng")
}

/// A packet as tshark reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    comment: String,
    device: String,
    source: String,
    destination: String,
    protocol: String,
    /// Bytes of the packet, and those in the file.
    length: [String; 2],
    /// Whether the checksums are right; nothing if they cannot be told.
    checksums: Vec<String>,
    /// Everything above the addresses and ports: sequence numbers, or the payload.
    rest: String,
}

const FIELDS: [&str; 17] = [
    "frame.comment",
    "frame.interface_name",
    "ip.src",
    "ipv6.src",
    "ip.dst",
    "ipv6.dst",
    "tcp.srcport",
    "udp.srcport",
    "tcp.dstport",
    "udp.dstport",
    "ip.proto",
    "frame.len",
    "frame.cap_len",
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "tcp.seq_raw",
];

/// Reads a file with tshark, which fails on a file that is not as it should be.
fn packets(path: &Path) -> Result<Vec<Packet>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(path);
    for preference in [
        "ip.check_checksum",
        "tcp.check_checksum",
        "udp.check_checksum",
    ] {
        tshark.args(["-o", &format!("{preference}:TRUE")]);
    }
    // The ports say nothing of what is on them here.
    tshark.args(["-o", "tcp.try_heuristic_first:FALSE", "-T", "fields"]);
    for field in FIELDS {
        tshark.args(["-e", field]);
    }
    // What an ICMP error quotes has addresses, too.
    tshark.args(["-E", "occurrence=f"]);
    let text = output(&mut tshark, PATIENCE)?;
    text.lines().map(packet).collect()
}

fn packet(line: &str) -> Result<Packet> {
    let fields: Vec<&str> = line.split('\t').collect();
    ensure!(fields.len() == FIELDS.len(), "{line:?}");
    let either = |first: usize| fields[first..first + 2].concat();
    let with_port = |address: String, port: String| match port.as_str() {
        "" => address,
        port => format!("{address} {port}"),
    };
    let checksums = fields[13..16].iter().filter(|one| !one.is_empty());
    Ok(Packet {
        comment: fields[0].to_owned(),
        device: fields[1].to_owned(),
        source: with_port(either(2), either(6)),
        destination: with_port(either(4), either(8)),
        protocol: fields[10].to_owned(),
        length: [fields[11].to_owned(), fields[12].to_owned()],
        checksums: checksums.map(|one| (*one).to_owned()).collect(),
        rest: fields[16].to_owned(),
    })
}

/// Before and after, side by side; fails if there is one without the other. Copies of two CPUs may lie between those of
/// one packet.
fn pairs(packets: &[Packet]) -> Result<Vec<[Packet; 2]>> {
    let mut pairs = Vec::new();
    let mut waiting: Vec<Packet> = Vec::new();
    for packet in packets {
        if packet.comment.contains("before translation") {
            waiting.push(packet.clone());
            continue;
        }
        let same = |before: &Packet| {
            packet
                .comment
                .starts_with(&before.comment.replace("before", "after"))
                && before.rest == packet.rest
                && before.length == packet.length
        };
        let before = waiting.iter().position(same);
        let before = before.with_context(|| format!("nothing before {packet:?}: {waiting:?}"))?;
        pairs.push([waiting.remove(before), packet.clone()]);
    }
    ensure!(waiting.is_empty(), "nothing after {waiting:?}");
    Ok(pairs)
}

/// How many packets of a rule the forwarder has sent on.
fn forwarded(forwarder: &Forwarder, rule: &str) -> Result<u64> {
    let rules = forwarder.query("rules")?;
    let rules = rules.as_array().context("no list")?;
    let rule = rules.iter().find(|one| one["name"] == rule);
    let rule = rule.context("no such rule")?;
    let packets = |direction: &str| rule[direction]["packets"].as_u64().unwrap_or_default();
    Ok(packets("original") + packets("reply"))
}

fn forwarder<T>(rig: &mut Rig<T>) -> Result<&mut Forwarder> {
    rig.gateway.forwarder().context("no forwarder")
}

/// A connection from before stays as it is; everything from then on is in the file, of this rule and no other.
#[rstest]
fn every_packet_before_and_after(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let mut rig = Rig::s0(engine, &[ECHO, OTHER])?;
    let _echo = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let _other = Server::start(&rig.hosts.server, "195.228.245.1:9", echo)?;
    let mut before = connect(&rig.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut before, b"from before")?;
    let path = if engine == XDP { "XDP" } else { "TC" };

    let there = forwarded(forwarder(&mut rig)?, "echo")?;
    let capture = Capture::begin(forwarder(&mut rig)?, &["echo"])?;
    tcp_exchange(&mut before, b"meanwhile")?;
    for port in [7, 9] {
        let mut stream = connect(&rig.hosts.client, S0::at_gateway(port))?;
        tcp_exchange(&mut stream, &[7; 3000])?;
    }
    let pairs = pairs(&capture.end()?)?;
    let count = forwarded(forwarder(&mut rig)?, "echo")? - there;
    tcp_exchange(&mut before, b"afterwards")?;

    ensure!(count > 10, "{count} packets");
    // Those that came between its end and the counting are not in it.
    ensure!(
        pairs.len() as u64 <= count && pairs.len() > 8,
        "{} of {count}",
        pairs.len()
    );
    for [came, left] in &pairs {
        let reply = came.comment.contains("reply");
        let direction = if reply { "reply" } else { "original" };
        let comment = format!("rule echo, {direction}, before translation, on {path}");
        assert_eq!(came.comment, comment);
        assert_eq!(
            [came.device.as_str(), left.device.as_str()],
            ["eth0", "eth0"]
        );
        let (client, gateway) = (S0::CLIENT, S0::GATEWAY);
        let backend = "195.228.245.1 7".to_owned();
        if reply {
            assert_eq!(came.source, backend);
            ensure!(came.destination.starts_with(gateway), "{came:?}");
            assert_eq!(left.source, format!("{gateway} 7"));
            ensure!(left.destination.starts_with(client), "{left:?}");
        } else {
            ensure!(came.source.starts_with(client), "{came:?}");
            assert_eq!(came.destination, format!("{gateway} 7"));
            ensure!(left.source.starts_with(gateway), "{left:?}");
            assert_eq!(left.destination, backend);
        }
        for packet in [came, left] {
            // 1 is good, to tshark. The kernel puts segments together in front of TC, and leaves the sum to do.
            if packet.length[0].parse::<u32>()? <= 1514 {
                assert_eq!(packet.checksums, ["1", "1"], "{packet:?}");
            }
        }
    }
    let directions: BTreeSet<_> = pairs.iter().map(|[came, _]| &came.comment).collect();
    assert_eq!(directions.len(), 2);
    Ok(())
}

#[rstest]
fn by_another_device_and_of_every_rule(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let rules = [
        Rule::preserve("four", "203.0.113.5:7", "10.1.0.2:7").udp(),
        Rule::preserve("six", "[2001:db8:113::5]:7", "[2001:db8:a::2]:7").udp(),
    ];
    let mut rig = Rig::s3(engine, &rules)?;
    let capture = Capture::begin(forwarder(&mut rig)?, &[])?;
    let mut echoes = Vec::new();
    for family in Family::ALL {
        echoes.push(UdpEcho::start(
            &rig.hosts.mail,
            &S3::mail(family, 7).to_string(),
        )?);
        udp_exchange(&rig.hosts.near, S3::public_of(family, 1, 7), b"hello")?;
    }
    let pairs = pairs(&capture.end()?)?;
    assert_eq!(pairs.len(), 4, "{pairs:#?}");
    for ([came, left], family) in pairs
        .iter()
        .zip([Family::V4, Family::V4, Family::V6, Family::V6])
    {
        let rule = family.pick("four", "six");
        ensure!(
            came.comment.starts_with(&format!("rule {rule}, ")),
            "{came:?}"
        );
        let devices = match came.comment.contains("reply") {
            false => ["wan1", "lan0"],
            true => ["lan0", "wan1"],
        };
        assert_eq!([came.device.as_str(), left.device.as_str()], devices);
    }
    Ok(())
}

/// What is delivered to this host, and what it sends itself.
#[rstest]
fn to_and_from_this_host(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let rule = Rule::preserve("in", "203.0.113.5:986", "local:25");
    let output = Output {
        name: "out",
        protocol: Protocol::Tcp,
        to_address: "192.0.2.7:25",
        to: "192.0.2.7:986",
    };
    let mut rig = Rig::s4(engine, &[rule], &[output])?;
    let _mail = Server::start(&rig.hosts.gateway, "203.0.113.5:25", smtp)?;
    let _relay = Server::start(&rig.hosts.relay, "192.0.2.7:986", smtp)?;
    let capture = Capture::begin(forwarder(&mut rig)?, &[])?;
    smtp_client(
        connect(&rig.hosts.client, S4::gateway(Family::V4, 986))?,
        "in",
    )?;
    smtp_client(connect(&rig.hosts.gateway, "192.0.2.7:25".parse()?)?, "out")?;
    let pairs = pairs(&capture.end()?)?;
    let ways: BTreeSet<_> = pairs
        .iter()
        .map(|[came, left]| {
            let words: Vec<_> = came.comment.split(", ").take(2).collect();
            format!("{} {} {}", words.join(" "), came.device, left.device)
        })
        .collect();
    let expected = [
        "rule in original eth0 host",
        "rule in reply host eth0",
        "rule out original host eth0",
        "rule out reply eth0 host",
    ];
    assert_eq!(ways, expected.map(str::to_owned).into());
    Ok(())
}

/// An ICMP error about a packet of the rule's is the rule's as well.
#[rstest]
fn errors_about_packets(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let mut rig = Rig::s0(engine, &[ECHO.udp()])?;
    let capture = Capture::begin(forwarder(&mut rig)?, &["echo"])?;
    let socket = udp_client(&rig.hosts.client, S0::at_gateway(7))?;
    socket.send(b"anybody there")?;
    let refused = socket.recv(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused));
    let pairs = pairs(&capture.end()?)?;
    let [[_, asked], [told, passed_on]] = pairs.as_slice() else {
        panic!("{pairs:#?}")
    };
    // UDP, and ICMP.
    assert_eq!(asked.protocol, "17");
    assert_eq!([told.protocol.as_str(), &passed_on.protocol], ["1"; 2]);
    // The ports are those of the packet that the error quotes.
    let address = |text: &str| text.split(' ').next().map(str::to_owned);
    assert_eq!(address(&told.source).as_deref(), Some("195.228.245.1"));
    assert_eq!(address(&passed_on.source).as_deref(), Some(S0::GATEWAY));
    assert_eq!(address(&passed_on.destination).as_deref(), Some(S0::CLIENT));
    ensure!(told.comment.starts_with("rule echo, reply"), "{told:?}");
    Ok(())
}

#[test]
fn so_many_packets_and_no_more_bytes_of_them() -> Result<()> {
    let mut rig = Rig::s0(XDP, &[ECHO])?;
    let _echo = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let arguments = ["echo", "--count", "5", "--snaplen", "64"];
    let mut capture = Capture::begin(forwarder(&mut rig)?, &arguments)?;
    let mut stream = connect(&rig.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut stream, &[7; 1400])?;
    tcp_exchange(&mut stream, &[7; 1400])?;
    let packets = capture.ended()?;
    let after = packets.iter().filter(|one| one.comment.contains("after"));
    assert_eq!(after.count(), 5);
    let longest = packets.iter().map(|one| one.length.clone());
    let longest = longest.max_by_key(|[length, _]| length.parse::<u32>().ok());
    let [whole, captured] = longest.context("no packet")?;
    ensure!(whole.parse::<u32>()? > 1400, "{whole}");
    assert_eq!(captured, "64");
    Ok(())
}

/// The number of the XDP program on the gateway's device.
fn program(rig: &Rig<S0>) -> Result<u64> {
    let mut ip = rig.hosts.gateway.command("ip");
    let text = output(ip.args(["-j", "link", "show", "dev", "eth0"]), PATIENCE)?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    links[0]["xdp"]["prog"]["id"].as_u64().context("no program")
}

/// However it ends, the usual programs are back, and somebody else can capture.
#[rstest]
#[case::in_peace(Signal::SIGTERM)]
#[case::killed(Signal::SIGKILL)]
fn the_usual_programs_come_back(#[case] signal: Signal) -> Result<()> {
    let mut rig = Rig::s0(XDP, &[ECHO])?;
    let _echo = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let usual = program(&rig)?;
    let mut capture = Capture::begin(forwarder(&mut rig)?, &[])?;
    ensure!(program(&rig)? != usual, "the usual program is still there");

    let mut second = Capture::start(forwarder(&mut rig)?, &[])?;
    assert_eq!(second.process.wait(PATIENCE)?.code(), Some(1));
    let said = second.process.stderr();
    ensure!(
        said.contains("another `forwarder capture` is running"),
        "{said}"
    );

    capture.process.signal(signal)?;
    capture.process.wait(PATIENCE)?;
    tests::process::wait_until("the usual program", PATIENCE, || {
        program(&rig).is_ok_and(|now| now == usual)
    })?;
    let mut stream = connect(&rig.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut stream, b"still here")?;
    Capture::begin(forwarder(&mut rig)?, &[])?.end()?;
    assert_eq!(program(&rig)?, usual);
    Ok(())
}

/// A daemon that goes away meanwhile leaves programs that work, and its successor puts the usual ones back.
#[test]
fn a_daemon_that_dies_meanwhile() -> Result<()> {
    let mut rig = Rig::s0(XDP, &[ECHO])?;
    let _echo = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let mut capture = Capture::begin(forwarder(&mut rig)?, &[])?;
    let copying = program(&rig)?;
    forwarder(&mut rig)?.kill()?;
    assert_eq!(capture.process.wait(PATIENCE)?.code(), Some(1));
    let said = capture.process.stderr();
    ensure!(said.contains("the forwarder went away"), "{said}");
    let mut stream = connect(&rig.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut stream, b"without a daemon")?;
    forwarder(&mut rig)?.restart()?;
    ensure!(
        program(&rig)? != copying,
        "the programs that copy are still there"
    );
    tcp_exchange(&mut stream, b"with another one")?;
    Ok(())
}

#[test]
fn rules_that_are_not_there() -> Result<()> {
    let mut rig = Rig::s0(TC, &[ECHO, OTHER])?;
    let mut capture = Capture::start(forwarder(&mut rig)?, &["ehco"])?;
    assert_eq!(capture.process.wait(PATIENCE)?.code(), Some(1));
    let said = capture.process.stderr();
    let expected = "there is no rule `ehco`; expected one of `echo`, `other`";
    ensure!(said.contains(expected), "{said}");
    Ok(())
}
