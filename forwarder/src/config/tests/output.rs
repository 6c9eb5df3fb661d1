//! `[[output]]`.

use rstest::rstest;

use super::super::model::BackendPort;
use super::{NAME, assert_problem, good, with_table};

const HEADER: &str = "[[output]]";
const ADDRESS: &str = "expected one such as `192.0.2.1` or `2001:db8::1`";
const DESTINATION: &str = "expected `ADDR:PORT`, the address and port of one server";

#[rstest]
#[case::port("192.0.2.7:25", "192.0.2.7:986", BackendPort::Single(986))]
#[case::address("192.0.2.7:25", "192.0.2.8", BackendPort::Same)]
#[case::range("192.0.2.7:25-26", "192.0.2.7:986-987", BackendPort::First(986))]
#[case::many_to_one("192.0.2.7:25-26", "192.0.2.7:25", BackendPort::Single(25))]
#[case::ipv6("[2001:db8::7]:25", "[2001:db8::7]:986", BackendPort::Single(986))]
fn good_ones(#[case] from: &str, #[case] to: &str, #[case] port: BackendPort) {
    let lines = format!("to-address = \"{from}\"\nto = \"{to}\"");
    let config = good(&with_table(HEADER, &lines));
    let rule = &config.outputs[0];
    assert_eq!(
        (rule.name.as_str(), rule.tcp, rule.udp),
        ("output-1", true, false)
    );
    assert_eq!((rule.backend.port, rule.ports.first), (port, 25));
    assert_eq!(rule.backend.display(rule.ports), to);
}

#[test]
fn every_key() {
    let lines = "name = \"mail\"\nprotocol = [\"tcp\", \"udp\"]\nto-address = \"192.0.2.7:25\"\nto = \"192.0.2.7:986\"";
    let config = good(&with_table(HEADER, lines));
    let rule = &config.outputs[0];
    assert_eq!(
        (rule.name.as_str(), rule.tcp, rule.udp),
        ("mail", true, true)
    );
    assert_eq!(rule.address.to_string(), "192.0.2.7");
}

#[rstest]
#[case::no_port(
    "192.0.2.7",
    "destination `192.0.2.7` has no port: expected `ADDR:PORT`; write `192.0.2.7:PORT`"
)]
#[case::no_port_v6(
    "2001:db8::7",
    "destination `2001:db8::7` has no port: expected `ADDR:PORT`; write `[2001:db8::7]:PORT`"
)]
#[case::star("*:25", format!("bad destination `*:25`: {DESTINATION}"))]
#[case::port_only("25", format!("bad destination `25`: {DESTINATION}"))]
#[case::no_address(":25", format!("bad destination `:25`: {DESTINATION}"))]
fn bad_destinations(#[case] text: &str, #[case] message: impl AsRef<str>) {
    let lines = format!("to-address = \"«{text}»\"\nto = \"192.0.2.7:986\"");
    assert_problem(&with_table(HEADER, &lines), message.as_ref());
}

#[rstest]
#[case::address(r#"to-address = "«mail.example»:25""#, format!("bad address `mail.example`: {ADDRESS}; names are not looked up"))]
#[case::loopback(
    r#"to-address = "«127.0.0.1»:25""#,
    "bad address `127.0.0.1`, a loopback address: expected the address of one host"
)]
#[case::port(
    r#"to-address = "192.0.2.7:«0»""#,
    "bad port `0`: expected a number from 1 to 65535"
)]
#[case::number(
    "to-address = «25»",
    "`to-address` is an integer, `25`: expected a string such as \"192.0.2.7:25\""
)]
#[case::key(
    "to-address = \"192.0.2.7:25\"\n«adress» = 1",
    "unknown key `adress` in `[[output]]`: expected `name`, `protocol`, `to-address`, `to` or `on-change`"
)]
fn bad_lines(#[case] line: &str, #[case] message: impl AsRef<str>) {
    let lines = format!("{line}\nto = \"192.0.2.7:986\"");
    assert_problem(&with_table(HEADER, &lines), message.as_ref());
}

#[rstest]
#[case::same(
    "«192.0.2.7»",
    "target `192.0.2.7` is the destination itself: expected another address or port"
)]
#[case::same_port(
    "«192.0.2.7»:25-26",
    "target `192.0.2.7` is the destination itself: expected another address or port"
)]
#[case::family(
    "«2001:db8::7»",
    "target `2001:db8::7` is IPv6: expected IPv4, like the destination"
)]
#[case::length(
    "192.0.2.7:«986-988»",
    "unequal ranges: the target's `986-988` has 3 ports and the destination's `25-26` has 2: expected as many, or one port; did you mean `986-987`?"
)]
#[case::local(
    "«local:25»",
    "bad target `local:25`: expected the address of another host; `local` is for what arrives, in `[[forward]]`"
)]
#[case::loopback(
    "«127.0.0.1»:25",
    "bad address `127.0.0.1`, a loopback address: expected the address of one host"
)]
fn bad_targets(#[case] to: &str, #[case] message: &str) {
    let lines = format!("to-address = \"192.0.2.7:25-26\"\nto = \"{to}\"");
    assert_problem(&with_table(HEADER, &lines), message);
}

#[rstest]
#[case::destination("to = \"192.0.2.7:986\"", "to-address")]
#[case::target("to-address = \"192.0.2.7:25\"", "to")]
fn missing_keys(#[case] line: &str, #[case] key: &str) {
    let text = with_table("«[[output]]»", line);
    assert_problem(
        &text,
        &format!("`[[output]]` without `{key}`: expected one"),
    );
}

/// Two rules with this destination, which is line 5, and then others.
fn pair(first: &str, second: &str) -> String {
    let lines =
        |destination: &str| format!("to-address = \"{destination}\"\nto = \"198.51.100.1:986\"");
    with_table(
        HEADER,
        &format!("{}\n{HEADER}\n{}", lines(first), lines(second)),
    )
}

#[rstest]
#[case::addresses("192.0.2.7:25", "192.0.2.8:25")]
#[case::ports("192.0.2.7:25", "192.0.2.7:26-30")]
#[case::protocols("192.0.2.7:25", "192.0.2.7:25\"\nprotocol = \"udp")]
fn not_overlapping(#[case] first: &str, #[case] second: &str) {
    assert_eq!(good(&pair(first, second)).outputs.len(), 2);
}

#[test]
fn overlapping() {
    let message = format!(
        "destination `192.0.2.7:20-30` overlaps `192.0.2.7:25` of rule `output-1` for tcp: \
         expected ports no other rule has; the other one stands at {NAME}:5:15"
    );
    assert_problem(&pair("192.0.2.7:25", "«192.0.2.7:20-30»"), &message);
}
