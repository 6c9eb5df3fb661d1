//! A draft as the text of a configuration.

use std::fmt::{self, Display, Write as _};

use crate::config::{
    BackendPort, Filtering, Masquerade, Mode, Output, PortRange, Protocol, Rule, Source, Target,
};

use super::draft::{Draft, Written};
use super::journal::{Journal, Kind, OriginId};

/// All of it: the rules with the rules that they were made from, then what was not translated.
pub(super) fn configuration(draft: &Draft, journal: &Journal, heading: &str) -> String {
    let mut text = format!("# {heading}\n");
    for remark in journal.remarks() {
        comment(&mut text, "", remark);
    }
    for named in &draft.interfaces {
        text.push('\n');
        if let Some(remark) = &named.remark {
            comment(&mut text, "", remark);
        }
        let _ = writeln!(
            text,
            "[[interface]]\nname = {}",
            quoted(&named.interface.name)
        );
        if named.interface.mode != Mode::Auto {
            let _ = writeln!(text, "mode = {}", quoted(named.interface.mode));
        }
        if named.interface.optional {
            text.push_str("optional = true\n");
        }
    }
    rules(&mut text, &draft.forwards, journal, forward);
    rules(&mut text, &draft.masquerades, journal, masquerade);
    rules(&mut text, &draft.outputs, journal, output);
    if let Some(ports) = draft.source_ports {
        let _ = writeln!(text, "\n[limits]\nsource-ports = {}", quoted(ports));
    }
    leftovers(&mut text, journal);
    text
}

fn rules<T>(text: &mut String, rules: &[Written<T>], journal: &Journal, one: fn(&T) -> String) {
    for written in rules {
        text.push('\n');
        for origin in &written.origins {
            let origin = journal.origin(*origin);
            let _ = writeln!(text, "# {}: {}", origin.place, origin.text);
        }
        text.push_str(&one(&written.rule));
    }
}

/// `[[forward]]`.
pub(super) fn forward(rule: &Rule) -> String {
    let mut text = format!("[[forward]]\nname = {}\n", quoted(&rule.name));
    protocols(&mut text, rule.tcp, rule.udp);
    if let Some(interface) = &rule.interface {
        let _ = writeln!(text, "interface = {}", quoted(interface));
    }
    let _ = writeln!(text, "listen = {}", quoted(rule.listen));
    match &rule.target {
        Target::Local(port) => {
            let ports = local_ports(*port, rule.listen.ports);
            let _ = writeln!(text, "to = {}", quoted(format!("local:{ports}")));
        }
        Target::Backends(backends) => match backends.as_slice() {
            [one] => {
                let _ = writeln!(text, "to = {}", quoted(one.display(rule.listen.ports)));
            }
            all => {
                let all = all.iter().map(|one| one.display(rule.listen.ports));
                let _ = writeln!(text, "to = {}", list(all));
            }
        },
    }
    if rule.source != Source::Preserve {
        let _ = writeln!(text, "source = {}", quoted(rule.source));
    }
    for (key, prefixes) in [("allow", &rule.allow), ("deny", &rule.deny)] {
        if !prefixes.is_empty() {
            let _ = writeln!(text, "{key} = {}", list(prefixes));
        }
    }
    if let Some(clamp) = rule.mss_clamp {
        let _ = writeln!(text, "mss-clamp = {}", clamp_value(clamp));
    }
    if rule.reset_unknown {
        text.push_str("reset-unknown = true\n");
    }
    text
}

/// `[[masquerade]]`.
pub(super) fn masquerade(rule: &Masquerade) -> String {
    let mut text = format!("[[masquerade]]\nname = {}\n", quoted(&rule.name));
    let _ = writeln!(text, "from = {}", list(&rule.from));
    if let Some(interface) = &rule.interface {
        let _ = writeln!(text, "interface = {}", quoted(interface));
    }
    if !rule.ports.is_empty() {
        let _ = writeln!(text, "ports = {}", list(&rule.ports));
    }
    let _ = writeln!(text, "source = {}", quoted(rule.source));
    if rule.filtering != Filtering::default() {
        let _ = writeln!(text, "filtering = {}", quoted(rule.filtering));
    }
    if let Some(clamp) = rule.mss_clamp {
        let _ = writeln!(text, "mss-clamp = {}", clamp_value(clamp));
    }
    text
}

