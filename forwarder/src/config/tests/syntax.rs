//! Text that is not TOML, and how a problem looks.

use rstest::rstest;

use super::{errors, one_liners, with_rule};

#[rstest]
#[case::unquoted("listen = 110\nto = 192.0.2.1", &["6:6: error: not valid TOML at `192.0.2.1`: "])]
#[case::no_value("listen =\nto = \"192.0.2.1\"", &["5:9: error: not valid TOML at `listen =`: "])]
#[case::unclosed("listen = \"110\nto = \"192.0.2.1\"", &["5:14: error: not valid TOML at `listen = \"110`: "])]
#[case::duplicate_key("listen = 110\nlisten = 25\nto = \"192.0.2.1\"", &["6:1: error: not valid TOML at `listen`: duplicate key"])]
#[case::with_others("listen = 0\nto = 192.0.2.1\n[limits]\nflows = 0", &["5:10: error: bad port `0`", "6:6: error: not valid TOML", "8:9: error: `flows` out of range"])]
fn syntax_errors(#[case] rule: &str, #[case] expected: &[&str]) {
    let lines = one_liners(&errors(&with_rule(rule)));
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("f.toml:{expected}")), "{line}");
    }
}

#[test]
fn what_seems_to_be_missing_behind_a_syntax_error_is_not_reported() {
    let lines = one_liners(&errors(
        "[[interface]\nname = \"eth0\"\n[[forward]]\nlisten = 110\n",
    ));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].starts_with("f.toml:1:13: error: not valid TOML at `[[interface]`: "),
        "{lines:#?}"
    );
}

#[test]
fn a_problem_shows_its_line_and_a_caret() {
    let text = with_rule("\tlisten = \"*:0\" # été\r\nto = \"192.0.2.1\"");
    let expected = "f.toml:5:14: error: bad port `0`: expected a number from 1 to 65535\n    \
                    5 | \tlisten = \"*:0\" # été\n      | \t            ^\n\
                    1 error in f.toml; nothing was changed";
    assert_eq!(errors(&text).to_string(), expected);
}

#[test]
fn colours_are_for_terminals() {
    let errors = errors(&with_rule("listen = 0\nto = \"192.0.2.1\""));
    assert!(!errors.render(false).contains('\x1b'));
    assert!(
        errors
            .render(true)
            .contains("\x1b[1;31merror\x1b[0m: bad port")
    );
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let text = with_rule("listen = \"\\u001b[2J\"\nto = \"192.0.2.1\" # \u{9b}2J");
    let shown = errors(&text).to_string();
    assert!(
        !shown.contains(|c: char| c.is_control() && c != '\n'),
        "{shown:?}"
    );
}

#[test]
fn long_lines_are_cut_around_the_problem() {
    let many: Vec<String> = (0..200).map(|n| format!("\"10.0.{n}.0/24\"")).collect();
    let text = with_rule(&format!(
        "listen = 1\nto = \"192.0.2.1\"\nallow = [{}, \"oops\"]",
        many.join(", ")
    ));
    let shown = errors(&text).to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[1].contains("oops") && lines[1].chars().count() < 140,
        "{shown}"
    );
    let caret = lines[2].find('^').map(|at| &lines[1][at..at + 4]);
    assert_eq!(caret, Some("oops"), "{shown}");
}
