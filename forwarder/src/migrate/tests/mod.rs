//! Whole rulesets: what comes of them, and that it is a configuration.

mod fixtures;
mod oracle;
mod properties;
mod round_trip;
mod rules;

use super::{Hints, ImportError, Imported, import_iptables};

/// The table `nat` with these rules.
fn nat(rules: &str) -> String {
    format!("*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{rules}\nCOMMIT\n")
}

fn import(rules: &str) -> Result<Imported, ImportError> {
    import_iptables(&nat(rules), &Hints::default())
}

/// The rules of a configuration without its comments, devices and names.
fn bare(text: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in text.lines() {
        match line {
            "" => {}
            line if line.starts_with('#') || line.starts_with("name = ") => {}
            line if line.starts_with('[') => sections.push(line.to_owned()),
            line => {
                if let Some(section) = sections.last_mut() {
                    section.push_str("; ");
                    section.push_str(line);
                }
            }
        }
    }
    sections.retain(|section| !section.starts_with("[[interface]]"));
    sections
}
