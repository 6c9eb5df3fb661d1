//! Whatever the text, there is a configuration or at least one problem, and every problem can be shown.

use proptest::prelude::*;

use super::super::parse;
use super::{with_rule, with_table};

/// Uses every key once, so that a mutation reaches every parser.
const ALL_KEYS: &str = r#"
[[interface]]
name = "eth0"
mode = "xdp"
optional = true

[[forward]]
name = "pop3"
protocol = ["tcp", "udp"]
interface = "eth0"
listen = "203.0.113.5:110-119"
to = ["195.228.245.1:110-119", "[2001:db8::1]:110", "192.0.2.1", "local:25"]
source = "192.0.2.1-192.0.2.9"
allow = ["198.51.100.0/24", "2001:db8::/32"]
deny = ['10.0.0.0/8', """192.0.2.7"""]
mss-clamp = "auto"
reset-unknown = true
on-change = "kill"

[[forward]]
listen = "[2001:db8::5]:986"
to = "local:25"

[[masquerade]]
name = "lan"
from = ["10.0.0.0/24", "2001:db8:1::/48"]
interface = "eth0"
ports = ["tcp/25", "udp/1024-2000", "tcp/110"]
source = "masquerade"
filtering = "endpoint-independent"
mss-clamp = 1452

[[output]]
name = "mail"
protocol = "tcp"
to-address = "192.0.2.7:25-26"
to = "192.0.2.7:986-987"

[limits]
flows = 262144
source-ports = "1024-32767"

[timeouts]
tcp-established = "5d"

[control]
socket = "/run/forwarder.sock"

[metrics]
listen = "127.0.0.1:9469"

[log]
level = "info"
format = "json"

[flow-log]
path = "/var/log/forwarder/flows.log"
journald = true
events = ["new", "closed"]

[history]
path = "/var/lib/forwarder/history.redb"
keep = "30d"
"#;

fn never_panics(text: &str) {
    if let Err(errors) = parse("f.toml", text) {
        assert!(errors.count() > 0, "{text}");
        let shown = errors.render(true);
        assert!(shown.lines().count() > errors.count(), "{shown}");
        for span in errors.diagnostics.iter().filter_map(|found| found.span) {
            assert!(
                text.get(span.start..span.end).is_some(),
                "{span:?} of {text:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text(text in any::<String>()) {
        never_panics(&text);
    }

    #[test]
    fn arbitrary_values(key in "(listen|to|source|allow|protocol|name|interface)", value in any::<String>()) {
        let quoted = value.escape_default().to_string().replace("\\u{", "\\U{");
        never_panics(&with_rule(&format!("{key} = \"{quoted}\"")));
        never_panics(&with_rule(&format!("{key} = '{value}'")));
    }

    #[test]
    fn addresses_and_ports(value in "[0-9a-f.:*/\\[\\]-]{0,24}") {
        let rule = format!("listen = '{value}'\nto = '{value}'\nsource = '{value}'\nallow = ['{value}']");
        never_panics(&with_rule(&rule));
        let masquerade = format!("from = '{value}'\nsource = '{value}'\nports = ['tcp/{value}']");
        never_panics(&with_table("[[masquerade]]", &masquerade));
        let output = format!("to-address = '{value}'\nto = '{value}'");
        never_panics(&with_table("[[output]]", &output));
    }

    #[test]
    fn mutations(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..8, ".{0,6}"), 1..6),
    ) {
        let mut text: Vec<char> = ALL_KEYS.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        never_panics(&text.into_iter().collect::<String>());
    }
}
