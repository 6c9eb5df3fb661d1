//! The view of fixed reports on a terminal that is a buffer, and what keys do to it.

use std::time::{Duration, Instant};

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use rstest::rstest;

use super::{App, Next, Pane, Sample, draw, lines};
use crate::report::{
    Direction, DropReport, Fill, FlowReport, LastPacket, RuleReport, Status, Traffic, Verdict,
};

fn rule(name: &str, packets: u64, flows: u64) -> RuleReport {
    let traffic = Traffic {
        packets,
        bytes: packets * 125,
    };
    RuleReport {
        name: name.to_owned(),
        original: traffic,
        reply: traffic,
        flows_active: flows,
        flows_opened: flows,
        ..RuleReport::default()
    }
}

fn flow(client: &str, packets: u64, idle_seconds: u64) -> FlowReport {
    let direction = |source: &str| Direction {
        source: source.to_owned(),
        destination: "203.0.113.5:110".to_owned(),
        packets,
        bytes: packets * 125,
        interface: "eth0".to_owned(),
    };
    FlowReport {
        rule: "pop3".to_owned(),
        protocol: "tcp".to_owned(),
        state: "ESTABLISHED".to_owned(),
        original: direction(client),
        reply: direction("195.228.245.1:110"),
        age_seconds: 100 - idle_seconds,
        idle_seconds,
        ..FlowReport::default()
    }
}

fn dropped(reason: &str, packets: u64) -> DropReport {
    DropReport {
        reason: reason.to_owned(),
        verdict: Verdict::Drop,
        packets,
        last: Some(LastPacket {
            protocol: "udp".to_owned(),
            source: "198.51.100.9:5".to_owned(),
            destination: "203.0.113.5:9".to_owned(),
            interface: "eth0".to_owned(),
            seconds_ago: 3,
        }),
        explanation: "Why.".to_owned(),
        ..DropReport::default()
    }
}

/// `seconds` after the start: pop3 carries 20 packets a second, imap 200, one flow 2 and the other 20.
fn sample(start: Instant, seconds: u64) -> Sample {
    Sample {
        at: start + Duration::from_secs(seconds),
        status: Status {
            version: "0.1.0".to_owned(),
            uptime_seconds: 61,
            flows: Fill {
                used: 1_234,
                limit: 524_288,
            },
            ..Status::default()
        },
        rules: vec![
            rule("pop3", 1_000 + 10 * seconds, 5 + seconds),
            rule("imap", 7 + 100 * seconds, 900),
        ],
        flows: vec![
            flow("198.51.100.7:40000", 50 + seconds, 9),
            flow("198.51.100.8:40000", 10 * seconds, 0),
        ],
        drops: vec![
            dropped("client-refused", 3 * seconds + 1),
            dropped("never", 0),
            dropped("ports-exhausted", 9_000),
        ],
    }
}

fn app() -> App {
    let start = Instant::now();
    let mut app = App::default();
    for seconds in [0, 1, 3] {
        app.take(Ok(sample(start, seconds)));
    }
    app
}

fn shown(app: &App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    lines(terminal.backend().buffer())
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        let next = app.press(KeyEvent::from(KeyCode::Char(key)));
        assert_eq!(next, Next::Stay, "{key}");
    }
}

#[test]
fn everything_is_on_the_screen() {
    let text = shown(&app(), 130, 24);
    assert_eq!(
        text[0],
        "forwarder 0.1.0, up 1m 1s   220/s   220 kb/s   flows 1,234 of 524,288   half-open 0 of 0"
    );
    let rest = text[4..].join("\n");
    assert!(rest.starts_with(" 2 rules by packets ─"), "{rest}");
    let row = |start: &str| {
        let line = text.iter().find(|line| line.starts_with(start));
        let words = line
            .unwrap_or_else(|| panic!("no {start} in\n{rest}"))
            .split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    };
    // The bars say that both seconds were alike.
    assert_eq!(row("imap"), "imap 900 0/s 200/s 200 kb/s ██");
    assert_eq!(row("pop3"), "pop3 8 1.0/s 20/s 20 kb/s ██");
    assert_eq!(
        row("client-refused"),
        "client-refused drop 3.0/s 10 udp 198.51.100.9:5 -> 203.0.113.5:9 on eth0, 3s ago"
    );
    assert!(!rest.contains("never"), "{rest}");
    let flows: Vec<&String> = text.iter().filter(|line| line.starts_with("tcp")).collect();
    let first: Vec<&str> = flows[0].split_whitespace().collect();
    assert_eq!(
        first.join(" "),
        "tcp ESTABLISHED pop3 198.51.100.8:40000 195.228.245.1:110 20/s 20 kb/s 7.3 KiB 0s"
    );
    assert!(flows[1].contains("198.51.100.7:40000"), "{rest}");
    assert!(text[23].starts_with("? help"), "{}", text[23]);
}

