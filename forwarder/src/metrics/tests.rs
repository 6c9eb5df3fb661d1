//! The server, asked over a socket, and by clients that do not behave.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use anyhow::bail;
use rstest::rstest;

use super::{Listener, MetricsError, Server, Snapshot, Source};

struct Fixed;

impl Source for Fixed {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        Ok(Snapshot {
            generation: 7,
            ..Snapshot::default()
        })
    }
}

struct Broken;

impl Source for Broken {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        bail!("the kernel said no")
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn server(source: impl Source + 'static) -> Server {
    let listener = Listener::bind(loopback()).unwrap();
    listener.serve(Arc::new(source)).unwrap()
}

fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n";

#[test]
fn a_scrape_is_answered_with_text() {
    let answer = ask(&server(Fixed), SCRAPE);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let head = head.to_lowercase();
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    assert!(head.contains("connection: close"), "{head}");
    assert!(body.contains("\nforwarder_generation 7\n"), "{body}");
}

#[rstest]
#[case::elsewhere("GET / HTTP/1.1\r\nhost: here\r\n\r\n", "404")]
#[case::writing("POST /metrics HTTP/1.1\r\nhost: here\r\n\r\n", "405")]
#[case::no_http("what\r\n\r\n", "400")]
fn nothing_else_is(#[case] request: &str, #[case] status: &str) {
    let answer = ask(&server(Fixed), request);
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
}

#[test]
fn a_daemon_that_cannot_tell_says_so() {
    let answer = ask(&server(Broken), SCRAPE);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthe kernel said no\n"), "{answer}");
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out() {
    let server = server(Fixed);
    let idle: Vec<_> = (0..15)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    assert!(ask(&server, SCRAPE).contains("200 OK"));
    drop(idle);
}

#[test]
fn the_port_is_free_again_afterwards() {
    let first = server(Fixed);
    let address = first.address();
    let taken = Listener::bind(address).unwrap_err();
    assert!(matches!(taken, MetricsError::InUse(_)), "{taken}");
    let sentence = format!(
        "cannot serve metrics on {address}: something listens there already; stop it, or change `listen` of `[metrics]`"
    );
    assert_eq!(taken.to_string(), sentence);
    drop(first);
    Listener::bind(address).unwrap();
}

#[test]
fn an_address_of_somebody_else_is_refused() {
    // TEST-NET-1, which no host has.
    let address = SocketAddr::from(([192, 0, 2, 1], 9469));
    let error = Listener::bind(address).unwrap_err();
    assert!(matches!(error, MetricsError::NoAddress(_)), "{error}");
}
