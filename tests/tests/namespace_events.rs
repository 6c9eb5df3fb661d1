//! Flows that begin and end, as they are told, logged and found again, with real connections and a real disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::Value;
use tests::netns::{Prefix, Wire};
use tests::process::{Process, wait_for, wait_until};
use tests::responder::{Server, connect, echo, tcp_exchange};
use tests::scenario::{Forwarder, GatewayConfig, Mode, Rule, S0, binary, socket_in};

const PATIENCE: Duration = Duration::from_secs(20);
const ECHO: Rule = Rule::masquerade("echo", "*:7", "195.228.245.1:7");
const OTHER: Rule = Rule::masquerade("other", "*:8", "195.228.245.1:8");
const BACKEND: &str = "195.228.245.1:7";

/// What is gone is gone soon.
const TIMEOUTS: &str = "[timeouts]\ntcp-transitory = \"1s\"\n";

struct Host {
    hosts: S0,
    forwarder: Forwarder,
    directory: PathBuf,
}

impl Host {
    /// S0 with two rules; `extra` may name `DIR`, which is the forwarder's.
    fn start(mode: Mode, extra: &str) -> Result<Self> {
        let prefix = Prefix::unique();
        let hosts = S0::build(&prefix, Wire::CABLE)?;
        let directory = prefix.directory();
        let config = GatewayConfig {
            interfaces: vec![S0::DEVICE],
            rules: vec![ECHO, OTHER],
            ..GatewayConfig::default()
        };
        let both = config.to_toml(mode, &socket_in(&directory));
        let both = both.replace("\"tcp\"", "[\"tcp\", \"udp\"]");
        let extra = extra.replace("DIR", &directory.display().to_string());
        let text = both + TIMEOUTS + &extra;
        let forwarder = Forwarder::start_with(&hosts.gateway, binary()?, directory.clone(), &text)?;
        Ok(Self {
            hosts,
            forwarder,
            directory,
        })
    }

    /// One connection from its beginning to its end; returns the client's address.
    fn talk(&self) -> Result<SocketAddr> {
        let mut stream = connect(&self.hosts.client, S0::at_gateway(7))?;
        tcp_exchange(&mut stream, b"hello")?;
        Ok(stream.local_addr()?)
    }

    /// `forwarder events`, which is heard already.
    fn listen(&self, args: &[&str]) -> Result<Process> {
        let mut command = Command::new(self.forwarder.binary());
        command.arg("events").args(args);
        command.arg("--socket").arg(self.forwarder.socket());
        let mut events = Process::spawn(&mut command)?;
        let stdout = || events.stdout();
        wait_until("the first event", PATIENCE, || {
            self.talk().is_ok() && !stdout().is_empty()
        })?;
        ensure!(events.is_running()?, "{}", events.said());
        Ok(events)
    }

    fn who(&self, translated: SocketAddr, more: &str) -> Result<Vec<Value>> {
        let report = self
            .forwarder
            .query(format!("who {translated} {more}").trim_end())?;
        let flows = report["flows"].as_array().context("no list")?;
        Ok(flows.clone())
    }

    /// A counter of events.
    fn counter(&self, name: &str, label: &str) -> Result<u64> {
        let address = "127.0.0.1:9469".parse().expect("an address");
        let mut stream = connect(&self.hosts.gateway, address)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let text = std::io::read_to_string(stream)?;
        let line = format!("forwarder_events_{name}_total{{place=\"{label}\"}} ");
        let value = text.lines().find_map(|found| found.strip_prefix(&line));
        Ok(value.context("no such counter")?.parse()?)
    }
}

/// Lines of JSON that are about this client.
fn about(text: &str, client: SocketAddr) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let events = lines.filter_map(Result::ok);
    events
        .filter(|event| event["client"] == client.to_string())
        .collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().filter_map(|event| event["event"].as_str());
    kinds.collect()
}

