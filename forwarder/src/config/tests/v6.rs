//! IPv6 in `[[forward]]`.

use rstest::rstest;

use super::super::model::BackendPort;
use super::{NAME, assert_problem, good, with_rule};

const LINK_LOCAL: &str =
    "a link-local address, which no router forwards: expected a global or unique local one";
const MAPPED: &str = "IPv4 mapped into IPv6: expected one that stands in packets";
const HOST: &str = "expected the address of one host";

#[rstest]
#[case::single("[2001:db8::5]:110", "[2001:db8::5]:110")]
#[case::range("[2001:db8::5]:110-119", "[2001:db8::5]:110-119")]
#[case::long("[2001:DB8:0:0:0:0:0:5]:110", "[2001:db8::5]:110")]
#[case::unique_local("[fd00::1]:110", "[fd00::1]:110")]
fn listeners(#[case] value: &str, #[case] shown: &str) {
    let config = good(&with_rule(&format!(
        "listen = \"{value}\"\nto = \"2001:db8::1\""
    )));
    let rule = &config.rules[0];
    assert_eq!(rule.listen.to_string(), shown);
    assert_eq!((rule.serves_v4(), rule.serves_v6()), (false, true));
}

#[rstest]
#[case::same("2001:db8::1", BackendPort::Same)]
#[case::single("[2001:db8::1]:25", BackendPort::Single(25))]
#[case::range("[2001:db8::1]:25-26", BackendPort::First(25))]
fn backends(#[case] to: &str, #[case] port: BackendPort) {
    let config = good(&with_rule(&format!(
        "listen = \"110-111\"\nto = [\"{to}\"]\nsource = \"2001:db8::7-2001:db8::9\"\nallow = \"2001:db8:1::/48\""
    )));
    let rule = &config.rules[0];
    assert_eq!(rule.backends()[0].port, port);
    assert_eq!(rule.backends()[0].display(rule.listen.ports), to);
    assert_eq!(rule.source.to_string(), "2001:db8::7-2001:db8::9");
    assert_eq!((rule.serves_v4(), rule.serves_v6()), (false, true));
}

#[rstest]
#[case::listen_link_local(r#"listen = "[«fe80::1»]:110""#, format!("bad address `fe80::1`, {LINK_LOCAL}"))]
#[case::listen_zone(
    r#"listen = "[«fe80::1%eth0»]:110""#,
    "bad address `fe80::1%eth0`: expected one such as `192.0.2.1` or `2001:db8::1`; a zone does not fit here"
)]
#[case::listen_multicast(
    r#"listen = "[«ff02::1»]:110""#,
    "bad address `ff02::1`: expected a unicast address"
)]
#[case::listen_mapped(r#"listen = "[«::ffff:192.0.2.1»]:110""#, format!("bad address `::ffff:192.0.2.1`, {MAPPED}; did you mean `192.0.2.1`?"))]
#[case::listen_unspecified(
    r#"listen = "[«::»]:110""#,
    "bad address `::`: expected one address, or `*` for all; did you mean `*`?"
)]
#[case::listen_without_port(
    r#"listen = "«2001:db8::1»""#,
    "listener `2001:db8::1` has no port: expected `ADDR:PORT`; write `[2001:db8::1]:PORT`"
)]
#[case::listen_brackets_without_port(
    r#"listen = "«[2001:db8::1]»""#,
    "listener `[2001:db8::1]` has no port: expected `ADDR:PORT`; write `[2001:db8::1]:PORT`"
)]
fn bad_listeners(#[case] line: &str, #[case] message: impl AsRef<str>) {
    let text = with_rule(&format!("{line}\nto = \"2001:db8::1\""));
    assert_problem(&text, message.as_ref());
}

#[rstest]
#[case::link_local(r#"to = "«fe80::1»""#, format!("bad address `fe80::1`, {LINK_LOCAL}"))]
#[case::multicast(r#"to = "[«ff0e::1»]:25""#, format!("bad address `ff0e::1`, a multicast address: {HOST}"))]
#[case::mapped(r#"to = "«::ffff:192.0.2.1»""#, format!("bad address `::ffff:192.0.2.1`, {MAPPED}; did you mean `192.0.2.1`?"))]
#[case::unspecified(r#"to = "«::»""#, format!("bad address `::`, the unspecified address: {HOST}"))]
#[case::brackets(
    r#"to = "«[2001:db8::1]»""#,
    "bad address `[2001:db8::1]`: expected one such as `192.0.2.1` or `2001:db8::1`; did you mean `2001:db8::1`?"
)]
#[case::other_family(
    r#"to = "«192.0.2.1»""#,
    "backend `192.0.2.1` is IPv4: expected IPv6, like the listener"
)]
fn bad_targets(#[case] line: &str, #[case] message: impl AsRef<str>) {
    let text = with_rule(&format!("listen = \"[2001:db8::5]:110\"\n{line}"));
    assert_problem(&text, message.as_ref());
}

