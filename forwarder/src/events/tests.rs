//! Queues that fill, who wants what, and files that are moved away, torn or cannot be written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};
use std::time::Duration;

use rstest::rstest;

use super::log::LogFile;
use super::{Cause, Closed, Counts, EventQuery, FlowEvent, FlowLogger, Hub, Kind, Place, Queue};
use crate::config::{FlowLog, Format};
use crate::control::FlowProtocol;

const SOON: Duration = Duration::from_secs(10);

/// An event of the connection from this port.
pub(crate) fn event(kind: Kind, port: u16) -> FlowEvent {
    let time = "2026-11-26T14:03:07.123Z".parse().unwrap();
    FlowEvent {
        event: kind,
        time,
        rule: "pop3".to_owned(),
        protocol: FlowProtocol::Tcp,
        state: "SYN_SENT".to_owned(),
        client: format!("198.51.100.7:{port}").parse().unwrap(),
        listener: "203.0.113.5:110".parse().unwrap(),
        translated: format!("203.0.113.6:{port}").parse().unwrap(),
        backend: "195.228.245.1:1110".parse().unwrap(),
        start: time,
        closed: (kind == Kind::Closed).then(|| Closed {
            end: "2026-11-26T14:04:08Z".parse().unwrap(),
            cause: Cause::Finished,
            original: Counts {
                packets: 1,
                bytes: 60,
            },
            reply: Counts {
                packets: 2,
                bytes: 2048,
            },
        }),
        created: u32::from(port),
    }
}

fn ports(events: &[FlowEvent]) -> Vec<u16> {
    events.iter().map(|event| event.client.port()).collect()
}

fn new(port: u16) -> FlowEvent {
    event(Kind::New, port)
}

#[test]
fn a_queue_loses_what_does_not_fit_and_says_how_many() {
    let queue = Queue::new(2);
    assert_eq!(queue.put(&[new(1), new(2), new(3)]), 1);
    let taken = queue.take(Duration::ZERO, SOON);
    assert_eq!((ports(&taken.events), taken.lost), (vec![1, 2], 1));
    queue.put(&[new(4)]);
    queue.close();
    assert_eq!(queue.put(&[new(5)]), 1, "nothing comes in any more");
    let taken = queue.take(Duration::ZERO, SOON);
    assert_eq!((ports(&taken.events), taken.closed), (vec![4], true));
    assert!(queue.take(Duration::ZERO, SOON).events.is_empty());
}

#[test]
fn a_queue_settles_when_its_events_are_done_with() {
    let queue = Arc::new(Queue::new(10));
    assert!(queue.settle(Duration::ZERO), "nothing is in it");
    queue.put(&[new(1)]);
    assert!(!queue.settle(Duration::ZERO));
    let worker = {
        let queue = Arc::clone(&queue);
        // Whoever waits for it is in a hurry, so that the time to linger is not used up.
        std::thread::spawn(move || {
            let taken = queue.take(Duration::from_secs(3600), SOON);
            queue.done(taken.events.len());
        })
    };
    assert!(queue.settle(SOON));
    worker.join().unwrap();
}

/// A hub, and what it has asked for last.
fn hub() -> (Arc<Hub>, Arc<AtomicU32>) {
    let wanted = Arc::new(AtomicU32::new(u32::MAX));
    let hub = Hub::new({
        let wanted = Arc::clone(&wanted);
        move |kinds| wanted.store(kinds, SeqCst)
    });
    (Arc::new(hub), wanted)
}

#[test]
fn only_what_somebody_wants_is_asked_for() {
    let (hub, wanted) = hub();
    assert_eq!(hub.wanted(Duration::ZERO), Some(false));
    let mut closed = hub.listen(Kind::Closed.bit()).unwrap();
    assert_eq!(wanted.load(SeqCst), Kind::Closed.bit());
    let mut all = hub.listen(Kind::bits(Kind::ALL)).unwrap();
    assert_eq!(wanted.load(SeqCst), 7);
    assert_eq!(hub.wanted(Duration::ZERO), Some(true));
    hub.publish(&[new(1), event(Kind::Closed, 2)]);
    hub.ring_has_lost(3);
    let heard = all.hear(SOON).unwrap();
    assert_eq!((ports(&heard.events), heard.lost), (vec![1, 2], 3));
    let heard = closed.hear(SOON).unwrap();
    assert_eq!(ports(&heard.events), [2]);
    drop(all);
    assert_eq!(wanted.load(SeqCst), Kind::Closed.bit());
    drop(closed);
    assert_eq!(wanted.load(SeqCst), 0);
    assert_eq!(hub.totals().told, [1, 0, 1]);
}

#[test]
fn there_are_so_many_listeners_and_no_more() {
    let (hub, _) = hub();
    let mut listeners: Vec<_> = (0..8).map(|_| hub.listen(1).unwrap()).collect();
    let refused = hub.listen(1).unwrap_err().to_string();
    assert!(refused.starts_with("8 others listen"), "{refused}");
    listeners.pop();
    hub.listen(1).unwrap();
}