fn mode_of(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

const EVERYTHING: &str = "\
[flow-log]
path = \"DIR/flows.log\"
[history]
path = \"DIR/history.redb\"
";

#[rstest]
fn a_connection_is_told_logged_and_found_again(
    #[values(Mode::Xdp, Mode::Tc)] mode: Mode,
) -> Result<()> {
    let mut host = Host::start(mode, EVERYTHING)?;
    let server = Server::start(&host.hosts.server, BACKEND, echo)?;
    let mut events = host.listen(&["--rule", "echo", "--protocol", "tcp"])?;

    let mut stream = connect(&host.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut stream, b"hello")?;
    let client = stream.local_addr()?;
    let translated = *server.peers().last().context("nobody came")?;
    let open = host.who(translated, "")?;
    ensure!(open.len() == 1, "{open:?}");
    assert_eq!(open[0]["client"], client.to_string());
    assert_eq!(
        (&open[0]["open"], &open[0]["end"]),
        (&true.into(), &Value::Null)
    );
    drop(stream);

    let told = wait_for("all of its events", PATIENCE, || {
        let told = about(&events.stdout(), client);
        (told.len() == 3).then_some(told)
    })?;
    assert_eq!(kinds(&told), ["new", "established", "closed"]);
    for event in &told {
        assert_eq!(event["rule"], "echo");
        assert_eq!(event["listener"], "203.0.113.5:7");
        assert_eq!(event["backend"], BACKEND);
        assert_eq!(event["translated"], translated.to_string());
    }
    let closed = &told[2];
    assert_eq!(closed["cause"], "finished");
    assert_eq!(closed["state"], "TIME_WAIT");
    // The handshake, data, and the end, either way: 5 bytes of it are the exchange.
    let packets = |direction: &str| closed[direction]["packets"].as_u64();
    assert!(
        packets("original") >= Some(5) && packets("reply") >= Some(3),
        "{closed}"
    );
    assert!(
        closed["end"].as_str() >= closed["start"].as_str(),
        "{closed}"
    );

    let log = host.directory.join("flows.log");
    let logged = wait_for("its lines in the log", PATIENCE, || {
        let lines = about(&fs::read_to_string(&log).ok()?, client);
        (lines.len() == 2).then_some(lines)
    })?;
    assert_eq!(logged, [told[0].clone(), told[2].clone()]);
    assert_eq!(mode_of(&log)?, 0o640);
    assert_eq!(mode_of(&host.directory.join("history.redb"))?, 0o600);

    let is_found = |host: &Host, more: &str, when: &str| {
        let found = host
            .who(translated, more)
            .with_context(|| when.to_owned())?;
        ensure!(found.len() == 1, "{when}: {found:?}");
        ensure!(
            found[0]["client"] == client.to_string(),
            "{when}: {found:?}"
        );
        ensure!(found[0]["cause"] == "finished", "{when}: {found:?}");
        Ok(())
    };
    is_found(&host, "", "afterwards")?;
    is_found(&host, "--at now", "now").expect_err("nobody has the port now");
    let start = told[0]["time"].as_str().context("no time")?.to_owned();
    is_found(&host, &format!("--at {start}"), "by its time")?;
    assert_eq!(host.who(translated, "--protocol udp")?, Vec::<Value>::new());

    host.forwarder.stop()?;
    assert_eq!(events.wait(PATIENCE)?.code(), Some(1), "{}", events.said());
    let config = format!("--config {}", host.forwarder.config().display());
    is_found(&host, &config, "without a daemon")?;
    host.forwarder.restart()?;
    is_found(&host, "", "after a restart")?;
    host.forwarder.kill()?;
    host.forwarder.restart()?;
    is_found(&host, "", "after a crash")
}

/// The ring holds what nobody read.
#[test]
fn what_happens_without_a_daemon_is_told_by_the_next() -> Result<()> {
    let mut host = Host::start(Mode::Xdp, EVERYTHING)?;
    let server = Server::start(&host.hosts.server, BACKEND, echo)?;
    let mut before = connect(&host.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut before, b"before")?;
    host.forwarder.kill()?;
    let mut meanwhile = connect(&host.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut meanwhile, b"meanwhile")?;
    host.forwarder.restart()?;
    let translated = *server.peers().last().context("nobody came")?;
    let client = meanwhile.local_addr()?;
    let log = host.directory.join("flows.log");
    let logged = wait_for("its line in the log", PATIENCE, || {
        let lines = about(&fs::read_to_string(&log).ok()?, client);
        (!lines.is_empty()).then_some(lines)
    })?;
    assert_eq!(kinds(&logged), ["new"]);
    let found = host.who(translated, "")?;
    ensure!(found.len() == 1, "{found:?}");
    assert_eq!(found[0]["client"], client.to_string());
    assert_eq!(found[0]["open"], true);
    Ok(())
}

#[test]
fn a_reload_moves_the_log_and_takes_it_away() -> Result<()> {
    let host = Host::start(Mode::Tc, EVERYTHING)?;
    let _server = Server::start(&host.hosts.server, BACKEND, echo)?;
    let config = fs::read_to_string(host.forwarder.config())?;
    let log = |name: &str| fs::read_to_string(host.directory.join(name)).unwrap_or_default();
    let is_logged = |name: &str| {
        let client = host.talk()?;
        wait_until(&format!("a line in {name}"), PATIENCE, || {
            !about(&log(name), client).is_empty()
        })
    };
    is_logged("flows.log")?;
    fs::rename(
        host.directory.join("flows.log"),
        host.directory.join("flows.log.1"),
    )?;
    is_logged("flows.log")?;
    fs::write(
        host.forwarder.config(),
        config.replace("flows.log", "other.log"),
    )?;
    host.forwarder.listing("reload")?;
    is_logged("other.log")?;
    let without = config.replace("[flow-log]\n", "").replace(
        &format!("path = \"{}/flows.log\"\n", host.directory.display()),
        "",
    );
    fs::write(host.forwarder.config(), &without)?;
    host.forwarder.listing("reload")?;
    let before = log("other.log");
    host.talk()?;
    // The history goes on, and by the time it knows, the log would.
    assert_eq!(log("other.log"), before);
    let history = without.replace("history.redb", "elsewhere.redb");
    fs::write(host.forwarder.config(), history)?;
    let refused = host.forwarder.listing("reload").expect_err("it stays");
    ensure!(
        format!("{refused:#}").contains("`history` cannot change"),
        "{refused:#}"
    );
    Ok(())
}

/// A file system with hardly any room.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let options = Some("size=16k");
        mount(
            Some("tiny"),
            directory.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )?;
        Ok(Self(directory))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmounting {}: {error}", self.0.path().display());
        }
    }
}

