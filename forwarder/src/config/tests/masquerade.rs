//! `[[masquerade]]`.

use rstest::rstest;

use super::super::model::{PortRange, Protocol, ProtocolPorts, Source};
use super::super::model_rules::{Filtering, MssClamp};
use super::{NAME, assert_problem, good, with_table};

const HEADER: &str = "[[masquerade]]";
const SOURCE: &str = "`masquerade`, an address or two as `ADDR-ADDR`";
const PORTS: &str = "`PROTOCOL` or `PROTOCOL/PORT`, such as `tcp/25` or `udp/1024-2000`";

#[test]
fn everything_left_out_has_its_default() {
    let config = good(&with_table(
        HEADER,
        "from = [\"10.0.0.0/24\", \"2001:db8::/64\"]",
    ));
    assert!(config.rules.is_empty() && config.outputs.is_empty());
    let rule = &config.masquerades[0];
    assert_eq!((rule.name.as_str(), rule.from.len()), ("masquerade-1", 2));
    assert_eq!(
        (rule.interface.as_deref(), rule.source),
        (None, Source::Masquerade)
    );
    assert!(rule.ports.is_empty());
    assert_eq!(
        (rule.filtering, rule.mss_clamp),
        (Filtering::AddressAndPort, None)
    );
}

#[test]
fn every_key() {
    let config = good(&with_table(
        HEADER,
        "name = \"lan\"\nfrom = \"10.0.0.0/24\"\ninterface = \"eth0\"\nports = [\"tcp/25\", \"udp/1024-2000\"]\n\
         source = \"192.0.2.1-192.0.2.9\"\nfiltering = \"endpoint-independent\"\nmss-clamp = 1452",
    ));
    let rule = &config.masquerades[0];
    assert_eq!(
        (rule.name.as_str(), rule.interface.as_deref()),
        ("lan", Some("eth0"))
    );
    assert_eq!(rule.source.to_string(), "192.0.2.1-192.0.2.9");
    assert_eq!(rule.filtering.to_string(), "endpoint-independent");
    assert_eq!(rule.mss_clamp, Some(MssClamp::Bytes(1452)));
    let shown: Vec<_> = rule.ports.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["tcp/25", "udp/1024-2000"]);
}

#[rstest]
#[case::all("tcp", Protocol::Tcp, PortRange::ALL, "tcp")]
#[case::written_out("udp/1-65535", Protocol::Udp, PortRange::ALL, "udp")]
#[case::one("tcp/25", Protocol::Tcp, PortRange { first: 25, last: 25 }, "tcp/25")]
fn ports_of_a_protocol(
    #[case] text: &str,
    #[case] protocol: Protocol,
    #[case] ports: PortRange,
    #[case] shown: &str,
) {
    for value in [format!("\"{text}\""), format!("[\"{text}\"]")] {
        let lines = format!("from = \"10.0.0.0/24\"\nports = {value}");
        let config = good(&with_table(HEADER, &lines));
        let entry = config.masquerades[0].ports[0];
        assert_eq!(entry, ProtocolPorts { protocol, ports });
        assert_eq!(entry.to_string(), shown);
    }
}

#[rstest]
#[case::unknown_key(
    "«port» = \"tcp/25\"",
    "unknown key `port` in `[[masquerade]]`: expected `name`, `from`, `interface`, `mode`, `ports`, `source`, `filtering`, `mss-clamp` or `on-change`; did you mean `ports`?"
)]
#[case::key_of_forward(
    "«listen» = 25",
    "unknown key `listen` in `[[masquerade]]`: expected `name`, `from`, `interface`, `mode`, `ports`, `source`, `filtering`, `mss-clamp` or `on-change`; `listen` belongs in `[[forward]]`"
)]
#[case::interface(
    r#"interface = "«eth1»""#,
    "interface `eth1` is not configured: expected `eth0`; did you mean `eth0`?"
)]
#[case::preserve(r#"source = "«preserve»""#, format!("bad source `preserve`: expected {SOURCE}; with the clients' own addresses there is nothing to translate, and the rule can go"))]
#[case::source_word(r#"source = "«masquarade»""#, format!("bad source `masquarade`: expected {SOURCE}; did you mean `masquerade`?"))]
#[case::source_alias(r#"source = "«snat»""#, format!("bad source `snat`: expected {SOURCE}; did you mean `masquerade`?"))]
#[case::source_type("source = «1»", format!("`source` is an integer, `1`: expected a string: {SOURCE}"))]
#[case::filtering(
    r#"filtering = "«endpoint»""#,
    "bad filtering `endpoint`: expected `address-and-port` or `endpoint-independent`; did you mean `endpoint-independent`?"
)]
#[case::clamp(
    "mss-clamp = «0»",
    "`mss-clamp` out of range, `0`: expected `auto` or an integer from 88 to 65495"
)]
#[case::clamp_without_tcp(
    "ports = \"udp\"\nmss-clamp = \"«auto»\"",
    "`mss-clamp` in a rule without TCP: expected `tcp` in `ports`; take `mss-clamp` out, or add `tcp`"
)]
#[case::ports_empty("ports = «[]»", format!("empty list of ports, `[]`: expected at least one {PORTS}; leave `ports` out to let everything through"))]
#[case::ports_number("ports = [«25»]", format!("`ports` is an integer, `25`: expected strings: {PORTS}"))]
#[case::ports_bare(r#"ports = ["«25»"]"#, format!("bad ports `25`: expected {PORTS}; did you mean `tcp/25`?"))]
#[case::ports_swapped(r#"ports = ["«53/udp»"]"#, format!("bad ports `53/udp`: expected {PORTS}; did you mean `udp/53`?"))]
#[case::ports_unprotected(r#"ports = ["«/53»"]"#, format!("bad ports `/53`: expected {PORTS}"))]
#[case::ports_nothing(r#"ports = [«""»]"#, format!("bad ports ``: expected {PORTS}"))]
#[case::ports_protocol(
    r#"ports = ["«tpc»/25"]"#,
    "bad protocol `tpc`: expected `tcp` or `udp`; did you mean `tcp`?"
)]
#[case::ports_icmp(
    r#"ports = ["«icmp»"]"#,
    "bad protocol `icmp`: expected `tcp` or `udp`"
)]
#[case::ports_name(
    r#"ports = ["tcp/«smtp»"]"#,
    "bad port `smtp`: expected a number from 1 to 65535; did you mean `25`?"
)]
#[case::ports_reversed(
    r#"ports = ["tcp/«9-5»"]"#,
    "reversed range `9-5`: expected the lower port first; did you mean `5-9`?"
)]
#[case::ports_twice(
    r#"ports = ["tcp/25", "«tcp/25»"]"#,
    format!("ports `tcp/25` overlap `tcp/25`: expected each port once; the other ones stand at {NAME}:6:11")
)]
#[case::ports_overlap(
    r#"ports = ["tcp", "udp/53", "«tcp/25»"]"#,
    format!("ports `tcp/25` overlap `tcp`: expected each port once; the other ones stand at {NAME}:6:11")
)]
fn bad(#[case] lines: &str, #[case] message: impl AsRef<str>) {
    let text = with_table(HEADER, &format!("from = \"10.0.0.0/24\"\n{lines}"));
    assert_problem(&text, message.as_ref());
}