/// The ring goes on filling for whoever writes down, until the next daemon comes.
#[test]
fn what_is_kept_is_told_on_after_the_end() {
    let (hub, wanted) = hub();
    let mut listener = hub.listen(Kind::Established.bit()).unwrap();
    let queue = Arc::new(Queue::new(1));
    let history = hub.join(Place::History, Kind::New.bit(), Arc::clone(&queue));
    hub.publish(&[new(1), new(2)]);
    hub.close();
    assert_eq!(wanted.load(SeqCst), Kind::New.bit());
    assert_eq!(hub.wanted(SOON), None);
    assert!(listener.hear(SOON).is_none());
    drop((listener, history));
    assert_eq!(wanted.load(SeqCst), Kind::New.bit());
    assert_eq!(hub.totals().lost[Place::History as usize], 1);
}

/// A log that is begun anew misses nothing and has nothing twice.
#[test]
fn a_flow_log_takes_the_place_of_the_one_before() {
    let (hub, wanted) = hub();
    let queues = [0; 2].map(|_| Arc::new(Queue::new(10)));
    let join =
        |at: usize, kind: Kind| hub.join(Place::FlowLog, kind.bit(), Arc::clone(&queues[at]));
    let before = join(0, Kind::Closed);
    hub.publish(&[event(Kind::Closed, 1)]);
    let after = join(1, Kind::New);
    hub.publish(&[event(Kind::Closed, 2), new(3)]);
    drop(before);
    assert_eq!(wanted.load(SeqCst), Kind::New.bit());
    let found = queues
        .each_ref()
        .map(|queue| ports(&queue.take(Duration::ZERO, SOON).events));
    assert_eq!(found, [vec![1], vec![3]]);
    drop(after);
    hub.begin();
    assert_eq!(wanted.load(SeqCst), 0);
}

#[rstest]
#[case(EventQuery::default(), true)]
#[case(EventQuery { rule: Some("pop3".to_owned()), ..EventQuery::default() }, true)]
#[case(EventQuery { rule: Some("pop".to_owned()), ..EventQuery::default() }, false)]
#[case(EventQuery { address: Some("203.0.113.6/32".parse().unwrap()), ..EventQuery::default() }, true)]
#[case(EventQuery { address: Some("192.0.2.0/24".parse().unwrap()), ..EventQuery::default() }, false)]
#[case(EventQuery { port: Some(1110), ..EventQuery::default() }, true)]
#[case(EventQuery { port: Some(1111), ..EventQuery::default() }, false)]
#[case(EventQuery { protocol: Some(FlowProtocol::Udp), ..EventQuery::default() }, false)]
#[case(EventQuery { kinds: vec![Kind::Closed], ..EventQuery::default() }, false)]
#[case(EventQuery { kinds: vec![Kind::Closed, Kind::New], ..EventQuery::default() }, true)]
fn a_query_looks_at_both_directions(#[case] query: EventQuery, #[case] taken: bool) {
    assert_eq!(query.takes(&new(40_000)), taken);
}

#[test]
fn json_says_all_of_an_event() {
    let closed = event(Kind::Closed, 7);
    let text = serde_json::to_string(&closed).unwrap();
    let expected = r#"{"event":"closed","time":"2026-11-26T14:03:07.123Z","rule":"pop3","protocol":"tcp","state":"SYN_SENT","client":"198.51.100.7:7","listener":"203.0.113.5:110","translated":"203.0.113.6:7","backend":"195.228.245.1:1110","start":"2026-11-26T14:03:07.123Z","end":"2026-11-26T14:04:08Z","cause":"finished","original":{"packets":1,"bytes":60},"reply":{"packets":2,"bytes":2048}}"#;
    assert_eq!(text, expected);
    let read: FlowEvent = serde_json::from_str(&text).unwrap();
    assert_eq!(
        read,
        FlowEvent {
            created: 0,
            ..closed
        }
    );
    let text = serde_json::to_string(&new(7)).unwrap();
    assert!(
        text.ends_with(r#""start":"2026-11-26T14:03:07.123Z"}"#),
        "{text}"
    );
}

#[test]
fn people_read_one_line() {
    let text = event(Kind::Closed, 7).to_string();
    let (_, text) = text.split_once("  ").unwrap();
    let middle = "closed       tcp  SYN_SENT  rule pop3  original 198.51.100.7:7 -> 203.0.113.5:110  \
        translated 203.0.113.6:7 -> 195.228.245.1:1110  original 1 packet, 60 B  reply 2 packets, 2.0 KiB  start ";
    assert!(text.starts_with(middle), "{text}");
    assert!(text.ends_with(", lasted 1m  finished"), "{text}");
}

#[test]
fn the_journal_gets_fields() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let journal = super::journal::Journal::new().unwrap();
    let closed = event(Kind::Closed, 7);
    journal.send(&path, &closed).unwrap();
    let mut datagram = [0; 4096];
    let size = journald.recv(&mut datagram).unwrap();
    let text = std::str::from_utf8(&datagram[..size]).unwrap();
    let (message, rest) = text.split_once('\n').unwrap();
    assert_eq!(message, format!("MESSAGE={closed}"));
    let expected = "\
        PRIORITY=6\nSYSLOG_IDENTIFIER=forwarder\nFORWARDER_EVENT=closed\nFORWARDER_RULE=pop3\n\
        FORWARDER_PROTOCOL=tcp\nFORWARDER_STATE=SYN_SENT\nFORWARDER_CLIENT=198.51.100.7:7\n\
        FORWARDER_LISTENER=203.0.113.5:110\nFORWARDER_TRANSLATED=203.0.113.6:7\n\
        FORWARDER_BACKEND=195.228.245.1:1110\nFORWARDER_START=2026-11-26T14:03:07.123Z\n\
        FORWARDER_END=2026-11-26T14:04:08Z\nFORWARDER_CAUSE=finished\n\
        FORWARDER_ORIGINAL_PACKETS=1\nFORWARDER_ORIGINAL_BYTES=60\n\
        FORWARDER_REPLY_PACKETS=2\nFORWARDER_REPLY_BYTES=2048\n";
    assert_eq!(rest, expected);
    drop(journald);
    journal.send(&path, &closed).unwrap_err();
}

