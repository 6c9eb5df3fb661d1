//! `to = "local:PORT"`.

use rstest::rstest;

use super::super::model::BackendPort;
use super::super::model_rules::Target;
use super::{assert_problem, errors, good, one_liners, with_rule};

#[rstest]
#[case::single("986", "local:25", BackendPort::Single(25), (true, true))]
#[case::address("203.0.113.5:986", "local:25", BackendPort::Single(25), (true, false))]
#[case::ipv6("[2001:db8::5]:986", "local:25", BackendPort::Single(25), (false, true))]
#[case::many_to_one("20-30", "local:25", BackendPort::Single(25), (true, true))]
#[case::range("1000-1009", "local:2000-2009", BackendPort::First(2000), (true, true))]
#[case::shifted("1000-1009", "local:1001-1010", BackendPort::First(1001), (true, true))]
fn targets(
    #[case] listen: &str,
    #[case] to: &str,
    #[case] port: BackendPort,
    #[case] families: (bool, bool),
) {
    for to in [format!("\"{to}\""), format!("[\"{to}\"]")] {
        let config = good(&with_rule(&format!("listen = \"{listen}\"\nto = {to}")));
        let rule = &config.rules[0];
        assert_eq!(rule.target, Target::Local(port));
        assert!(rule.backends().is_empty());
        assert_eq!((rule.serves_v4(), rule.serves_v6()), families);
    }
}

#[rstest]
#[case::v4("allow = [\"10.0.0.0/8\"]", (true, false))]
#[case::v6("allow = [\"2001:db8::/32\"]\ndeny = \"2001:db8::/48\"", (false, true))]
#[case::both("allow = [\"10.0.0.0/8\", \"2001:db8::/32\"]\ndeny = \"2001:db8::/48\"", (true, true))]
#[case::deny_only("deny = \"2001:db8::/48\"", (true, true))]
fn families_follow_the_clients(#[case] lines: &str, #[case] families: (bool, bool)) {
    let config = good(&with_rule(&format!(
        "listen = 986\nto = \"local:25\"\n{lines}"
    )));
    let rule = &config.rules[0];
    assert_eq!((rule.serves_v4(), rule.serves_v6()), families);
}

const ALONE: &str = "expected it alone, or backends only";
const GOES: &str = "without a rule packets for this host go to the port they name";

#[rstest]
#[case::no_port(r#"to = "«local»""#, format!("target `local` has no port: expected `local:PORT`; {GOES}"))]
#[case::port(
    r#"to = "local:«0»""#,
    "bad port `0`: expected a number from 1 to 65535"
)]
#[case::port_name(
    r#"to = "local:«smtp»""#,
    "bad port `smtp`: expected a number from 1 to 65535; did you mean `25`?"
)]
#[case::with_backend(r#"to = ["192.0.2.1", "«local:25»"]"#, format!("target `local:25` in a list: {ALONE}"))]
#[case::two(r#"to = ["«local:25»", "local:26"]"#, format!("target `local:25` in a list: {ALONE}"))]
#[case::same(r#"to = "«local:986-987»""#, format!("target `local:986-987` is the port it listens on: expected another one; {GOES}"))]
#[case::length(
    r#"to = "local:«25-27»""#,
    "unequal ranges: the target's `25-27` has 3 ports and the listener's `986-987` has 2: expected as many, or one port; did you mean `25-26`?"
)]
#[case::source(
    "to = \"local:25\"\nsource = \"«masquerade»\"",
    "source `masquerade` of a rule to a local port: expected `preserve`; leave `source` out; the connection ends at this host, which sees the client"
)]
#[case::pool(
    "to = \"local:25\"\nsource = \"«192.0.2.1»\"",
    "source `192.0.2.1` of a rule to a local port: expected `preserve`; leave `source` out; the connection ends at this host, which sees the client"
)]
#[case::localhost(
    r#"to = "«localhost»:25""#,
    "bad address `localhost`: expected one such as `192.0.2.1` or `2001:db8::1`; did you mean `local:25`?"
)]
#[case::loopback(
    r#"to = "[«::1»]:25""#,
    "bad address `::1`, a loopback address: expected the address of one host; did you mean `local:25`?"
)]
#[case::deny_of_the_other_family(
    "to = \"local:25\"\nallow = \"10.0.0.0/8\"\ndeny = \"«2001:db8::/32»\"",
    "prefix `2001:db8::/32` is IPv6: expected IPv4, like the first prefix of `allow`"
)]
fn bad(#[case] lines: &str, #[case] message: impl AsRef<str>) {
    let text = with_rule(&format!("listen = \"986-987\"\n{lines}"));
    assert_problem(&text, message.as_ref());
}

#[test]
fn clients_are_of_the_listeners_family() {
    let rule = "listen = \"203.0.113.5:986\"\nto = \"local:25\"\nallow = \"«2001:db8::/32»\"";
    assert_problem(
        &with_rule(rule),
        "prefix `2001:db8::/32` is IPv6: expected IPv4, like the listener",
    );
}

#[test]
fn what_else_is_wrong_with_a_list_is_found_as_well() {
    let rule = "listen = 986\nto = [\"192.0.2.300\", \"local:25\", 7, \"192.0.2.1:0\"]";
    assert_eq!(one_liners(&errors(&with_rule(rule))).len(), 4);
}
