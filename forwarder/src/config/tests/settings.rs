//! Bad `[limits]`, `[timeouts]`, `[control]`, `[metrics]`, `[log]`, `[flow-log]` and `[history]`, and tables that do not exist.

use rstest::rstest;

use super::{assert_problem, with_tables};

const SOCKET: &str = "an absolute path such as \"/run/forwarder.sock\"";
const DURATION: &str = "expected a duration such as \"30s\", \"4m\" or \"5d\"";
const METRICS: &str =
    "expected an address and a port from 1 to 65535 such as \"127.0.0.1:9469\" or \"[::1]:9469\"";
const TABLES: &str = "`interface`, `forward`, `masquerade`, `output`, `limits`, `timeouts`, `control`, `metrics`, `log`, `original-destination`, `flow-log` or `history`";

#[rstest]
#[case::flows_zero(
    "[limits]\nflows = «0»",
    "`flows` out of range, `0`: expected an integer from 1 to 16777216"
)]
#[case::flows_huge(
    "[limits]\nflows = «16777217»",
    "`flows` out of range, `16777217`: expected an integer from 1 to 16777216"
)]
#[case::half_open(
    "[limits]\nhalf-open = «-3»",
    "`half-open` out of range, `-3`: expected an integer from 1 to 16777216"
)]
#[case::rules(
    "[limits]\nrules = «65537»",
    "`rules` out of range, `65537`: expected an integer from 1 to 65536"
)]
#[case::flows_string(
    "[limits]\nflows = «\"many\"»",
    "`flows` is a string, `\"many\"`: expected an integer from 1 to 16777216"
)]
#[case::underscore(
    "[limits]\n«half_open» = 5",
    "unknown key `half_open` in `[limits]`: expected `flows`, `half-open`, `rules` or `source-ports`; did you mean `half-open`?"
)]
#[case::source_ports(
    "[limits]\nsource-ports = \"«1024»\"",
    "bad port range `1024`: expected a range of ports such as \"1024-32767\""
)]
#[case::source_ports_reversed(
    "[limits]\nsource-ports = \"«9-8»\"",
    "reversed range `9-8`: expected the lower port first; did you mean `8-9`?"
)]
#[case::limits_list(
    "«[[limits]]»\nflows = 5",
    "`limits` is an array, `[[limits]]`: expected one table, written `[limits]`"
)]
#[case::duration_zero(
    "[timeouts]\nudp = \"«0s»\"",
    "`udp` out of range, `0s`: expected 1s to 40d"
)]
#[case::duration_long(
    "[timeouts]\ntcp-established = \"«41d»\"",
    "`tcp-established` out of range, `41d`: expected 1s to 40d"
)]
#[case::duration_huge("[timeouts]\nudp = \"«99999999999999999999d»\"", format!("bad duration `99999999999999999999d`: {DURATION} (number is too large or cannot be represented without a lack of precision (values below 1ns are not supported))"))]
#[case::duration_unitless("[timeouts]\nudp = \"«30»\"", format!("bad duration `30`: {DURATION} (time unit needed, for example 30sec or 30ms)"))]
#[case::duration_integer("[timeouts]\nudp = «30»", format!("`udp` is an integer, `30`: {DURATION}"))]
#[case::timeout_unknown(
    "[timeouts]\n«tcp» = \"5d\"",
    "unknown key `tcp` in `[timeouts]`: expected `tcp-established`, `tcp-half-open`, `tcp-transitory`, `udp`, `udp-stream`, `icmp` or `drain`; did you mean `tcp-established`?"
)]
#[case::drain_zero(
    "[timeouts]\ndrain = \"«0s»\"",
    "`drain` out of range, `0s`: expected 1s to 40d"
)]
#[case::socket_relative("[control]\nsocket = \"«forwarder.sock»\"", format!("bad socket path `forwarder.sock`: expected {SOCKET}"))]
#[case::socket_directory("[control]\nsocket = \"«/run/»\"", format!("bad socket path `/run/`: expected {SOCKET}"))]
#[case::level(
    "[log]\nlevel = \"«warning»\"",
    "bad level `warning`: expected `error`, `warn`, `info`, `debug` or `trace`; did you mean `warn`?"
)]
#[case::format(
    "[log]\nformat = \"«jsn»\"",
    "bad format `jsn`: expected `text` or `json`; did you mean `json`?"
)]
#[case::unknown_table("[«limit»]\nflows = 5", format!("unknown key `limit`: expected {TABLES}; did you mean `limits`?"))]
#[case::unknown_far("[«colours»]\n", format!("unknown key `colours`: expected {TABLES}"))]
#[case::metrics_port_only("[metrics]\nlisten = \"«9469»\"", format!("bad listen address `9469`: {METRICS}; did you mean `127.0.0.1:9469`?"))]
#[case::metrics_star("[metrics]\nlisten = \"«*:9469»\"", format!("bad listen address `*:9469`: {METRICS}; did you mean `0.0.0.0:9469`?"))]
#[case::metrics_name("[metrics]\nlisten = \"«localhost:9469»\"", format!("bad listen address `localhost:9469`: {METRICS}; did you mean `127.0.0.1:9469`?"))]
#[case::metrics_no_port("[metrics]\nlisten = \"«127.0.0.1»\"", format!("bad listen address `127.0.0.1`: {METRICS}"))]
#[case::metrics_port_zero("[metrics]\nlisten = \"«[::1]:0»\"", format!("bad listen address `[::1]:0`: {METRICS}"))]
#[case::metrics_integer("[metrics]\nlisten = «9469»", format!("`listen` is an integer, `9469`: {METRICS}"))]
#[case::metrics_empty("«[metrics]»\n", "`[metrics]` without `listen`: expected one")]
#[case::metrics_unknown(
    "[metrics]\n«lisen» = \"127.0.0.1:9469\"",
    "unknown key `lisen` in `[metrics]`: expected `listen`; did you mean `listen`?"
)]
#[case::flow_log_empty(
    "«[flow-log]»\nformat = \"text\"",
    "`[flow-log]` without `path` and without `journald`: expected one of them"
)]
#[case::flow_log_nowhere(
    "[flow-log]\njournald = «false»",
    "`[flow-log]` leads nowhere: expected a `path` or `journald = true`"
)]
#[case::flow_log_relative(
    "[flow-log]\npath = \"«flows.log»\"",
    "bad path `flows.log`: expected an absolute path such as \"/var/log/forwarder/flows.log\""
)]
#[case::flow_log_events(
    "[flow-log]\npath = \"/x\"\nevents = [\"new\", \"«close»\"]",
    "bad events `close`: expected `new`, `established` or `closed`; did you mean `closed`?"
)]
#[case::flow_log_no_events(
    "[flow-log]\npath = \"/x\"\nevents = «[]»",
    "empty list of events, `[]`: expected `new`, `established` or `closed`; to log nothing, leave the table out"
)]
#[case::history_empty(
    "«[history]»\nkeep = \"1d\"",
    "`[history]` without `path`: expected one"
)]
#[case::history_directory(
    "[history]\npath = \"«/var/lib/»\"",
    "bad path `/var/lib/`: expected an absolute path such as \"/var/lib/forwarder/history.redb\""
)]
#[case::history_short(
    "[history]\npath = \"/x\"\nkeep = \"«12h»\"",
    "`keep` out of range, `12h`: expected 1d to 3660d"
)]
#[case::original_empty(
    "«[original-destination]»\n",
    "`[original-destination]` without `proxies`: expected one"
)]
#[case::original_v6(
    "[original-destination]\nproxies = [\"«2001:db8::9»\"]",
    "bad proxy `2001:db8::9`: expected an IPv4 address, since the protocol has no others"
)]
#[case::original_secret(
    "[original-destination]\nproxies = \"192.0.2.9\"\nsecret = «0x1_0000_0000»",
    "`secret` out of range, `0x1_0000_0000`: expected an integer from 0 to 4294967295"
)]
#[case::original_nothing(
    "[original-destination]\nproxies = \"192.0.2.9\"\nudp = «false»",
    "`udp = false` leaves nothing that answers; take it out"
)]
#[case::original_tcp(
    "[original-destination]\nproxies = \"192.0.2.9\"\ntcp = «true»",
    "`tcp = true` is not supported by this version yet; take it out"
)]
fn bad(#[case] lines: &str, #[case] message: impl AsRef<str>) {
    assert_problem(&with_tables(lines), message.as_ref());
}

#[test]
fn a_socket_path_fits_the_kernel() {
    let path = format!("/{}", "a".repeat(107));
    let shown = format!("/{}…", "a".repeat(59));
    let message = format!("bad socket path `{shown}`: expected at most 107 bytes");
    assert_problem(
        &with_tables(&format!("[control]\nsocket = \"«{path}»\"")),
        &message,
    );
}

#[rstest]
#[case::group(
    "group = \"«no such»\"",
    "bad group `no such`: expected the name of a group such as \"adm\""
)]
#[case::number(
    "group = \"«27»\"",
    "bad group `27`: expected the name of a group such as \"adm\""
)]
#[case::world(
    "mode = \"«0666»\"",
    "bad mode `0666`: expected `0660` or `0600`; did you mean `0660`?"
)]
fn access_to_the_socket(#[case] line: &str, #[case] expected: &str) {
    assert_problem(&with_tables(&format!("[control]\n{line}\n")), expected);
}