/// `[[output]]`.
pub(super) fn output(rule: &Output) -> String {
    let mut text = format!("[[output]]\nname = {}\n", quoted(&rule.name));
    protocols(&mut text, rule.tcp, rule.udp);
    let listen = crate::config::Listen {
        address: Some(rule.address),
        ports: rule.ports,
    };
    let _ = writeln!(text, "to-address = {}", quoted(listen));
    let _ = writeln!(text, "to = {}", quoted(rule.backend.display(rule.ports)));
    text
}

fn protocols(text: &mut String, tcp: bool, udp: bool) {
    let names = Protocol::ALL.map(Protocol::name);
    let _ = match (tcp, udp) {
        (true, true) => writeln!(text, "protocol = {}", list(names)),
        (false, _) => writeln!(text, "protocol = {}", quoted(Protocol::Udp.name())),
        (true, false) => writeln!(text, "protocol = {}", quoted(Protocol::Tcp.name())),
    };
}

fn local_ports(port: BackendPort, listen: PortRange) -> PortRange {
    match port {
        BackendPort::Same => listen,
        BackendPort::Single(port) => PortRange {
            first: port,
            last: port,
        },
        BackendPort::First(first) => PortRange {
            first,
            last: first.saturating_add(listen.last - listen.first),
        },
    }
}

fn clamp_value(clamp: crate::config::MssClamp) -> String {
    match clamp {
        crate::config::MssClamp::Auto => quoted(clamp),
        crate::config::MssClamp::Bytes(bytes) => bytes.to_string(),
    }
}

/// As a string of TOML.
fn quoted(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<String> = values.into_iter().map(quoted).collect();
    format!("[{}]", values.join(", "))
}

/// `text` as lines of a comment that are not too long to read, each after `indent`.
fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.chars().count() + word.chars().count() > 115 {
            let _ = writeln!(out, "# {indent}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "# {indent}{line}");
}

impl Kind {
    pub const ALL: [Self; 4] = [
        Self::Untranslated,
        Self::Differs,
        Self::Bypassed,
        Self::Needless,
    ];

    /// What findings of this kind have in common.
    fn heading(self) -> &'static str {
        match self {
            Self::Untranslated => "Not translated, or not all of it",
            Self::Differs => "Translated, with a difference",
            Self::Bypassed => {
                "Not for a configuration, and no longer asked about forwarded packets"
            }
            Self::Needless => "Needs no translation",
        }
    }
}

/// What every rule that is not in the configuration, or not as it was, came to.
fn leftovers(text: &mut String, journal: &Journal) {
    for kind in Kind::ALL {
        let mut reasons: Vec<(&str, Vec<OriginId>)> = Vec::new();
        for finding in journal.findings(kind) {
            match reasons
                .iter_mut()
                .find(|(reason, _)| *reason == finding.reason)
            {
                Some((_, origins)) => origins.push(finding.origin),
                None => reasons.push((&finding.reason, vec![finding.origin])),
            }
        }
        if reasons.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n# {}:", kind.heading());
        for (reason, origins) in reasons {
            comment(text, "  ", &format!("{reason}:"));
            for origin in origins {
                let origin = journal.origin(origin);
                let _ = writeln!(text, "#     {}: {}", origin.place, origin.text);
            }
        }
    }
}

/// The findings as they are told on a terminal, one a line.
pub(super) struct Told<'a>(pub &'a Journal);

impl Display for Told<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in [Kind::Untranslated, Kind::Differs, Kind::Bypassed] {
            let word = match kind {
                Kind::Untranslated => "not translated",
                Kind::Differs => "differs",
                Kind::Bypassed | Kind::Needless => "no longer asked",
            };
            for finding in self.0.findings(kind) {
                let origin = self.0.origin(finding.origin);
                writeln!(
                    out,
                    "{}: {word}: {}: {}",
                    origin.place, finding.reason, origin.text
                )?;
            }
        }
        let needless = self.0.findings(Kind::Needless).count();
        if needless > 0 {
            let rules = crate::report::counted(needless, "rule");
            writeln!(out, "{rules} in need of no translation")?;
        }
        self.0
            .remarks()
            .iter()
            .try_for_each(|remark| writeln!(out, "{remark}"))
    }
}
