//! Good files mean what they say.

use std::time::Duration;

use rstest::rstest;

use super::super::model::{BackendPort, Mode, PortRange, Source};
use super::super::model_rules::{MssClamp, OnChange};
use super::super::model_settings::{FlowLog, Format, History, Level, Limits, Log, Timeouts};
use super::{good, with_rule, with_table, with_tables};
use crate::events::Kind;

#[test]
fn everything_left_out_has_its_default() {
    let config = good(&with_rule("listen = 110\nto = \"192.0.2.1\""));
    let (interface, rule) = (&config.interfaces[0], &config.rules[0]);
    assert_eq!(
        (interface.name.as_str(), interface.mode, interface.optional),
        ("eth0", Mode::Auto, false)
    );
    assert_eq!(
        (rule.name.as_str(), rule.tcp, rule.udp),
        ("forward-1", true, false)
    );
    assert_eq!(
        (rule.interface.as_deref(), rule.source),
        (None, Source::Preserve)
    );
    assert!(rule.allow.is_empty() && rule.deny.is_empty());
    assert_eq!((rule.mss_clamp, rule.reset_unknown), (None, false));
    assert!(rule.serves_v4() && !rule.serves_v6());
    assert!(config.masquerades.is_empty() && config.outputs.is_empty());
    assert_eq!(
        config.limits,
        Limits {
            flows: 262_144,
            half_open: 65_536,
            rules: 65_536,
            ports: None
        }
    );
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(
        config.timeouts.tcp_established,
        Duration::from_secs(432_000)
    );
    assert_eq!(config.control.socket.to_str(), Some("/run/forwarder.sock"));
    assert_eq!(config.metrics, None);
    assert_eq!((config.flow_log, config.history), (None, None));
    assert_eq!(
        config.log,
        Log {
            level: Level::Info,
            format: Format::Text
        }
    );
}

#[rstest]
#[case::integer("110", "*:110")]
#[case::hex("0x6e", "*:110")]
#[case::string("\"110\"", "*:110")]
#[case::literal("'110'", "*:110")]
#[case::star("\"*:110\"", "*:110")]
#[case::address("\"203.0.113.5:110\"", "203.0.113.5:110")]
#[case::port_range("\"1000-1009\"", "*:1000-1009")]
#[case::star_range("\"*:1-65535\"", "*:1-65535")]
#[case::address_range("\"203.0.113.5:7-8\"", "203.0.113.5:7-8")]
#[case::range_of_one("\"110-110\"", "*:110")]
#[case::escaped("\"\\u0031\"", "*:1")]
fn listeners(#[case] value: &str, #[case] expected: &str) {
    let config = good(&with_rule(&format!("listen = {value}\nto = \"192.0.2.1\"")));
    assert_eq!(config.rules[0].listen.to_string(), expected);
}

#[rstest]
#[case::same("110", "192.0.2.1", BackendPort::Same, 110, "192.0.2.1")]
#[case::single("110", "192.0.2.1:25", BackendPort::Single(25), 25, "192.0.2.1:25")]
#[case::many_to_one("108-110", "192.0.2.1:25", BackendPort::Single(25), 25, "192.0.2.1:25")]
#[case::range("108-110", "192.0.2.1:7-9", BackendPort::First(7), 9, "192.0.2.1:7-9")]
#[case::to_the_end(
    "108-110",
    "192.0.2.1:65533-65535",
    BackendPort::First(65533),
    65535,
    "192.0.2.1:65533-65535"
)]
fn targets(
    #[case] listen: &str,
    #[case] to: &str,
    #[case] port: BackendPort,
    #[case] port_of_110: u16,
    #[case] shown: &str,
) {
    let config = good(&with_rule(&format!("listen = \"{listen}\"\nto = \"{to}\"")));
    let (ports, backend) = (config.rules[0].listen.ports, &config.rules[0].backends()[0]);
    assert_eq!(
        (backend.port, backend.port_for(ports, 110)),
        (port, port_of_110)
    );
    assert_eq!(backend.display(ports), shown);
}

#[rstest]
#[case::preserve("preserve", "preserve")]
#[case::masquerade("masquerade", "masquerade")]
#[case::address("192.0.2.9", "192.0.2.9")]
#[case::pool("192.0.2.1-192.0.2.9", "192.0.2.1-192.0.2.9")]
#[case::pool_of_one("192.0.2.1-192.0.2.1", "192.0.2.1")]
fn sources(#[case] value: &str, #[case] expected: &str) {
    let config = good(&with_rule(&format!(
        "listen = 1\nto = \"192.0.2.1\"\nsource = \"{value}\""
    )));
    assert_eq!(config.rules[0].source.to_string(), expected);
}

#[rstest]
#[case::auto("\"auto\"", MssClamp::Auto, "auto")]
#[case::least("88", MssClamp::Bytes(88), "88")]
#[case::most("65_495", MssClamp::Bytes(65_495), "65495")]
fn segment_sizes(#[case] value: &str, #[case] clamp: MssClamp, #[case] shown: &str) {
    let config = good(&with_rule(&format!(
        "listen = 1\nto = \"192.0.2.1\"\nmss-clamp = {value}\nreset-unknown = true"
    )));
    let rule = &config.rules[0];
    assert_eq!((rule.mss_clamp, rule.reset_unknown), (Some(clamp), true));
    assert_eq!(clamp.to_string(), shown);
}