#[rstest]
#[case::source_family(
    r#"source = "«192.0.2.1»""#,
    "source `192.0.2.1` is IPv4: expected IPv6, like the first backend"
)]
#[case::source_link_local(r#"source = "«fe80::1»""#, format!("bad address `fe80::1`, {LINK_LOCAL}"))]
#[case::pool_too_large(
    r#"source = "«2001:db8::1-2001:db8::1:1»""#,
    "source pool `2001:db8::1-2001:db8::1:1` is too large: expected at most 65536 IPv6 addresses; did you mean `2001:db8::1-2001:db8::1:0`?"
)]
#[case::allow_family(
    r#"allow = ["«10.0.0.0/8»"]"#,
    "prefix `10.0.0.0/8` is IPv4: expected IPv6, like the first backend"
)]
#[case::allow_host_bits(
    r#"allow = ["«2001:db8::1/32»"]"#,
    "prefix `2001:db8::1/32` has host bits set: expected only zeros after the prefix; did you mean `2001:db8::/32`, or `2001:db8::1/128` for one client?"
)]
#[case::allow_length(
    r#"allow = ["2001:db8::/«129»"]"#,
    "bad prefix length `129`: expected 0 to 128"
)]
#[case::allow_link_local(r#"allow = ["«fe80::/10»"]"#, format!("bad address `fe80::/10`, {LINK_LOCAL}"))]
#[case::allow_multicast(
    r#"deny = ["«ff00::/8»"]"#,
    "bad prefix `ff00::/8`, of multicast addresses: expected addresses of clients"
)]
#[case::allow_mapped(r#"allow = ["«::ffff:192.0.2.0/120»"]"#, format!("bad address `::ffff:192.0.2.0/120`, {MAPPED}; did you mean `192.0.2.0/24`?"))]
#[case::allow_unspecified(
    r#"allow = ["«::»"]"#,
    "bad address `::`, the unspecified address: expected the address of one client, or a prefix; did you mean `::/0`?"
)]
fn bad_other_keys(#[case] line: &str, #[case] message: impl AsRef<str>) {
    let text = with_rule(&format!("listen = 110\nto = \"2001:db8::1\"\n{line}"));
    assert_problem(&text, message.as_ref());
}

#[rstest]
#[case::one("2001:db8::1")]
#[case::largest("2001:db8::-2001:db8::ffff")]
fn pools(#[case] pool: &str) {
    let config = good(&with_rule(&format!(
        "listen = 110\nto = \"2001:db8::1\"\nsource = \"{pool}\""
    )));
    assert_eq!(config.rules[0].source.to_string(), pool);
}

/// Two rules; the second listener is line 8.
fn pair(first: &str, second: &str) -> String {
    let rule = |lines: &str| format!("[[forward]]\n{lines}\n");
    format!(
        "[[interface]]\nname = \"eth0\"\n{}{}",
        rule(first),
        rule(second)
    )
}

#[rstest]
#[case::families(
    "listen = 110\nto = \"192.0.2.1\"",
    "listen = 110\nto = \"2001:db8::1\""
)]
#[case::local_of_one(
    "listen = 110\nto = \"192.0.2.1\"",
    "listen = 110\nto = \"local:25\"\nallow = \"2001:db8::/32\""
)]
#[case::address_wins(
    "listen = 110\nto = \"local:25\"",
    "listen = \"[2001:db8::5]:110\"\nto = \"2001:db8::1\""
)]
fn not_overlapping(#[case] first: &str, #[case] second: &str) {
    assert_eq!(good(&pair(first, second)).rules.len(), 2);
}

#[rstest]
#[case::addresses(
    "listen = \"[2001:db8::5]:110\"\nto = \"2001:db8::1\"",
    "listen = \"«[2001:db8::5]:100-110»\"\nto = \"2001:db8::1\"",
    "listener `[2001:db8::5]:100-110` overlaps `[2001:db8::5]:110`",
    11
)]
#[case::stars(
    "listen = 110\nto = \"2001:db8::1\"",
    "listen = «110»\nto = \"2001:db8::2\"",
    "listener `110` overlaps `110`",
    10
)]
#[case::local_and_v4(
    "listen = 110\nto = \"local:25\"",
    "listen = «110»\nto = \"192.0.2.1\"",
    "listener `110` overlaps `110`",
    10
)]
#[case::local_and_v6(
    "listen = 110\nto = \"2001:db8::1\"",
    "listen = «110»\nto = \"local:25\"",
    "listener `110` overlaps `110`",
    10
)]
#[case::locals(
    "listen = 110\nto = \"local:26\"",
    "listen = «110»\nto = \"local:25\"",
    "listener `110` overlaps `110`",
    10
)]
fn overlapping(
    #[case] first: &str,
    #[case] second: &str,
    #[case] message: &str,
    #[case] column: usize,
) {
    let ending = format!(
        "of rule `forward-1` for tcp: expected ports no other rule has; the other one stands at {NAME}:4:{column}"
    );
    assert_problem(&pair(first, second), &format!("{message} {ending}"));
}
