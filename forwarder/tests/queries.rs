//! The program asks a daemon: what is printed, and what `--json` prints.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use forwarder::config::Control;
use forwarder::control::server::{Hearer, Held, Sink, Source, serve};
use forwarder::control::{CaptureGrant, CaptureQuery, FlowQuery, Listener};
use forwarder::events::{EventQuery, FlowEvent, Heard};
use forwarder::explain::ExplainQuery;
use forwarder::history::{Kept, Record, WhoQuery, WhoReport};
use forwarder::report::{DropReport, Explanation, FlowReport, RuleReport, Status, Verdict};
use rstest::{fixture, rstest};
use serde_json::Value;
use tempfile::TempDir;

const FLOWS: usize = 5_000;

struct Daemon;

impl Source for Daemon {
    fn status(&self) -> anyhow::Result<Status> {
        Ok(Status {
            version: "0.1.0".to_owned(),
            pid: 42,
            ..Status::default()
        })
    }
    fn rules(&self) -> anyhow::Result<Vec<RuleReport>> {
        Ok(vec![RuleReport {
            name: "pop3".to_owned(),
            flows_opened: 1_000,
            ..RuleReport::default()
        }])
    }
    fn flows(&self, query: &FlowQuery, sink: Sink<'_>) -> anyhow::Result<()> {
        let flow = FlowReport {
            // Which shows what was asked.
            rule: serde_json::to_string(query)?,
            ..FlowReport::default()
        };
        if query.port == Some(1) {
            return Ok(());
        }
        let mut left = query.limit.unwrap_or(FLOWS);
        while left > 0 {
            let count = left.min(1000);
            if sink(vec![flow.clone(); count]).is_break() {
                break;
            }
            left -= count;
        }
        Ok(())
    }
    fn explain(&self, _query: &ExplainQuery) -> anyhow::Result<Explanation> {
        anyhow::bail!("no programs here")
    }
    fn capture(self: Arc<Self>, _query: &CaptureQuery) -> anyhow::Result<(CaptureGrant, Held)> {
        anyhow::bail!("no packets here")
    }
    fn drops(&self) -> anyhow::Result<Vec<DropReport>> {
        let report = |reason: &str, packets| DropReport {
            reason: reason.to_owned(),
            verdict: Verdict::SlowPath,
            packets,
            explanation: "why".to_owned(),
            ..DropReport::default()
        };
        Ok(vec![report("never", 0), report("often", 7)])
    }
    fn events(&self, query: &EventQuery, hear: Hearer<'_>) -> anyhow::Result<()> {
        let event = FlowEvent {
            // Which shows what was asked.
            rule: serde_json::to_string(query)?,
            ..event()
        };
        let heard = Heard {
            events: vec![event; 3],
            lost: 5,
        };
        _ = hear(heard);
        Ok(())
    }
    fn who(&self, query: &WhoQuery) -> anyhow::Result<WhoReport> {
        let record = Record {
            rule: serde_json::to_string(query)?,
            ..Record::of(&event(), false)
        };
        Ok(WhoReport {
            flows: vec![record],
            left_out: 0,
            kept: Kept::Nothing,
        })
    }
    fn reload(&self) -> anyhow::Result<String> {
        Ok("1 rule changed".to_owned())
    }
}

fn event() -> FlowEvent {
    serde_json::from_value(serde_json::json!({
        "event": "closed", "time": "2026-11-26T14:03:20Z", "rule": "pop3", "protocol": "tcp",
        "state": "TIME_WAIT", "client": "198.51.100.7:46310", "listener": "203.0.113.5:110",
        "translated": "203.0.113.5:65166", "backend": "195.228.245.1:110", "start": "2026-11-26T14:03:07Z",
        "end": "2026-11-26T14:03:08Z", "cause": "finished",
        "original": {"packets": 7, "bytes": 394}, "reply": {"packets": 6, "bytes": 351},
    }))
    .expect("an event")
}

/// Answers until the test ends with the process.
#[fixture]
fn socket() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sock");
    let listener = Listener::bind(&Control {
        socket: path.clone(),
        ..Control::default()
    })
    .expect("a socket");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(serve(listener, Arc::new(Daemon), std::future::pending()))
    });
    (directory, path)
}

fn command(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forwarder"));
    command
        .args(args)
        .arg("--socket")
        .arg(socket)
        .stdin(Stdio::null());
    command
}

fn stdout(socket: &Path, args: &[&str]) -> String {
    let output = command(socket, args).output().expect("the program starts");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    String::from_utf8(output.stdout).expect("text")
}

