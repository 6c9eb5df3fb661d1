//! Records that come and go, and databases that cannot be used.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rstest::rstest;
use tempfile::TempDir;

use super::keeper::Retention;
use super::{Found, HistoryError, Keeper, Reader, Record, Store, WhoQuery};
use crate::config;
use crate::control::FlowProtocol;
use crate::events::tests::event;
use crate::events::{FlowEvent, Hub, Kind, Place};

const TODAY: i64 = 20_783;
const BOOT: u32 = 7;

fn open() -> (TempDir, PathBuf, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.redb");
    let store = Store::open(&path).unwrap();
    (directory, path, store)
}

fn query(translated: SocketAddr) -> WhoQuery {
    WhoQuery {
        translated,
        protocol: None,
        at: None,
    }
}

fn at(translated: SocketAddr, time: &str) -> WhoQuery {
    let moment = crate::events::time::parse_here(time).unwrap();
    WhoQuery {
        at: Some(moment),
        ..query(translated)
    }
}

fn clients(found: &Found) -> Vec<String> {
    let records = found.records.iter();
    records.map(|record| record.client.to_string()).collect()
}

/// A flow of `client`, which was made and is gone at these times.
fn flow(client: &str, (start, end): (&str, &str)) -> [FlowEvent; 2] {
    let [mut new, mut closed] = [Kind::New, Kind::Closed].map(|kind| event(kind, 5000));
    for event in [&mut new, &mut closed] {
        event.client = client.parse().unwrap();
        event.start = start.parse().unwrap();
        event.created = event.start.as_second() as u32;
    }
    if let Some(closed) = &mut closed.closed {
        closed.end = end.parse().unwrap();
    }
    [new, closed]
}

const FIRST: (&str, &str) = ("2026-11-26T10:00:00Z", "2026-11-26T10:05:00Z");
const SECOND: (&str, &str) = ("2026-11-26T11:00:00Z", "2026-11-26T11:05:00Z");

#[test]
fn one_port_is_several_clients_over_time() {
    let (_directory, _, store) = open();
    let translated = event(Kind::New, 5000).translated;
    // The later one first, and neighbours in the order of keys on either side.
    let mut events = flow("198.51.100.9:1", SECOND).to_vec();
    events.extend(flow("198.51.100.7:2", FIRST));
    events.extend([event(Kind::New, 4999), event(Kind::New, 5001)]);
    store.write(&events, BOOT, TODAY).unwrap();
    let ask = |query| clients(&store.find(&query).unwrap());
    assert_eq!(ask(query(translated)), ["198.51.100.7:2", "198.51.100.9:1"]);
    assert_eq!(ask(at(translated, "2026-11-26 10:02Z")), ["198.51.100.7:2"]);
    assert_eq!(
        ask(at(translated, "2026-11-26T12:05:00+01:00")),
        ["198.51.100.9:1"]
    );
    // When it began is known to a second.
    assert_eq!(
        ask(at(translated, "2026-11-26T10:59:59.500Z")),
        ["198.51.100.9:1"]
    );
    assert_eq!(
        ask(at(translated, "2026-11-26T10:30:00Z")),
        Vec::<String>::new()
    );
    let udp = WhoQuery {
        protocol: Some(FlowProtocol::Udp),
        ..query(translated)
    };
    assert_eq!(ask(udp), Vec::<String>::new());
}

#[test]
fn a_record_has_all_that_is_known() {
    let (_directory, _, store) = open();
    let [new, closed] = flow("[2001:db8::7]:2", FIRST);
    let v6 = |event: &FlowEvent| FlowEvent {
        listener: "[2001:db8:1::5]:110".parse().unwrap(),
        translated: "[2001:db8:1::6]:5000".parse().unwrap(),
        backend: "[2001:db8:2::1]:1110".parse().unwrap(),
        protocol: FlowProtocol::Udp,
        ..event.clone()
    };
    let (new, closed) = (v6(&new), v6(&closed));
    store.write(from_ref(&new), BOOT, TODAY).unwrap();
    let found = store.find(&query(new.translated)).unwrap();
    assert_eq!(found.records, [Record::of(&new, false)]);
    // The beginning stays as it was told when it was.
    let late = FlowEvent {
        start: "2026-11-26T10:00:00.900Z".parse().unwrap(),
        ..closed.clone()
    };
    store.write(&[late], BOOT, TODAY).unwrap();
    let found = store.find(&query(new.translated)).unwrap();
    assert_eq!(found.records, [Record::of(&closed, false)]);
    // What comes late does not undo what is known.
    store.write(from_ref(&new), BOOT, TODAY).unwrap();
    assert_eq!(store.find(&query(new.translated)).unwrap(), found);
}

