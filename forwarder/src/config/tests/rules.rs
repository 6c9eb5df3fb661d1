//! Bad `[[forward]]` and `[[interface]]` tables.

use rstest::rstest;

use super::{assert_problem, with_rule};

const KEYS: &str = "`name`, `protocol`, `interface`, `mode`, `listen`, `to`, `source`, `allow`, `deny`, `mss-clamp`, `reset-unknown` or `on-change`";
const LISTEN: &str = "a port or a string such as \"203.0.113.5:110\", \"*:110\" or \"*:1000-1009\"";
const TO: &str =
    "a string such as \"192.0.2.1\", \"192.0.2.1:110\", \"local:110\" or a list of them";
const PORT: &str = "expected a number from 1 to 65535";
const SOURCE: &str = "expected `preserve`, `masquerade`, an address or two as `ADDR-ADDR`";
const ADDRESS: &str = "expected one such as `192.0.2.1` or `2001:db8::1`";
const CLAMP: &str = "expected `auto` or an integer from 88 to 65495";
const HOST: &str = "expected the address of one host";

#[rstest]
#[case::port_zero(r#"listen = "*:«0»""#, format!("bad port `0`: {PORT}"))]
#[case::port_zero_integer("listen = «0»", format!("bad port `0`: {PORT}"))]
#[case::port_negative("listen = «-1»", format!("bad port `-1`: {PORT}"))]
#[case::port_too_high(r#"listen = "*:«65536»""#, format!("bad port `65536`: {PORT}"))]
#[case::port_too_high_integer("listen = «65536»", format!("bad port `65536`: {PORT}"))]
#[case::port_huge_hex("listen = «0xffffffffffffffffffffffffffffffffffff»", format!("bad port `0xffffffffffffffffffffffffffffffffffff`: {PORT}"))]
#[case::port_empty(r#"listen = «"*:"»"#, format!("bad port ``: {PORT}"))]
#[case::port_plus(r#"listen = "«+110»""#, format!("bad port `+110`: {PORT}"))]
#[case::port_name(r#"listen = "*:«pop3»""#, format!("bad port `pop3`: {PORT}; did you mean `110`?"))]
#[case::range_with_zero(r#"listen = "*:«0»-10""#, format!("bad port `0`: {PORT}"))]
#[case::range_beyond(r#"listen = "*:10-«70000»""#, format!("bad port `70000`: {PORT}"))]
#[case::range_open(r#"listen = «"*:10-"»"#, format!("bad port ``: {PORT}"))]
#[case::range_of_three(r#"listen = "*:1-«2-3»""#, format!("bad port `2-3`: {PORT}"))]
#[case::range_reversed(
    r#"listen = "*:«20-10»""#,
    "reversed range `20-10`: expected the lower port first; did you mean `10-20`?"
)]
#[case::address_only(
    r#"listen = "«203.0.113.5»""#,
    "listener `203.0.113.5` has no port: expected `ADDR:PORT`; write `203.0.113.5:PORT`"
)]
#[case::star_only(
    r#"listen = "«*»""#,
    "listener `*` has no port: expected `ADDR:PORT`; write `*:PORT`"
)]
#[case::no_address(
    r#"listen = «":110"»"#,
    "bad listener: expected an address or `*` before the colon; did you mean `*`?"
)]
#[case::octet(r#"listen = "«203.0.113.256»:110""#, format!("bad address `203.0.113.256`: {ADDRESS}; `256` is above 255"))]
#[case::octal(r#"listen = "«203.0.113.010»:110""#, format!("bad address `203.0.113.010`: {ADDRESS}; `010` has a leading zero"))]
#[case::three_octets(r#"listen = "«203.0.113»:110""#, format!("bad address `203.0.113`: {ADDRESS}"))]
#[case::host_name(r#"listen = "«mail.example»:110""#, format!("bad address `mail.example`: {ADDRESS}; names are not looked up"))]
#[case::unspecified(
    r#"listen = "«0.0.0.0»:110""#,
    "bad address `0.0.0.0`: expected one address, or `*` for all; did you mean `*`?"
)]
#[case::multicast(
    r#"listen = "«224.0.0.1»:110""#,
    "bad address `224.0.0.1`: expected a unicast address"
)]
#[case::ipv6_unbracketed(
    r#"listen = "«2001:db8:0:0:0:0:0:1:110»""#,
    "bad address `2001:db8:0:0:0:0:0:1:110`: expected an IPv6 address in brackets; did you mean `[2001:db8:0:0:0:0:0:1]:110`?"
)]
#[case::ipv6_unclosed(
    r#"listen = "«[2001:db8::1:110»""#,
    "bad address `[2001:db8::1:110`: expected `[ADDR]:PORT`"
)]
#[case::nonsense(
    r#"listen = "«@»""#,
    "bad listener `@`: expected `ADDR:PORT`, `*:PORT` or `PORT`"
)]
#[case::empty(
    r#"listen = «""»"#,
    "bad listener ``: expected `ADDR:PORT`, `*:PORT` or `PORT`"
)]
#[case::boolean("listen = «true»", format!("`listen` is a boolean, `true`: expected {LISTEN}"))]
#[case::list("listen = «[110]»", format!("`listen` is an array, `[110]`: expected {LISTEN}"))]
#[case::escaped(r#"listen = «"\u002a:0"»"#, format!("bad port `0`: {PORT}"))]
fn listeners(#[case] line: &str, #[case] message: impl AsRef<str>) {
    assert_problem(
        &with_rule(&format!("{line}\nto = \"192.0.2.1\"")),
        message.as_ref(),
    );
}

