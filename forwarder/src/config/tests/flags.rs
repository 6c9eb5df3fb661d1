//! `forwarder run --interface … --listen … --to …`.

use super::super::model::{BackendPort, Mode, Source};
use super::super::model_rules::Target;
use super::super::{ConfigErrors, Flags, from_flags};
use super::one_liners;

fn flags() -> Flags {
    Flags {
        interface: "eth0".to_owned(),
        listen: "110".to_owned(),
        to: vec!["195.228.245.1:110".to_owned()],
        source: Some("masquerade".to_owned()),
        ..Flags::default()
    }
}

fn refusal(flags: &Flags) -> ConfigErrors {
    from_flags(flags).expect_err("a refusal")
}

#[test]
fn good_flags_are_a_configuration() {
    let config = from_flags(&Flags {
        mode: Some("tc".to_owned()),
        protocol: vec!["tcp".to_owned(), "udp".to_owned()],
        allow: vec!["10.0.0.0/8".to_owned(), "192.0.2.7".to_owned()],
        control_socket: Some("/tmp/f.sock".to_owned()),
        ..flags()
    })
    .unwrap();
    assert_eq!(
        (
            config.interfaces[0].name.as_str(),
            config.interfaces[0].mode
        ),
        ("eth0", Mode::Tc)
    );
    let rule = &config.rules[0];
    assert_eq!(
        (rule.name.as_str(), rule.tcp, rule.udp),
        ("forward-1", true, true)
    );
    assert_eq!(
        (rule.backends()[0].port, rule.source),
        (BackendPort::Single(110), Source::Masquerade)
    );
    assert_eq!(
        rule.allow
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.0.0.0/8", "192.0.2.7/32"]
    );
    assert_eq!(config.control.socket.to_str(), Some("/tmp/f.sock"));
}

#[test]
fn a_bad_value_names_its_flag_and_shows_the_line() {
    let shown = refusal(&Flags {
        listen: "*:0".to_owned(),
        ..flags()
    })
    .to_string();
    let expected = "--listen: error: bad port `0`: expected a number from 1 to 65535\n      \
                    | --interface eth0 --listen *:0 --to 195.228.245.1:110 --source masquerade\n      \
                    |                             ^\n1 error on the command line; nothing was changed";
    assert_eq!(shown, expected);
}

#[test]
fn every_bad_flag_is_named() {
    let errors = refusal(&Flags {
        interface: String::new(),
        mode: Some("xpd".to_owned()),
        listen: "110-109".to_owned(),
        to: vec!["192.0.2.1".to_owned(), "local:25".to_owned()],
        source: Some("snat".to_owned()),
        protocol: vec!["icmp".to_owned()],
        allow: vec!["x".to_owned()],
        deny: vec!["10.0.0.1/8".to_owned()],
        control_socket: Some("here".to_owned()),
    });
    let lines = one_liners(&errors);
    let flags: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split(": error").next())
        .collect();
    let expected = [
        "--interface",
        "--mode",
        "--protocol",
        "--listen",
        "--to",
        "--source",
        "--allow",
        "--deny",
        "--control-socket",
    ];
    assert_eq!(flags, expected);
    assert!(errors.is_usage());
}

#[test]
fn a_local_port_and_both_families() {
    let local = from_flags(&Flags {
        listen: "986".to_owned(),
        to: vec!["local:25".to_owned()],
        source: None,
        ..flags()
    })
    .unwrap();
    let rule = &local.rules[0];
    assert_eq!(rule.target, Target::Local(BackendPort::Single(25)));
    assert!(rule.serves_v4() && rule.serves_v6());

    let v6 = from_flags(&Flags {
        listen: "[2001:db8::5]:110".to_owned(),
        to: vec!["[2001:db8::1]:110".to_owned()],
        ..flags()
    })
    .unwrap();
    assert!(v6.rules[0].serves_v6() && !v6.rules[0].serves_v4());
}