#[rstest]
#[case::usual(80, 24)]
#[case::small(40, 10)]
#[case::tiny(5, 2)]
#[case::nothing(1, 1)]
#[case::wide(300, 100)]
fn any_size_will_do(#[case] width: u16, #[case] height: u16) {
    let mut app = app();
    for help in [false, true] {
        app.help = help;
        assert_eq!(shown(&app, width, height).len(), usize::from(height));
    }
}

#[test]
fn a_small_terminal_shows_the_table_that_keys_are_for() {
    let mut app = app();
    for (pane, title) in Pane::ALL.into_iter().zip(["rules", "flows", "drops"]) {
        assert_eq!(app.focus, pane);
        let text = shown(&app, 80, 12).join("\n");
        for other in ["rules", "flows", "drops"] {
            assert_eq!(
                text.contains(&format!(" {other} by ")),
                other == title,
                "{text}"
            );
        }
        app.press(KeyEvent::from(KeyCode::Tab));
    }
    assert_eq!(app.focus, Pane::Rules);
}

#[test]
fn keys_sort_and_reverse() {
    let mut app = app();
    let names = |app: &App| {
        app.rules()
            .iter()
            .map(|rule| rule.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&app), ["imap", "pop3"]);
    // Bits, then new flows, of which only pop3 has some.
    press(&mut app, "ss");
    assert_eq!(names(&app), ["pop3", "imap"]);
    press(&mut app, "r");
    assert_eq!(names(&app), ["imap", "pop3"]);
    assert!(
        shown(&app, 80, 24)
            .join("\n")
            .contains(" 2 rules by new flows, reversed ")
    );
    // The others are as they were.
    press(&mut app, "2sssss");
    let clients: Vec<_> = app.flows().iter().map(|flow| flow.client.clone()).collect();
    assert_eq!(clients, ["198.51.100.7:40000", "198.51.100.8:40000"]);
    assert_eq!(app.order, [2, 5, 0]);
    press(&mut app, "s");
    assert_eq!(app.order, [2, 0, 0]);
}

#[test]
fn a_filter_is_typed() {
    let mut app = app();
    press(&mut app, "/IMq");
    assert!(shown(&app, 80, 24)[23].starts_with("only rows with: IMq_"));
    app.press(KeyEvent::from(KeyCode::Backspace));
    app.press(KeyEvent::from(KeyCode::Enter));
    assert_eq!(app.rules().len(), 1);
    assert_eq!(app.flows().len(), 0);
    // Keys are commands again.
    assert_eq!(app.press(KeyEvent::from(KeyCode::Char('s'))), Next::Stay);
    assert_eq!(app.filter, "IM");
    app.press(KeyEvent::from(KeyCode::Esc));
    assert_eq!(
        (app.rules().len(), app.flows().len(), app.drops().len()),
        (2, 2, 2)
    );
}

#[test]
fn a_pause_lets_samples_pass() {
    let mut app = app();
    let start = Instant::now();
    press(&mut app, "p");
    app.take(Ok(sample(start, 1000)));
    assert!(shown(&app, 130, 24)[0].ends_with("   paused"));
    assert_eq!(app.rules()[0].packets, 200.0);
    press(&mut app, "p");
    app.take(Ok(sample(start, 2000)));
    assert!(!shown(&app, 130, 24)[0].contains("paused"));
}

