//! The report as people read it.

use textwrap::{Options, WordSplitter};

use super::finding::{Finding, Mend, Severity};
use super::report::{Examined, Report};
use crate::report::counted;

/// What the terminal is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Whether colours are welcome.
    pub colours: bool,
}

const INDENT: &str = "    ";

impl Report {
    /// The whole text, with a newline at the end.
    pub fn render(&self, look: Look) -> String {
        let mut out = format!("{} on Linux {}\n\n", self.config, self.kernel);
        for group in &self.groups {
            let unseen: Vec<_> = self
                .unseen
                .iter()
                .filter(|one| one.group == group.group)
                .collect();
            out.push_str(&head(group, !unseen.is_empty(), look));
            for finding in &group.findings {
                out.push_str(&body(finding, look));
            }
            for one in unseen {
                let text = format!("not looked at: {}: {}", one.what, one.why);
                out.push_str(&paragraph(&text, INDENT, look));
            }
        }
        out.push('\n');
        out.push_str(&self.verdict());
        out
    }

    fn verdict(&self) -> String {
        let count = |severity: Severity| counted(self.count(severity), severity.name());
        let mut text = format!(
            "{}, {}, {}",
            count(Severity::Error),
            count(Severity::Warning),
            count(Severity::Note)
        );
        if !self.unseen.is_empty() {
            text += &format!(", {} not looked at", counted(self.unseen.len(), "thing"));
        }
        text + "\n"
    }
}

/// The line of a group: how it is at a glance.
fn head(group: &Examined, unseen: bool, look: Look) -> String {
    let (mark, colour) = match group.severity() {
        Some(Severity::Error) => ("✗", "31"),
        Some(Severity::Warning) => ("!", "33"),
        None if unseen => ("?", "33"),
        Some(Severity::Note) | None => ("✓", "32"),
    };
    let mark = paint(mark, colour, look);
    let name = group.group.to_string();
    format!("{mark} {name:<16}  {}", group.summary)
        .trim_end()
        .to_owned()
        + "\n"
}

fn body(finding: &Finding, look: Look) -> String {
    let severity = finding.severity.name();
    let colour = match finding.severity {
        Severity::Error => "1;31",
        Severity::Warning => "1;33",
        Severity::Note => "1;36",
    };
    let what = format!("{severity}: {} [{}]", finding.what, finding.check.name());
    let what = paragraph(&what, INDENT, look);
    let mut out = what.replacen(severity, &paint(severity, colour, look), 1);
    if !finding.why.is_empty() {
        out += &paragraph(&finding.why, &format!("{INDENT}  "), look);
    }
    for mend in &finding.mend {
        match mend {
            // A command is copied: it must stay on one line.
            Mend::Run(command) => {
                let command = paint(command, "1", look);
                out += &format!("{INDENT}  $ {command}\n");
            }
            Mend::Do(advice) => out += &paragraph(advice, &format!("{INDENT}  "), look),
        }
    }
    out
}

fn paragraph(text: &str, indent: &str, look: Look) -> String {
    // What comes from elsewhere, names above all, must not move the cursor.
    let plain: String = text.chars().filter(|one| !one.is_control()).collect();
    let options = Options::new(look.width.max(40))
        .initial_indent(indent)
        .subsequent_indent(indent)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(&plain, options) + "\n"
}

fn paint(text: &str, colour: &str, look: Look) -> String {
    match look.colours {
        true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}
