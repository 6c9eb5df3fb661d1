//! Problems between values: names, overlaps, sums, and files without rules.

use std::fmt::Write;
use std::time::{Duration, Instant};

use rstest::rstest;

use super::{NAME, assert_problem, errors, good, one_liners, with_rule};

/// Two rules with these listeners and further keys; the second listener is line 10.
fn pair(first: &str, second: &str) -> String {
    let interfaces = "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n";
    let rule = |lines: &str| format!("[[forward]]\n{lines}\nto = \"192.0.2.1\"\n");
    format!("{interfaces}{}{}", rule(first), rule(second))
}

#[rstest]
#[case::same("listen = 110", "listen = «110»", "listener `110` overlaps `110`", 10)]
#[case::star_and_port(
    "listen = 110",
    r#"listen = "«*:110»""#,
    "listener `*:110` overlaps `110`",
    10
)]
#[case::ranges(
    r#"listen = "*:100-200""#,
    r#"listen = "«*:200-300»""#,
    "listener `*:200-300` overlaps `*:100-200`",
    11
)]
#[case::lower_later(
    r#"listen = "*:150-200""#,
    r#"listen = "«*:1-150»""#,
    "listener `*:1-150` overlaps `*:150-200`",
    11
)]
#[case::inside(
    r#"listen = "*:1-65535""#,
    "listen = «25»",
    "listener `25` overlaps `*:1-65535`",
    11
)]
#[case::address(
    r#"listen = "203.0.113.5:110""#,
    r#"listen = "«203.0.113.5:110»""#,
    "listener `203.0.113.5:110` overlaps `203.0.113.5:110`",
    11
)]
fn overlapping(
    #[case] first: &str,
    #[case] second: &str,
    #[case] message: &str,
    #[case] column: usize,
) {
    let ending = format!(
        "of rule `forward-1` for tcp: expected ports no other rule has; the other one stands at {NAME}:6:{column}"
    );
    assert_problem(&pair(first, second), &format!("{message} {ending}"));
}

#[test]
fn an_overlap_in_both_protocols_is_one_problem() {
    let both = "protocol = [\"tcp\", \"udp\"]\nlisten = 53";
    assert_eq!(errors(&pair(both, both)).count(), 1);
}

#[rstest]
#[case::protocols("listen = 53", "listen = 53\nprotocol = \"udp\"")]
#[case::interface_wins("listen = 110", "listen = 110\ninterface = \"eth0\"")]
#[case::interfaces(
    "listen = 110\ninterface = \"eth1\"",
    "listen = 110\ninterface = \"eth0\""
)]
#[case::address_wins("listen = 110", "listen = \"203.0.113.5:110\"")]
#[case::addresses("listen = \"203.0.113.6:110\"", "listen = \"203.0.113.5:110\"")]
#[case::neighbours("listen = \"*:1-109\"", "listen = \"*:110-200\"")]
fn not_overlapping(#[case] first: &str, #[case] second: &str) {
    assert_eq!(good(&pair(first, second)).rules.len(), 2);
}

#[test]
fn every_overlapping_rule_is_blamed_once() {
    let mut text = with_rule("listen = \"*:1-1000\"\nto = \"192.0.2.1\"");
    for port in [1, 500, 1000] {
        let _ = writeln!(text, "[[forward]]\nlisten = {port}\nto = \"192.0.2.1\"");
    }
    assert_eq!(errors(&text).count(), 3);
}

#[test]
fn duplicate_names() {
    let rule = "[[forward]]\nname = \"«a»\"\nlisten = 2\nto = \"192.0.2.1\"";
    let text = with_rule(&format!(
        "name = \"a\"\nlisten = 1\nto = \"192.0.2.1\"\n{rule}"
    ));
    assert_problem(
        &text,
        "duplicate rule name `a`: expected each once; the first one stands at f.toml:5:9",
    );
}

#[test]
fn a_default_name_can_be_taken() {
    let rule = "«[[forward]]»\nlisten = 2\nto = \"192.0.2.1\"";
    let text = with_rule(&format!(
        "name = \"forward-2\"\nlisten = 1\nto = \"192.0.2.1\"\n{rule}"
    ));
    assert_problem(
        &text,
        "duplicate rule name `forward-2`: expected each once; the first one stands at f.toml:5:9",
    );
}

#[test]
fn duplicate_interfaces() {
    let text = with_rule("listen = 1\nto = \"192.0.2.1\"\n[[interface]]\nname = \"«eth0»\"");
    assert_problem(
        &text,
        "duplicate interface name `eth0`: expected each once; the first one stands at f.toml:2:9",
    );
}

#[rstest]
#[case::listen("to = \"192.0.2.1\"", "listen")]
#[case::to("listen = 110", "to")]
fn missing_keys(#[case] line: &str, #[case] key: &str) {
    let text = with_rule(line).replace("[[forward]]", "«[[forward]]»");
    assert_problem(
        &text,
        &format!("`[[forward]]` without `{key}`: expected one"),
    );
}

#[rstest]
#[case::key("[[interface]]\nname = \"eth0\"\n[[forward]]\nlsten = 1\nto = \"192.0.2.1\"")]
#[case::rules("[[interface]]\nname = \"eth0\"\n[[foward]]\n")]
#[case::interfaces("[[forward]]\nlisten = 1\nto = \"192.0.2.1\"\n[[interfaces]]\n")]
fn a_mistyped_key_is_not_missing_as_well(#[case] text: &str) {
    let lines = one_liners(&errors(text));
    assert!(
        lines.len() == 1 && lines[0].contains("unknown key"),
        "{lines:#?}"
    );
}