#[test]
fn a_full_disk_stops_nothing() -> Result<()> {
    // One each, or the history takes what the log is given.
    let (tiny, other) = (Tiny::mount()?, Tiny::mount()?);
    let place = |file: &str, tiny: &Tiny| (format!("DIR/{file}"), tiny.0.path().join(file));
    let mut extra = "[metrics]\nlisten = \"127.0.0.1:9469\"\n".to_owned() + EVERYTHING;
    for (from, to) in [place("flows.log", &tiny), place("history.redb", &other)] {
        extra = extra.replace(&from, &to.display().to_string());
    }
    let host = Host::start(Mode::Xdp, &extra)?;
    let _server = Server::start(&host.hosts.server, BACKEND, echo)?;
    wait_until("a full disk", PATIENCE, || {
        let connected = host.talk();
        let loses = |place: &str| host.counter("lost", place).is_ok_and(|lost| lost > 2);
        connected.is_ok() && loses("flow-log") && loses("history")
    })?;
    let said = host.forwarder.log();
    assert_eq!(
        said.matches("cannot write to the flow log").count(),
        1,
        "{said}"
    );
    assert_eq!(
        said.matches("the history cannot be used").count(),
        1,
        "{said}"
    );
    // What the flood has left is not to fill the disk again.
    wait_until("the end of all flows", PATIENCE, || {
        let flows = host.forwarder.query("flows");
        flows.is_ok_and(|flows| flows == Value::Array(Vec::new()))
    })?;
    let log = tiny.0.path().join("flows.log");
    let written = || fs::read_to_string(&log).unwrap_or_default();
    wait_until("as many lines as are counted", PATIENCE, || {
        let lines = written();
        let whole = lines.lines().filter(|line| line.ends_with('}')).count() as u64;
        host.counter("written", "flow-log")
            .is_ok_and(|count| count == whole)
    })?;
    // Room again, as by `copytruncate`; what was torn off does not spoil the next line.
    let is_written = || {
        File::options().write(true).truncate(true).open(&log)?;
        let client = host.talk()?;
        wait_until("a line after the flood", Duration::from_secs(3), || {
            !about(&written(), client).is_empty()
        })
    };
    wait_until("room again", PATIENCE, || is_written().is_ok())
}

/// A daemon that is held up loses events and says how many, and nothing else.
#[test]
fn a_ring_that_overruns_is_counted() -> Result<()> {
    let extra = "[metrics]\nlisten = \"127.0.0.1:9469\"\n".to_owned() + EVERYTHING;
    let host = Host::start(Mode::Xdp, &extra)?;
    let _server = Server::start(&host.hosts.server, BACKEND, echo)?;
    let events = host.listen(&["--kind", "new"])?;
    let pid = host.forwarder.query("status")?["pid"].as_i64();
    let pid = Pid::from_raw(i32::try_from(pid.context("no PID")?)?);
    kill(pid, Signal::SIGSTOP)?;
    let flooded = host.hosts.client.run(flood)?;
    kill(pid, Signal::SIGCONT)?;
    flooded?;
    wait_until("the loss is counted", PATIENCE, || {
        host.counter("lost", "ring").is_ok_and(|lost| lost > 0)
    })?;
    wait_until("the loss is said", PATIENCE, || {
        events.stdout().contains("\"event\":\"lost\"")
            && host.forwarder.log().contains("events of flows are lost")
    })?;
    let client = host.talk()?;
    wait_until("an event after the flood", PATIENCE, || {
        !about(&events.stdout(), client).is_empty()
    })
}

/// Twice as many flows as the ring holds.
fn flood() -> Result<()> {
    for listener in [7, 8] {
        for port in 1100..50_000_u16 {
            let socket = UdpSocket::bind(("0.0.0.0", port))?;
            // What nobody listens to is refused, which the next packet would be told.
            let _refused = socket.send_to(b"x", S0::at_gateway(listener));
        }
    }
    Ok(())
}
