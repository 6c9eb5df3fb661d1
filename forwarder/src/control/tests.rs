//! Server and client on a temporary socket, and clients that do not behave.

use std::fs;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;

mod daemon;

use daemon::{Daemon, HELD, at};
use rstest::rstest;

use super::{CaptureQuery, ControlError, FlowQuery, Listener, Request, client};
use crate::config::Control;
use crate::events::EventQuery;
use crate::history::WhoQuery;
use crate::report::{DropReport, RuleReport, Status};

#[test]
fn every_request_is_answered() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    assert_eq!(
        client::ask::<Status>(&socket, Request::Status).unwrap().pid,
        42
    );
    assert_eq!(
        client::ask::<Vec<RuleReport>>(&socket, Request::Rules).unwrap()[0].name,
        "pop3"
    );
    assert!(
        client::ask::<Vec<DropReport>>(&socket, Request::Drops)
            .unwrap()
            .is_empty()
    );
    let refused = client::ask::<String>(&socket, Request::Reload).unwrap_err();
    assert_eq!(refused.to_string(), "refused: line one\nline two");
}

#[test]
fn flows_come_in_chunks_until_enough_are_seen() {
    let daemon = Daemon::start();
    let mut ages = Vec::new();
    client::ask_flows(&daemon.socket(), &FlowQuery::default(), |flows| {
        ages.extend(flows.iter().map(|flow| flow.age_seconds));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(ages.len(), 20_000);
    assert!(ages.is_sorted());

    let two = FlowQuery {
        limit: Some(2),
        ..FlowQuery::default()
    };
    let mut chunks = 0;
    client::ask_flows(&daemon.socket(), &two, |flows| {
        assert_eq!(flows.len(), 2);
        chunks += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(chunks, 1);
    let bad = FlowQuery {
        rule: Some("none".to_owned()),
        ..FlowQuery::default()
    };
    let refused = client::ask_flows(&daemon.socket(), &bad, |_| panic!("no flows")).unwrap_err();
    assert_eq!(refused.to_string(), "no such rule");
}

#[rstest]
#[case::garbage(b"\xff\xfe\x00\n", "not a request: ")]
#[case::unknown(b"{\"command\":\"stop\"}\n", "not a request: unknown variant `stop`")]
#[case::query_elsewhere(
    b"{\"command\":\"status\",\"query\":{}}\n",
    "only `flows` takes a query"
)]
#[case::bad_query(
    b"{\"command\":\"flows\",\"query\":{\"limit\":-1}}\n",
    "not a request: "
)]
#[case::extra(b"{\"command\":\"status\",\"x\":1}\n", "not a request: ")]
#[case::empty(
    b"",
    "the request ends too early: expected one line of at most 4096 bytes"
)]
#[case::cut_short(
    b"{\"command\":",
    "the request ends too early: expected one line of at most 4096 bytes"
)]
#[case::too_long(&[b'x'; 10_000], "the request is too long: expected one line of at most 4096 bytes")]
fn bad_requests_are_refused(#[case] request: &[u8], #[case] expected: &str) {
    let daemon = Daemon::start();
    let answer = daemon.raw(request);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let error = answer["error"].as_str().unwrap();
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(
        client::ask::<Status>(&daemon.socket(), Request::Status)
            .unwrap()
            .pid,
        42
    );
}