#[rstest]
#[case::no_rules(
    "[[interface]]\nname = \"eth0\"\n",
    "1:1: error: no `[[forward]]`, `[[masquerade]]` or `[[output]]`: expected at least one; say what to take and where to send it"
)]
#[case::no_interfaces(
    "[[forward]]\nlisten = 1\nto = \"192.0.2.1\"",
    "1:1: error: no `[[interface]]`: expected at least one; name the device on which packets arrive"
)]
#[case::empty_list(
    "forward = []\n[[interface]]\nname = \"eth0\"",
    "1:11: error: empty list, `forward = []`: expected a list of tables, each written `[[forward]]`"
)]
#[case::single_brackets(
    "[[interface]]\nname = \"eth0\"\n[forward]\nlisten = 1",
    "3:1: error: `forward` is a table, `[forward]`: expected a list of tables, each written `[[forward]]`"
)]
fn presence(#[case] text: &str, #[case] message: &str) {
    assert_eq!(one_liners(&errors(text)), [format!("{NAME}:{message}")]);
}

#[rstest]
#[case::nothing("")]
#[case::blanks(" \n\t\n")]
#[case::comments("# later\n")]
#[case::byte_order_mark("\u{feff}")]
fn empty_files_are_told_what_a_file_is(#[case] text: &str) {
    let errors = errors(text);
    assert_eq!(errors.count(), 1);
    let text = errors.to_string();
    assert!(
        text.starts_with("f.toml:1:1: error: the file is empty: expected"),
        "{text}"
    );
    assert!(
        text.contains("\n      [[forward]]\n      listen = \"*:110\"\n"),
        "{text}"
    );
    good(super::super::check::MINIMAL);
}

#[rstest]
#[case::protocols_and_backends(
    "[[forward]]\nlisten = 53\nprotocol = [\"tcp\", \"udp\"]\nto = [\"192.0.2.1\", \"192.0.2.2\"]",
    4
)]
#[case::local("[[forward]]\nlisten = 986\nto = \"local:25\"", 1)]
#[case::masquerade_ports(
    "[[masquerade]]\nfrom = \"10.0.0.0/24\"\nports = [\"tcp/25\", \"tcp/110\", \"udp/53\"]",
    3
)]
#[case::masquerade_all("[[masquerade]]\nfrom = \"10.0.0.0/24\"", 2)]
#[case::output(
    "[[output]]\nto-address = \"192.0.2.7:25\"\nto = \"192.0.2.7:986\"\nprotocol = [\"tcp\", \"udp\"]",
    2
)]
fn the_limit_on_rules_counts_places(#[case] rule: &str, #[case] places: u32) {
    let interface = "[[interface]]\nname = \"eth0\"";
    let other = "[[forward]]\nlisten = 1\nto = \"192.0.2.1\"";
    let text = format!("{interface}\n{other}\n{rule}\n[limits]\nrules = ");
    let needed = places + 1;
    good(&format!("{text}{needed}"));
    let message = format!(
        "`limits.rules` is `{places}`, but the rules take {needed} places: expected at most `{places}`; \
         raise the limit, or take out rules, protocols, ports or backends"
    );
    assert_problem(&format!("{text}«{places}»"), &message);
}

#[test]
fn all_problems_are_found_at_once_in_the_order_of_the_file() {
    let text = "[[interface]]\nname = \"eth0\"\nmode = \"xpd\"\n\n[[forward]]\nlsten = 1\nlisten = \"x:0\"\n\
                to = [\"192.0.2.300\", \"192.0.2.1:0\"]\nallow = [\"10.0.0.1/8\", \"b\"]\n[limits]\nflows = 0\n";
    let places: Vec<String> = one_liners(&errors(text))
        .iter()
        .map(|line| line[..12].replace(" e", ""))
        .collect();
    let expected = [
        "f.toml:3:9:",
        "f.toml:6:1:",
        "f.toml:7:11",
        "f.toml:7:13",
        "f.toml:8:8:",
        "f.toml:8:33",
        "f.toml:9:11",
        "f.toml:9:25",
        "f.toml:11:9",
    ];
    for (place, expected) in places.iter().zip(expected) {
        assert!(place.starts_with(expected), "{places:?}");
    }
    assert_eq!(places.len(), expected.len());
    assert!(
        errors(text)
            .to_string()
            .ends_with("\n9 errors in f.toml; nothing was changed")
    );
}

#[test]
fn the_largest_file_is_checked_in_seconds() {
    let mut text = with_rule("listen = 1\nto = \"192.0.2.1\"");
    for n in 0..65_535_u32 {
        let (high, low) = (n / 256, n % 256);
        let _ = writeln!(
            text,
            "[[forward]]\nname = \"r{n}\"\nlisten = \"10.1.{high}.{low}:110\"\nto = \"192.0.2.1\""
        );
    }
    let start = Instant::now();
    assert_eq!(good(&text).rules.len(), 65_536);
    // All of them wrong: the place of each is looked up, too.
    assert_eq!(
        one_liners(&errors(&text.replace("192.0.2.1", "x"))).len(),
        65_536
    );
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
}