#[rstest]
#[case::unknown_key(r#"«lsten» = "*:110""#, format!("unknown key `lsten` in `[[forward]]`: expected {KEYS}; did you mean `listen`?"))]
#[case::unknown_key_far(r#"«colour» = "red""#, format!("unknown key `colour` in `[[forward]]`: expected {KEYS}"))]
#[case::key_of_other_table(r#"«optional» = true"#, format!("unknown key `optional` in `[[forward]]`: expected {KEYS}; `optional` belongs in `[[interface]]`"))]
#[case::mode_of_other_table(r#"mode = "«xdp»""#, "bad mode `xdp`: expected `active` or `shadow`")]
#[case::protocol(
    r#"protocol = "«tpc»""#,
    "bad protocol `tpc`: expected `tcp` or `udp`; did you mean `tcp`?"
)]
#[case::protocol_case(
    r#"protocol = "«TCP»""#,
    "bad protocol `TCP`: expected `tcp` or `udp`; did you mean `tcp`?"
)]
#[case::protocol_in_list(
    r#"protocol = ["tcp", "«icmp»"]"#,
    "bad protocol `icmp`: expected `tcp` or `udp`"
)]
#[case::protocol_twice(
    r#"protocol = ["tcp", «"tcp"»]"#,
    "protocol `tcp` twice: expected each once"
)]
#[case::protocol_none(
    "protocol = «[]»",
    "empty list of protocols, `[]`: expected `tcp`, `udp` or both"
)]
#[case::protocol_number(
    "protocol = «6»",
    "`protocol` is an integer, `6`: expected a string, one of `tcp` or `udp`"
)]
#[case::name_number("name = «110»", "`name` is an integer, `110`: expected a string")]
#[case::name_empty(
    r#"name = «""»"#,
    "bad rule name ``: expected 1 to 64 bytes without control characters and without blanks around them"
)]
#[case::interface_unknown(
    r#"interface = "«eth1»""#,
    "interface `eth1` is not configured: expected `eth0`; did you mean `eth0`?"
)]
#[case::interface_far(
    r#"interface = "«wlan7»""#,
    "interface `wlan7` is not configured: expected `eth0`; add an `[[interface]]` with this name"
)]
#[case::interface_long(
    r#"interface = "«averyverylonginterface»""#,
    "bad interface name `averyverylonginterface`: expected at most 15 bytes"
)]
#[case::source_word(r#"source = "«masquarade»""#, format!("bad source `masquarade`: {SOURCE}; did you mean `masquerade`?"))]
#[case::source_alias(r#"source = "«snat»""#, format!("bad source `snat`: {SOURCE}; did you mean `masquerade`?"))]
#[case::source_address(r#"source = "«192.0.2»""#, format!("bad address `192.0.2`: {ADDRESS}"))]
#[case::source_boolean("source = «true»", format!("`source` is a boolean, `true`: expected a string: {}", &SOURCE[9..]))]
#[case::source_pool_reversed(
    r#"source = "«192.0.2.9-192.0.2.1»""#,
    "reversed source pool `192.0.2.9-192.0.2.1`: expected the lower address first; did you mean `192.0.2.1-192.0.2.9`?"
)]
#[case::source_pool_mixed(
    r#"source = "«192.0.2.9-2001:db8::1»""#,
    "source pool `192.0.2.9-2001:db8::1` mixes IPv4 and IPv6: expected one family"
)]
#[case::source_pool_open(r#"source = «"192.0.2.9-"»"#, format!("bad address ``: {ADDRESS}"))]
#[case::source_other_family(
    r#"source = "«2001:db8::1»""#,
    "source `2001:db8::1` is IPv6: expected IPv4, like the first backend"
)]
#[case::allow_other_family(
    r#"allow = ["«2001:db8::/32»"]"#,
    "prefix `2001:db8::/32` is IPv6: expected IPv4, like the first backend"
)]
#[case::deny_other_family(
    r#"deny = ["10.0.0.0/8", "«2001:db8::7»"]"#,
    "prefix `2001:db8::7` is IPv6: expected IPv4, like the first backend"
)]
#[case::allow_host_bits(
    r#"allow = ["«198.51.100.7/24»"]"#,
    "prefix `198.51.100.7/24` has host bits set: expected only zeros after the prefix; did you mean `198.51.100.0/24`, or `198.51.100.7/32` for one client?"
)]
#[case::allow_length(
    r#"allow = ["198.51.100.0/«33»"]"#,
    "bad prefix length `33`: expected 0 to 32"
)]
#[case::allow_mask(
    r#"allow = ["198.51.100.0/«255.255.255.0»"]"#,
    "bad prefix length `255.255.255.0`: expected 0 to 32"
)]
#[case::allow_word(
    r#"allow = ["«all»"]"#,
    "bad prefix `all`: expected one such as `198.51.100.0/24` or `2001:db8::/32`"
)]
#[case::allow_number(
    "allow = [«10»]",
    "`allow` is an integer, `10`: expected a list of prefixes such as [\"198.51.100.0/24\"]"
)]
#[case::allow_empty(
    "allow = «[]»",
    "empty list of clients, `[]`: expected at least one prefix; leave `allow` out to let everybody in"
)]
#[case::allow_unspecified(
    r#"allow = ["«0.0.0.0»"]"#,
    "bad address `0.0.0.0`, the unspecified address: expected the address of one client, or a prefix; did you mean `0.0.0.0/0`?"
)]
#[case::clamp_low("mss-clamp = «87»", format!("`mss-clamp` out of range, `87`: {CLAMP}"))]
#[case::clamp_high("mss-clamp = «65496»", format!("`mss-clamp` out of range, `65496`: {CLAMP}"))]
#[case::clamp_negative("mss-clamp = «-1»", format!("`mss-clamp` out of range, `-1`: {CLAMP}"))]
#[case::clamp_word(r#"mss-clamp = "«pmtu»""#, format!("bad mss-clamp `pmtu`: {CLAMP}"))]
#[case::clamp_quoted(r#"mss-clamp = "«1452»""#, format!("bad mss-clamp `1452`: {CLAMP}; write it without quotes"))]
#[case::clamp_type("mss-clamp = «true»", format!("`mss-clamp` is a boolean, `true`: {CLAMP}"))]
#[case::clamp_without_tcp(
    "protocol = \"udp\"\nmss-clamp = \"«auto»\"",
    "`mss-clamp` in a rule without TCP: expected `tcp` in `protocol`; take `mss-clamp` out, or add `tcp`"
)]
#[case::on_change(
    "on-change = \"«kil»\"",
    "bad on-change `kil`: expected `keep`, `drain` or `kill`; did you mean `kill`?"
)]
#[case::on_change_list(
    "on-change = «[\"kill\"]»",
    "`on-change` is an array, `[\"kill\"]`: expected a string, one of `keep`, `drain` or `kill`"
)]
#[case::reset_type(
    "reset-unknown = «1»",
    "`reset-unknown` is an integer, `1`: expected `true` or `false`"
)]
#[case::reset_without_tcp(
    "protocol = \"udp\"\nreset-unknown = «true»",
    "`reset-unknown` in a rule without TCP: expected `tcp` in `protocol`; take `reset-unknown` out, or add `tcp`"
)]
fn other_keys(#[case] line: &str, #[case] message: impl AsRef<str>) {
    let rule = format!("listen = 110\nto = \"192.0.2.1\"\n{line}");
    assert_problem(&with_rule(&rule), message.as_ref());
}