#[test]
fn a_daemon_that_is_gone_is_said_until_it_is_back() {
    let mut app = app();
    app.take(Err("no forwarder is running".to_owned()));
    let text = shown(&app, 80, 24);
    assert_eq!(text[23], "no forwarder is running");
    assert!(text.join("\n").contains("imap"), "what was known is gone");
    app.take(Ok(sample(Instant::now() + Duration::from_secs(60), 60)));
    assert!(shown(&app, 80, 24)[23].starts_with("? help"));
}

#[test]
fn keys_help_scroll_and_quit() {
    let mut app = app();
    press(&mut app, "?");
    let text = shown(&app, 80, 24).join("\n");
    assert!(
        text.contains("keys; any key closes this") && text.contains("quit"),
        "{text}"
    );
    // It closes the help and does nothing else.
    press(&mut app, "q");
    assert!(!app.help);
    press(&mut app, "jjjk");
    assert_eq!(app.scroll, [2, 0, 0]);
    assert_eq!(app.press(KeyEvent::from(KeyCode::Char('q'))), Next::Quit);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    app.typing = true;
    assert_eq!(app.press(control), Next::Quit);
}

#[test]
fn scrolling_ends_with_the_last_row() {
    let mut app = app();
    press(&mut app, &"j".repeat(50));
    // Room for one row.
    let text = shown(&app, 80, 5).join("\n");
    assert!(text.contains("pop3") && !text.contains("imap"), "{text}");
}

#[test]
fn the_first_look_has_no_rates() {
    let mut app = App::default();
    app.take(Ok(sample(Instant::now(), 5)));
    assert!(
        app.rules()
            .iter()
            .all(|rule| rule.packets == 0.0 && rule.history.is_empty())
    );
    assert!(app.drops().iter().all(|one| one.rate == 0.0));
}

#[test]
fn counters_that_begin_anew_are_no_flood() {
    let start = Instant::now();
    let mut app = App::default();
    app.take(Ok(sample(start, 100)));
    let mut again = sample(start, 1);
    again.at = start + Duration::from_secs(101);
    app.take(Ok(again));
    assert!(app.rules().iter().all(|rule| rule.packets == 0.0));
}

#[test]
fn names_do_not_move_the_cursor() {
    let mut bad = sample(Instant::now(), 0);
    bad.rules[0].name = "a\u{1b}[2Jb".to_owned();
    let mut app = App::default();
    app.take(Ok(bad));
    assert!(shown(&app, 80, 24).join("\n").contains("a[2Jb"));
}

#[test]
fn once_is_the_same_as_text() {
    let text = super::text(&app(), 132).unwrap();
    for word in ["imap", "pop3", "client-refused", "198.51.100.8:40000"] {
        assert!(text.contains(word), "{text}");
    }
    assert!(!text.contains("? help") && !text.contains("\n\n"), "{text}");
}

/// Not a test of its own: [`a_panic_leaves_the_terminal_as_it_was`] runs it on a terminal.
#[test]
#[ignore = "needs a terminal, and fails"]
fn panics_on_a_screen() {
    let mut screen = super::screen::Screen::open().unwrap();
    screen.draw(&app()).unwrap();
    panic!("on purpose");
}

#[test]
fn a_panic_leaves_the_terminal_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let after = directory.path().join("after");
    let script = format!(
        "stty -g > {0}.before; {1} --exact top::tests::panics_on_a_screen --ignored --nocapture > /dev/tty 2> {0}.said; \
         stty -g > {0}.writing; mv {0}.writing {0}",
        after.display(),
        std::env::current_exe().unwrap().display()
    );
    // A terminal of its own: script(1) gives one and ends with what it ran.
    let status = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &script])
        .arg(directory.path().join("typescript"))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let read = |suffix: &str| {
        let mut path = after.clone().into_os_string();
        path.push(suffix);
        std::fs::read_to_string(&path).unwrap()
    };
    assert!(read(".said").contains("on purpose"), "{}", read(".said"));
    assert_eq!(read(""), read(".before"), "the terminal's settings");
    let typescript = std::fs::read(directory.path().join("typescript")).unwrap();
    let typescript = String::from_utf8_lossy(&typescript);
    let (entered, left) = (
        typescript.rfind("\u{1b}[?1049h"),
        typescript.rfind("\u{1b}[?1049l"),
    );
    assert!(entered.is_some() && left > entered, "{typescript:?}");
}