fn json(socket: &Path, args: &[&str]) -> Value {
    let text = stdout(socket, &[args, &["--json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

#[rstest]
fn listings_for_people(socket: (TempDir, PathBuf)) {
    let socket = &socket.1;
    assert!(stdout(socket, &["status"]).starts_with("forwarder      0.1.0, process 42, up 0s\n"));
    assert!(
        stdout(socket, &["rules"])
            .lines()
            .nth(1)
            .is_some_and(|line| line.contains("1,000"))
    );
    assert_eq!(stdout(socket, &["flows"]).lines().count(), FLOWS);
    assert_eq!(stdout(socket, &["reload"]), "1 rule changed\n");
}

#[rstest]
fn listings_for_programs(socket: (TempDir, PathBuf)) {
    let socket = &socket.1;
    assert_eq!(json(socket, &["status"])["pid"], 42);
    assert_eq!(json(socket, &["rules"])[0]["flows_opened"], 1_000);
    assert_eq!(
        json(socket, &["flows"]).as_array().map(Vec::len),
        Some(FLOWS)
    );
    assert_eq!(json(socket, &["drops"])[0]["verdict"], "slow-path");
}

#[rstest]
fn what_flows_are_wanted_is_for_the_daemon_to_know(socket: (TempDir, PathBuf)) {
    let args = [
        "flows",
        "--rule=pop3",
        "--address=198.51.100.7",
        "--port=110",
        "--state=established",
        "--protocol=tcp",
        "--sort=idle",
        "--limit=2",
    ];
    let flows = json(&socket.1, &args);
    assert_eq!(flows.as_array().map(Vec::len), Some(2));
    let asked: Value = serde_json::from_str(flows[0]["rule"].as_str().unwrap()).unwrap();
    let expected = serde_json::json!({
        "rule": "pop3",
        "address": "198.51.100.7/32",
        "port": 110,
        "state": "established",
        "protocol": "tcp",
        "sort": "idle",
        "limit": 2,
    });
    assert_eq!(asked, expected);
}

#[rstest]
fn no_flows_are_said_in_words_or_are_an_empty_list(socket: (TempDir, PathBuf)) {
    let socket = &socket.1;
    assert_eq!(
        stdout(socket, &["flows", "--port=1"]),
        "no flow is like that\n"
    );
    assert_eq!(json(socket, &["flows", "--port=1"]), serde_json::json!([]));
}

#[rstest]
#[case(&["--state", "open"])]
#[case(&["--address", "mail.example.net"])]
#[case(&["--port", "65536"])]
#[case(&["--limit", "0"])]
#[case(&["--sort", "size"])]
fn a_bad_filter_is_a_usage_error(socket: (TempDir, PathBuf), #[case] args: &[&str]) {
    let output = command(&socket.1, &[&["flows"], args].concat())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[rstest]
fn reasons_that_never_occurred_are_left_out(socket: (TempDir, PathBuf)) {
    let socket = &socket.1;
    assert!(!stdout(socket, &["drops"]).contains("never"));
    assert!(stdout(socket, &["drops", "--all"]).contains("never"));
    let names = |value: Value| value.as_array().map(Vec::len);
    assert_eq!(names(json(socket, &["drops"])), Some(1));
    assert_eq!(names(json(socket, &["drops", "--all"])), Some(2));
}

#[rstest]
fn a_reader_may_stop_after_the_first_line(socket: (TempDir, PathBuf)) {
    let mut command = command(&socket.1, &["flows"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

/// Without a terminal events are JSON, a line each; `--limit` ends the command.
#[rstest]
fn events_are_lines_of_json(socket: (TempDir, PathBuf)) {
    let args = [
        "events",
        "--rule=pop3",
        "--address=198.51.100.0/24",
        "--port=110",
        "--protocol=tcp",
        "--kind=new,closed",
        "--limit=2",
    ];
    let output = command(&socket.1, &args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "5 events were lost\n");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], serde_json::json!({"event": "lost", "count": 5}));
    assert_eq!(lines[1]["translated"], "203.0.113.5:65166");
    assert_eq!(lines[1]["reply"]["bytes"], 351);
    let asked: Value = serde_json::from_str(lines[2]["rule"].as_str().unwrap()).unwrap();
    let expected = serde_json::json!({
        "rule": "pop3",
        "address": "198.51.100.0/24",
        "port": 110,
        "protocol": "tcp",
        "kinds": ["new", "closed"],
    });
    assert_eq!(asked, expected);
}

/// A daemon that ends is no success.
#[rstest]
fn events_end_with_the_daemon(socket: (TempDir, PathBuf)) {
    let output = command(&socket.1, &["events"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with("error: the forwarder has ended\n"), "{said}");
}

#[rstest]
fn who_is_asked_for_a_moment(socket: (TempDir, PathBuf)) {
    let socket = &socket.1;
    let args = ["who", "203.0.113.5:65166", "--at=2026-11-26T15:03+01:00"];
    let report = json(socket, &args);
    let flow = &report["flows"][0];
    assert_eq!(flow["client"], "198.51.100.7:46310");
    assert_eq!(flow["open"], false);
    assert_eq!(flow["end"], "2026-11-26T14:03:08Z");
    let asked: Value = serde_json::from_str(flow["rule"].as_str().unwrap()).unwrap();
    let expected = serde_json::json!({
        "translated": "203.0.113.5:65166",
        "at": {"from": "2026-11-26T14:03:00Z", "to": "2026-11-26T14:04:00Z"},
    });
    assert_eq!(asked, expected);
    let text = stdout(socket, &args);
    let line = "client 198.51.100.7:46310  tcp  203.0.113.5:65166 -> 195.228.245.1:110  asked for 203.0.113.5:110";
    assert!(text.starts_with(line), "{text}");
    assert!(text.contains("`[history]` in the configuration"), "{text}");
}

#[rstest]
#[case(&["who", "203.0.113.5"])]
#[case(&["who", "203.0.113.5:7", "--at", "yesterday"])]
#[case(&["events", "--kind", "opened"])]
fn bad_questions_are_usage_errors(socket: (TempDir, PathBuf), #[case] args: &[&str]) {
    let output = command(&socket.1, args).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