#[rstest]
#[case::keep("on-change = \"keep\"", Some(OnChange::Keep))]
#[case::drain("on-change = \"drain\"", Some(OnChange::Drain))]
#[case::kill("on-change = \"kill\"", Some(OnChange::Kill))]
#[case::as_usual("", None)]
fn what_a_change_does(#[case] line: &str, #[case] expected: Option<OnChange>) {
    for rule in [
        "[[forward]]\nlisten = 1\nto = \"192.0.2.1\"",
        "[[masquerade]]\nfrom = [\"10.0.0.0/8\"]",
        "[[output]]\nto-address = \"192.0.2.1:25\"\nto = \"192.0.2.1:986\"",
    ] {
        let config = good(&with_table("", &format!("{rule}\n{line}")));
        let forwards = config.rules.iter().map(|rule| rule.on_change);
        let masquerades = config.masquerades.iter().map(|rule| rule.on_change);
        let outputs = config.outputs.iter().map(|rule| rule.on_change);
        let all: Vec<_> = forwards.chain(masquerades).chain(outputs).collect();
        assert_eq!(all, [expected], "{rule}");
    }
}

#[test]
fn lists() {
    let config = good(&with_rule(
        "listen = 1\nto = [\"192.0.2.1\", \"192.0.2.2:5\"]\nprotocol = [\"udp\"]\ninterface = \"eth0\"\n\
         allow = [\"0.0.0.0/0\"]\ndeny = []",
    ));
    let rule = &config.rules[0];
    assert_eq!(
        (rule.backends().len(), rule.tcp, rule.udp),
        (2, false, true)
    );
    assert_eq!(
        (rule.allow[0].to_string().as_str(), rule.deny.len()),
        ("0.0.0.0/0", 0)
    );
    assert_eq!(rule.interface.as_deref(), Some("eth0"));
}

#[test]
fn settings() {
    let config = good(&with_tables(
        "[limits]\nflows = 1_000\nhalf-open = 10\nrules = 5\nsource-ports = \"1024-32767\"\n\
         [timeouts]\nudp = \"1m 30s\"\ntcp-half-open = \"40d\"\n[control]\nsocket = \"/run/x\"\n\
         [metrics]\nlisten = \"[::1]:9469\"\n\
         [log]\nlevel = \"debug\"\nformat = \"json\"",
    ));
    let ports = PortRange::new(1024, 32767);
    assert_eq!(
        config.limits,
        Limits {
            flows: 1000,
            half_open: 10,
            rules: 5,
            ports
        }
    );
    assert_eq!(config.timeouts.udp, Duration::from_secs(90));
    assert_eq!(
        config.timeouts.tcp_half_open,
        Duration::from_secs(40 * 24 * 3600)
    );
    assert_eq!(config.control.socket.to_str(), Some("/run/x"));
    let listen = config.metrics.map(|metrics| metrics.listen.to_string());
    assert_eq!(listen.as_deref(), Some("[::1]:9469"));
    assert_eq!(
        config.log,
        Log {
            level: Level::Debug,
            format: Format::Json
        }
    );
}

#[test]
fn what_is_written_of_flows() {
    let config = good(&with_tables(
        "[flow-log]\npath = \"/var/log/flows\"\nformat = \"text\"\nevents = [\"established\", \"new\"]\n\
         [history]\npath = \"/var/lib/history\"\nkeep = \"90d\"",
    ));
    let expected = FlowLog {
        path: Some("/var/log/flows".into()),
        journald: false,
        format: Format::Text,
        events: vec![Kind::Established, Kind::New],
    };
    assert_eq!(config.flow_log, Some(expected));
    let expected = History {
        path: "/var/lib/history".into(),
        keep: Duration::from_secs(90 * 24 * 3600),
    };
    assert_eq!(config.history, Some(expected));

    let config = good(&with_tables(
        "[flow-log]\njournald = true\n[history]\npath = \"/x\"",
    ));
    let expected = FlowLog {
        path: None,
        journald: true,
        format: Format::Json,
        events: vec![Kind::New, Kind::Closed],
    };
    assert_eq!(config.flow_log, Some(expected));
    assert_eq!(
        config.history.map(|history| history.keep),
        Some(History::KEEP)
    );
}

#[test]
fn a_rule_that_moved_is_the_same_rule() {
    let before = good(&with_rule("listen = 110\nto = \"192.0.2.1\""));
    let after = good(&with_rule(
        "\n# a comment\nto = '192.0.2.1'\nlisten = \"*:110\"",
    ));
    assert_eq!(before.rules, after.rules);
}

#[rstest]
#[case::inline(
    "interface = [{ name = \"eth0\" }]\nforward = [{ listen = 110, to = \"192.0.2.1\" }]"
)]
#[case::windows(
    "\u{feff}[[interface]]\r\nname = \"eth0\"\r\n[[forward]]\r\nlisten = 110\r\nto = \"192.0.2.1\"\r\n"
)]
fn ways_to_write(#[case] text: &str) {
    assert_eq!(good(text).rules.len(), 1);
}