#[rstest]
#[case::empty_list(
    "to = «[]»",
    "empty list of backends, `[]`: expected at least one, such as `192.0.2.1:110`"
)]
#[case::empty(r#"to = «""»"#, "bad target ``: expected an address before the colon")]
#[case::no_address(
    r#"to = "«:110»""#,
    "bad target `:110`: expected an address before the colon"
)]
#[case::number("to = «110»", format!("`to` is an integer, `110`: expected {TO}"))]
#[case::port_zero(r#"to = "192.0.2.1:«0»""#, format!("bad port `0`: {PORT}"))]
#[case::port_in_list(r#"to = ["192.0.2.1:110", "192.0.2.2:«99999»"]"#, format!("bad port `99999`: {PORT}"))]
#[case::reversed(
    r#"to = "192.0.2.1:«9-5»""#,
    "reversed range `9-5`: expected the lower port first; did you mean `5-9`?"
)]
#[case::range_beyond(r#"to = "192.0.2.1:65530-«65540»""#, format!("bad port `65540`: {PORT}"))]
#[case::name(r#"to = "«mail.example.org»:110""#, format!("bad address `mail.example.org`: {ADDRESS}; names are not looked up"))]
#[case::prefix(r#"to = "«192.0.2.0/24»""#, format!("bad address `192.0.2.0/24`: {ADDRESS}; a prefix does not fit here"))]
#[case::unspecified(r#"to = "«0.0.0.0»:110""#, format!("bad address `0.0.0.0`, the unspecified address: {HOST}"))]
#[case::loopback(r#"to = "«127.0.0.1»:110""#, format!("bad address `127.0.0.1`, a loopback address: {HOST}; did you mean `local:110`?"))]
#[case::broadcast(r#"to = "«255.255.255.255»""#, format!("bad address `255.255.255.255`, the broadcast address: {HOST}"))]
#[case::multicast(r#"to = "«239.1.1.1»""#, format!("bad address `239.1.1.1`, a multicast address: {HOST}"))]
#[case::mixed(
    r#"to = ["192.0.2.1:110", "[«2001:db8::1»]:110"]"#,
    "backend `2001:db8::1` is IPv6: expected IPv4, like the first backend"
)]
#[case::too_long(
    r#"to = "192.0.2.1:«5-9»""#,
    "unequal ranges: the target's `5-9` has 5 ports and the listener's `110-111` has 2: expected as many, or one port; did you mean `5-6`?"
)]
#[case::too_short(
    r#"to = "192.0.2.1:«65535-65535»""#,
    "unequal ranges: the target's `65535` has 1 ports and the listener's `110-111` has 2: expected as many, or one port; 2 ports from 65535 on end beyond 65535"
)]
fn targets(#[case] line: &str, #[case] message: impl AsRef<str>) {
    let rule = format!("listen = \"*:110-111\"\n{line}");
    assert_problem(&with_rule(&rule), message.as_ref());
}

