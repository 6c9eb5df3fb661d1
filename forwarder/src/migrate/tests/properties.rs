//! Whatever the rules: no panic, nothing left out in silence, and what comes of them is a configuration.

use proptest::prelude::*;

use super::super::{Hints, ImportError, import_iptables};

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (1u8..4, 1u8..4).prop_map(|(net, host)| format!("10.0.{net}.{host}")),
        2 => (1u8..4).prop_map(|host| format!("203.0.113.{host}")),
        1 => Just("127.0.0.1".to_owned()),
        1 => Just("224.0.0.1".to_owned()),
    ]
}

fn prefix() -> impl Strategy<Value = String> {
    (
        address(),
        prop_oneof![Just(32u8), Just(24), Just(30), Just(8), Just(0)],
    )
        .prop_map(|(address, length)| format!("{address}/{length}"))
}

fn ports() -> impl Strategy<Value = String> {
    prop_oneof![
        (20u16..30).prop_map(|port| port.to_string()),
        (20u16..30, 0u16..5).prop_map(|(first, more)| format!("{first}:{}", first + more)),
        Just("0:65535".to_owned()),
    ]
}

fn device() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("eth0"),
        Just("eth1"),
        Just("docker0"),
        Just("eth+"),
        Just("lo"),
        Just("ppp0"),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let not = || prop_oneof![3 => Just(""), 1 => Just("! ")];
    prop_oneof![
        4 => (not(), prefix()).prop_map(|(not, it)| format!("{not}-d {it}")),
        3 => (not(), prefix()).prop_map(|(not, it)| format!("{not}-s {it}")),
        3 => (not(), device()).prop_map(|(not, it)| format!("{not}-i {it}")),
        3 => (not(), device()).prop_map(|(not, it)| format!("{not}-o {it}")),
        6 => (not(), ports()).prop_map(|(not, it)| format!("-p tcp {not}--dport {it}")),
        2 => (ports(), ports()).prop_map(|(a, b)| format!("-p udp -m multiport --dports {a},{b}")),
        1 => Just("-m addrtype --dst-type LOCAL".to_owned()),
        1 => Just("-m conntrack --ctstate DNAT".to_owned()),
        1 => Just("-m statistic --mode random --probability 0.5".to_owned()),
        1 => Just("-m mark --mark 0x1".to_owned()),
        1 => Just("-p icmp".to_owned()),
    ]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => address().prop_map(|to| format!("DNAT --to-destination {to}")),
        4 => (address(), 20u16..30).prop_map(|(to, port)| format!("DNAT --to-destination {to}:{port}")),
        2 => (address(), 20u16..30, 0u16..5, 20u16..30).prop_map(|(to, first, more, base)| {
            format!("DNAT --to-destination {to}:{first}-{}/{base}", first + more)
        }),
        1 => (20u16..30).prop_map(|port| format!("DNAT --to-destination :{port}")),
        3 => (20u16..30).prop_map(|port| format!("REDIRECT --to-ports {port}")),
        4 => Just("MASQUERADE".to_owned()),
        3 => address().prop_map(|to| format!("SNAT --to-source {to}")),
        2 => Just("ACCEPT".to_owned()),
        2 => Just("RETURN".to_owned()),
        1 => Just("LOG".to_owned()),
        3 => Just("one".to_owned()),
        2 => Just("two".to_owned()),
        1 => Just("NETMAP --to 10.9.0.0/24".to_owned()),
    ]
}

fn rule() -> impl Strategy<Value = String> {
    let chain = prop_oneof![
        6 => Just("PREROUTING"),
        4 => Just("POSTROUTING"),
        2 => Just("OUTPUT"),
        1 => Just("INPUT"),
        3 => Just("one"),
        2 => Just("two"),
    ];
    (chain, prop::collection::vec(condition(), 0..4), target()).prop_map(
        |(chain, conditions, target)| format!("-A {chain} {} -j {target}", conditions.join(" ")),
    )
}

/// Imports, and checks what must hold of every import.
fn check(text: &str) {
    let lines = text.lines().filter(|line| line.starts_with("-A ")).count();
    let findings = match import_iptables(text, &Hints::default()) {
        Ok(imported) => imported.text,
        Err(ImportError::Untranslatable { findings }) => {
            // Those that need no translation are counted only.
            assert!(lines == 0 || !findings.is_empty(), "{text}");
            return;
        }
        Err(ImportError::Nothing { .. }) => {
            assert_eq!(lines, 0, "{text}");
            return;
        }
        Err(error) => panic!("{error}\n{text}"),
    };
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("-A ") {
            let place = format!("line {number}: ");
            assert!(
                findings.contains(&place),
                "{line} is left out in silence:\n{text}\n{findings}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rules_that_make_sense_one_by_one(rules in prop::collection::vec(rule(), 1..12)) {
        let declared = ":PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n:one -\n:two -";
        check(&format!("*nat\n{declared}\n{}\nCOMMIT\n", rules.join("\n")));
    }

    #[test]
    fn words_in_any_order(words in prop::collection::vec(
        prop_oneof![condition(), target(), Just("-A PREROUTING".to_owned()), Just("-j".to_owned()),
            Just("!".to_owned()), Just("\n*nat\n".to_owned()), Just("\n:one -\n".to_owned()),
            Just("\"".to_owned()), ".{0,4}"], 0..30)) {
        check(&words.join(" "));
    }

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text);
    }
}

/// Two jumps to the next chain in each of 40: a trillion ways through them.
#[test]
fn chains_that_would_take_for_ever_are_refused() {
    let mut text = "*nat\n-A PREROUTING -j c0\n".to_owned();
    for number in 0..40 {
        let next = format!("c{}", number + 1);
        text += &format!("-A c{number} -p tcp -j {next}\n-A c{number} -p tcp -j {next}\n");
    }
    text += "-A c40 -s 192.0.2.1 -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1\nCOMMIT\n";
    assert!(matches!(
        import_iptables(&text, &Hints::default()),
        Err(ImportError::TooMany)
    ));
}

/// Tables of many rules are what people want to get away from.
#[test]
fn a_thousand_rules() {
    let mut text = "*nat\n".to_owned();
    for number in 0..500u32 {
        let (high, low) = (number / 250, number % 250);
        text += &format!(
            "-A PREROUTING -d 203.0.{high}.{low} -i eth0 -p tcp --dport 25 -j DNAT --to-destination 10.0.{high}.{low}\n\
             -A PREROUTING -p udp --dport {} -j DNAT --to-destination 10.1.{high}.{low}:53\n",
            number + 1000,
        );
    }
    let imported = import_iptables(&text, &Hints::default()).unwrap();
    assert_eq!(imported.config.rules.len(), 1000);
}