/// The value of a field that has several lines comes after its length.
#[test]
fn a_line_break_cannot_make_a_field_of_the_journal() {
    let mut event = new(7);
    event.rule = "a\nFORWARDER_CLIENT=x".to_owned();
    let bytes = super::journal::encode(&event);
    let mut expected = b"FORWARDER_RULE\n\x14\0\0\0\0\0\0\0a\nFORWARDER_CLIENT=x\n".to_vec();
    expected.extend_from_slice(b"FORWARDER_PROTOCOL");
    let found = bytes.windows(expected.len()).any(|part| part == expected);
    assert!(found, "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_log_that_is_moved_away_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.log");
    let mut file = LogFile::new(path.clone());
    let mut append = |line: &[u8]| {
        let (lines, result) = file.append(line);
        result.unwrap();
        lines
    };
    assert_eq!(append(b"one\ntwo\n"), 2);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    // As logrotate does it, with and without copytruncate.
    let moved = directory.path().join("flows.log.1");
    fs::rename(&path, &moved).unwrap();
    append(b"three\n");
    assert_eq!(fs::read(&moved).unwrap(), b"one\ntwo\n");
    assert_eq!(fs::read(&path).unwrap(), b"three\n");
    fs::write(&path, b"").unwrap();
    append(b"four\n");
    assert_eq!(fs::read(&path).unwrap(), b"four\n");
    fs::remove_file(&path).unwrap();
    append(b"five\n");
    assert_eq!(fs::read(&path).unwrap(), b"five\n");
}

/// A daemon that met a full disk may have left half a line.
#[test]
fn a_torn_line_is_ended_before_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.log");
    fs::write(&path, b"{\"ev").unwrap();
    let (lines, result) = LogFile::new(path.clone()).append(b"whole\n");
    result.unwrap();
    assert_eq!(lines, 1);
    assert_eq!(fs::read(&path).unwrap(), b"{\"ev\nwhole\n");
}

#[test]
fn what_is_no_file_is_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.log");
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    let (lines, result) = LogFile::new(path).append(b"line\n");
    assert_eq!(lines, 0);
    result.unwrap_err();
    let (lines, result) = LogFile::new("/dev/full".into()).append(b"line\n");
    assert_eq!(lines, 0);
    assert_eq!(result.unwrap_err().to_string(), "it is not a regular file");
}

/// Everything that was told before the end is written, and what is not asked for is not.
#[rstest]
#[case(Format::Json, "{\"event\":\"closed\"", "\"cause\":\"finished\"")]
#[case(Format::Text, "2026-11-2", "  closed       tcp  ")]
fn a_log_is_written_to_its_end(#[case] format: Format, #[case] start: &str, #[case] has: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.log");
    let (hub, wanted) = hub();
    let settings = FlowLog {
        path: Some(path.clone()),
        journald: false,
        format,
        events: vec![Kind::Closed],
    };
    let logger = FlowLogger::start(&hub, &settings).unwrap();
    assert_eq!(wanted.load(SeqCst), Kind::Closed.bit());
    hub.publish(&[new(1), event(Kind::Closed, 2), event(Kind::Closed, 3)]);
    drop(logger);
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        assert!(line.starts_with(start) && line.contains(has), "{line}");
    }
    assert_eq!(wanted.load(SeqCst), 0);
    assert_eq!(hub.totals().written[Place::FlowLog as usize], 2);
}

#[test]
fn a_log_without_a_directory_is_counted() {
    let (hub, _) = hub();
    let settings = FlowLog {
        path: Some("/nonexistent/flows.log".into()),
        journald: false,
        format: Format::Json,
        events: Kind::ALL.to_vec(),
    };
    let logger = FlowLogger::start(&hub, &settings).unwrap();
    hub.publish(&[new(1), new(2)]);
    drop(logger);
    assert_eq!(hub.totals().lost[Place::FlowLog as usize], 2);
}