#[rstest]
#[case::mixed(
    r#"to = "[«2001:db8::1»]:110""#,
    "backend `2001:db8::1` is IPv6: expected IPv4, like the listener"
)]
fn targets_of_an_address(#[case] line: &str, #[case] message: &str) {
    assert_problem(
        &with_rule(&format!("listen = \"203.0.113.5:110\"\n{line}")),
        message,
    );
}

#[rstest]
#[case::mode(
    r#"mode = "«xpd»""#,
    "bad mode `xpd`: expected `auto`, `xdp`, `xdp-generic`, `tc` or `shadow`; did you mean `xdp`?"
)]
#[case::mode_type(
    "mode = «1»",
    "`mode` is an integer, `1`: expected a string, one of `auto`, `xdp`, `xdp-generic`, `tc` or `shadow`"
)]
#[case::optional(
    r#"optional = «"yes"»"#,
    "`optional` is a string, `\"yes\"`: expected `true` or `false`"
)]
#[case::unknown_key(
    r#"«optinal» = true"#,
    "unknown key `optinal` in `[[interface]]`: expected `name`, `mode` or `optional`; did you mean `optional`?"
)]
fn interfaces(#[case] line: &str, #[case] message: &str) {
    let rest = "[[forward]]\nlisten = 110\nto = \"192.0.2.1\"\n";
    assert_problem(
        &format!("[[interface]]\nname = \"eth0\"\n{line}\n{rest}"),
        message,
    );
}

#[rstest]
#[case::slash("eth/0", "no blanks, slashes or colons")]
#[case::blank("eth 0", "no blanks, slashes or colons")]
#[case::dots("..", "the name of a device, such as `eth0`")]
fn interface_names(#[case] name: &str, #[case] expected: &str) {
    let rest = "[[forward]]\nlisten = 110\nto = \"192.0.2.1\"\n";
    let message = format!("bad interface name `{name}`: expected {expected}");
    assert_problem(
        &format!("[[interface]]\nname = \"«{name}»\"\n{rest}"),
        &message,
    );
}

#[rstest]
#[case::forward("[[forward]]\nlisten = 110\nto = \"192.0.2.1\"\n")]
#[case::masquerade("[[masquerade]]\nfrom = [\"10.0.0.0/8\"]\n")]
fn a_rule_may_only_watch(#[case] rule: &str) {
    for (line, expected) in [
        ("", false),
        ("mode = \"active\"\n", false),
        ("mode = \"shadow\"\n", true),
    ] {
        let text = format!("[[interface]]\nname = \"eth0\"\n{rule}{line}");
        let config = crate::config::parse("file", &text).unwrap();
        let forwards = config.rules.iter().map(|rule| rule.shadow);
        let masquerades = config.masquerades.iter().map(|rule| rule.shadow);
        let found: Vec<_> = forwards.chain(masquerades).collect();
        assert_eq!(found, [expected], "{line}");
    }
    let text = format!("[[interface]]\nname = \"eth0\"\n{rule}mode = \"watch\"\n");
    let error = crate::config::parse("file", &text).unwrap_err().to_string();
    assert!(error.contains("`active` or `shadow`"), "{error}");
}