#[test]
fn a_flow_over_midnight_is_one() {
    let (_directory, _, store) = open();
    let [new, closed] = flow("198.51.100.7:2", FIRST);
    store.write(from_ref(&new), BOOT, TODAY).unwrap();
    store.write(from_ref(&closed), BOOT, TODAY + 1).unwrap();
    let found = store.find(&query(new.translated)).unwrap();
    assert_eq!(found.records, [Record::of(&closed, false)]);
    // Another start of the host has another clock, so this is another flow.
    store.write(from_ref(&new), BOOT + 1, TODAY).unwrap();
    assert_eq!(store.find(&query(new.translated)).unwrap().records.len(), 2);
    assert_eq!(store.prune(TODAY + 1).unwrap(), 1);
    assert_eq!(store.prune(TODAY + 1).unwrap(), 0);
    let found = store.find(&query(new.translated)).unwrap();
    assert_eq!(found.records, [Record::of(&closed, false)]);
}

#[test]
fn the_file_is_the_owners_and_survives() {
    let (_directory, path, store) = open();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let [new, closed] = flow("198.51.100.7:2", FIRST);
    store.write(&[new.clone(), closed], BOOT, TODAY).unwrap();
    assert!(matches!(Store::open(&path), Err(HistoryError::InUse(_))));
    drop(store);
    let found = Reader::open(&path).unwrap().find(&query(new.translated));
    assert_eq!(clients(&found.unwrap()), ["198.51.100.7:2"]);
    let store = Store::open(&path).unwrap();
    let found = store.find(&query(new.translated)).unwrap();
    assert_eq!(clients(&found), ["198.51.100.7:2"]);
}

#[test]
fn what_is_no_history_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.redb");
    fs::write(&path, [b'x'; 8192]).unwrap();
    let refused = Store::open(&path).unwrap_err();
    assert!(matches!(refused, HistoryError::Foreign { .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), [b'x'; 8192]);
    let refused = Store::open(&directory.path().join("none/history")).unwrap_err();
    assert!(matches!(refused, HistoryError::Open { .. }), "{refused}");
}

/// What has just been told is known, and what cannot be written is counted.
#[test]
fn a_keeper_writes_what_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let hub = Arc::new(Hub::new(|_| {}));
    let settings = |name: &str| config::History {
        path: directory.path().join(name),
        keep: config::History::KEEP,
    };
    let keeper = Keeper::start(&hub, &settings("history.redb")).unwrap();
    let [new, closed] = flow("198.51.100.7:2", FIRST);
    hub.publish(&[new.clone(), event(Kind::Established, 3)]);
    let ask = || keeper.find(&query(new.translated)).unwrap().unwrap();
    assert_eq!(ask().records, [Record::of(&new, false)]);
    hub.publish(from_ref(&closed));
    assert_eq!(ask().records, [Record::of(&closed, false)]);
    assert_eq!(hub.totals().written[Place::History as usize], 2);
    drop(keeper);

    let keeper = Keeper::start(&hub, &settings("none/history.redb")).unwrap();
    hub.publish(from_ref(&new));
    assert_eq!(keeper.find(&query(new.translated)).unwrap(), None);
    assert_eq!(hub.totals().lost[Place::History as usize], 1);
}

#[test]
fn retention_comes_every_hour() {
    let (begin, wall) = begin();
    let mut retention = Retention::new(Duration::from_secs(30 * 86_400 - 1));
    let mut due = |seconds: u64| {
        let later = Duration::from_secs(seconds);
        retention.due(begin + later, wall + later)
    };
    let found = [0, 3500, 3700, 3800, 7200, 7400].map(&mut due);
    let first = Some(TODAY - 30);
    assert_eq!(found, [None, None, first, None, None, first]);
}

/// Forward by mistake, and back: nothing is removed until it has gone right for an hour.
#[rstest]
#[case::years_ahead(10 * 365 * 86_400)]
#[case::a_minute(60)]
fn a_clock_that_is_set_empties_nothing(#[case] step: u64) {
    let (begin, wall) = begin();
    let mut retention = Retention::new(Duration::from_secs(86_400));
    let later = |seconds: u64| Duration::from_secs(seconds);
    retention.due(begin, wall);
    assert_eq!(
        retention.due(begin + later(4000), wall + later(4000 + step)),
        None
    );
    let wrong = wall + later(step);
    assert_eq!(
        retention.due(begin + later(7000), wrong + later(7000)),
        None
    );
    // Set right again: another hour.
    assert_eq!(retention.due(begin + later(7600), wall + later(7600)), None);
    assert_eq!(
        retention.due(begin + later(11_000), wall + later(11_000)),
        None
    );
    let due = retention.due(begin + later(11_300), wall + later(11_300));
    assert_eq!(due, Some(TODAY - 1));
}

fn begin() -> (Instant, SystemTime) {
    let day = Duration::from_secs(TODAY as u64 * 86_400);
    (Instant::now(), UNIX_EPOCH + day)
}