#[test]
fn an_answer_is_one_line() {
    let daemon = Daemon::start();
    let answer = daemon.raw(b"{\"command\":\"reload\"}\n");
    assert_eq!(answer, "{\"error\":\"refused: line one\\nline two\"}\n");
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out() {
    let daemon = Daemon::start();
    let idle: Vec<UnixStream> = (0..15)
        .map(|_| UnixStream::connect(daemon.socket()).unwrap())
        .collect();
    assert_eq!(
        client::ask::<Status>(&daemon.socket(), Request::Status)
            .unwrap()
            .pid,
        42
    );
    drop(idle);
}

#[test]
fn the_socket_is_the_groups_that_is_named() {
    let directory = tempfile::tempdir().unwrap();
    // The one group that every user may give files to is his own.
    let own = fs::metadata(directory.path()).unwrap().gid();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let suffix = format!(":{own}:");
    let line = groups.lines().find(|line| line.contains(&suffix)).unwrap();
    let name = line.split(':').next().unwrap();
    let control = Control {
        group: Some(name.to_owned()),
        mode: 0o600,
        ..at(&directory.path().join("sock"))
    };
    let _listener = Listener::bind(&control).unwrap();
    let metadata = fs::metadata(&control.socket).unwrap();
    assert_eq!(
        (metadata.gid(), metadata.permissions().mode() & 0o777),
        (own, 0o600)
    );

    let nobody = Control {
        group: Some("no-such-group".to_owned()),
        ..at(&directory.path().join("other"))
    };
    let error = Listener::bind(&nobody).unwrap_err().to_string();
    assert!(error.contains("groupadd --system no-such-group"), "{error}");
    assert!(!nobody.socket.exists());
}

#[test]
fn the_socket_is_not_open_to_the_world() {
    let daemon = Daemon::start();
    let mode = fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn a_second_daemon_is_refused() {
    let daemon = Daemon::start();
    let error = Listener::bind(&at(&daemon.socket())).unwrap_err();
    assert!(matches!(error, ControlError::InUse(_)), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("a forwarder is already running on ")
    );
    assert_eq!(
        client::ask::<Status>(&daemon.socket(), Request::Status)
            .unwrap()
            .pid,
        42
    );
}

#[test]
fn somebody_elses_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let other = UnixListener::bind(&path).unwrap();
    assert!(matches!(
        Listener::bind(&at(&path)),
        Err(ControlError::InUse(_))
    ));
    drop(other);
    // Now it is stale: the file is there and nobody listens.
    assert!(path.exists());
    Listener::bind(&at(&path)).unwrap();
}

#[test]
fn a_file_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(
        Listener::bind(&at(&path)),
        Err(ControlError::NotASocket(_))
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn without_a_daemon_the_client_says_how_to_start_one() {
    let error = client::ask::<Status>(Path::new("/nonexistent/sock"), Request::Status).unwrap_err();
    let expected = "no forwarder is running on /nonexistent/sock: start it with `forwarder run`";
    assert_eq!(error.to_string(), expected);
}

#[rstest]
#[case::nothing(b"")]
#[case::garbage(b"hello\n")]
#[case::other_shape(b"{\"ok\":[]}\n")]
fn an_answer_of_another_version_is_an_error(#[case] answer: &'static [u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 64];
        let _ = stream.read(&mut request).unwrap();
        stream.write_all(answer).unwrap();
    });
    let error = client::ask::<Status>(&path, Request::Status).unwrap_err();
    assert!(matches!(error, ControlError::Answer { .. }), "{error}");
    server.join().unwrap();
}

/// What is held for a client ends with its connection, however that ends.
#[test]
fn a_capture_lasts_as_long_as_its_connection() {
    let daemon = Daemon::start();
    let query = CaptureQuery {
        rule: None,
        length: 64,
    };
    let (grant, stream) = client::hold(&daemon.socket(), query).unwrap();
    assert_eq!(grant.directory, Path::new("/there"));
    assert_eq!(HELD.load(Ordering::SeqCst), 1);
    // Others are served meanwhile.
    let status: Status = client::ask(&daemon.socket(), Request::Status).unwrap();
    assert_eq!(status.pid, 42);
    drop(stream);
    while HELD.load(Ordering::SeqCst) != 0 {
        thread::yield_now();
    }
    let query = CaptureQuery {
        rule: Some("none".to_owned()),
        length: 64,
    };
    let refused = client::hold(&daemon.socket(), query).unwrap_err();
    assert_eq!(refused.to_string(), "no such rule");
    let without = daemon.raw(b"{\"command\":\"capture\"}\n");
    assert!(without.contains("takes what to capture"), "{without}");
}

/// Events come until one has enough; a daemon that ends says so.
#[test]
fn events_are_heard_until_one_side_ends() {
    let daemon = Daemon::start();
    let mut lost = Vec::new();
    let heard = |lost: &mut Vec<u64>, enough: u64| {
        client::ask_events(&daemon.socket(), &EventQuery::default(), |heard| {
            lost.push(heard.lost);
            match heard.lost == enough {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    };
    heard(&mut lost, 2).unwrap();
    assert_eq!(lost, [1, 2]);
    let ended = heard(&mut lost, 9).unwrap_err();
    assert_eq!(lost, [1, 2, 1, 2, 3]);
    assert_eq!(ended.to_string(), "the forwarder has ended");
}

#[test]
fn who_is_asked_with_a_query() {
    let daemon = Daemon::start();
    let query = WhoQuery {
        translated: "203.0.113.5:7".parse().unwrap(),
        protocol: None,
        at: None,
    };
    let report = client::ask_who(&daemon.socket(), query).unwrap();
    assert_eq!(report.left_out, 7);
}