#[rstest]
#[case::empty(
    "from = «[]»",
    "empty list of clients, `[]`: expected at least one prefix; everybody is `0.0.0.0/0` and `::/0`"
)]
#[case::host_bits(
    r#"from = "«10.0.0.1/24»""#,
    "prefix `10.0.0.1/24` has host bits set: expected only zeros after the prefix; did you mean `10.0.0.0/24`, or `10.0.0.1/32` for one client?"
)]
#[case::name(
    r#"from = ["«lan»"]"#,
    "bad prefix `lan`: expected one such as `198.51.100.0/24` or `2001:db8::/32`"
)]
#[case::pool_of_the_other_family(
    "from = [\"10.0.0.0/24\", \"«2001:db8::/64»\"]\nsource = \"192.0.2.1\"",
    "prefix `2001:db8::/64` is IPv6: expected IPv4, like the source"
)]
#[case::twice(
    r#"from = ["10.0.0.7", "«10.0.0.7/32»"]"#,
    format!("duplicate prefix `10.0.0.7/32` on one interface: expected each in one rule; the first one stands at {NAME}:5:10")
)]
fn bad_clients(#[case] lines: &str, #[case] message: impl AsRef<str>) {
    assert_problem(&with_table(HEADER, lines), message.as_ref());
}

#[test]
fn clients_are_required() {
    let text = with_table("«[[masquerade]]»", "name = \"lan\"");
    assert_problem(&text, "`[[masquerade]]` without `from`: expected one");
}

/// Two rules with these keys; the first prefix is line 6, the second one line 8 or later.
fn pair(first: &str, second: &str) -> String {
    let interfaces = "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n";
    format!("{interfaces}{HEADER}\n{first}\n{HEADER}\n{second}\n")
}

#[rstest]
#[case::lengths("from = \"10.0.0.0/24\"", "from = \"10.0.0.0/16\"")]
#[case::interfaces(
    "from = \"10.0.0.0/24\"\ninterface = \"eth0\"",
    "from = \"10.0.0.0/24\"\ninterface = \"eth1\""
)]
#[case::families("from = \"0.0.0.0/0\"", "from = \"::/0\"")]
fn prefixes_of_two_rules(#[case] first: &str, #[case] second: &str) {
    assert_eq!(good(&pair(first, second)).masquerades.len(), 2);
}

#[rstest]
#[case::any("", "")]
#[case::the_same("interface = \"eth0\"", "interface = \"eth0\"")]
#[case::any_and_one("", "interface = \"eth0\"")]
#[case::one_and_any("interface = \"eth1\"", "")]
#[case::other_ports("ports = \"tcp/25\"", "ports = \"udp/53\"")]
fn a_prefix_has_one_rule(#[case] first: &str, #[case] second: &str) {
    let from = "from = \"10.0.0.0/24\"";
    let text = pair(
        &format!("{from}\n{first}"),
        &format!("{second}\nfrom = \"«10.0.0.0/24»\""),
    );
    let message = format!(
        "duplicate prefix `10.0.0.0/24` on one interface: expected each in one rule; the first one stands at {NAME}:6:9"
    );
    assert_problem(&text, &message);
}

#[test]
fn names_are_unique_over_all_kinds_of_rules() {
    let text = with_table(
        HEADER,
        "name = \"a\"\nfrom = \"10.0.0.0/24\"\n[[forward]]\nname = \"«a»\"\nlisten = 1\nto = \"192.0.2.1\"",
    );
    let message =
        format!("duplicate rule name `a`: expected each once; the first one stands at {NAME}:5:9");
    assert_problem(&text, &message);
}
