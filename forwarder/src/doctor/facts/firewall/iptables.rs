//! `iptables-save`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{About, Action, Base, Chain, Hook, Rule, Test};

/// Reads what `iptables-save` prints; `tool` is the command for these tables. Lines that are not understood count as
/// rules of which nothing is known.
pub(super) fn parse(text: &str, tool: &str, v6: bool) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table);
        } else if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split_whitespace();
            let (name, policy) = (
                words.next().unwrap_or_default(),
                words.next().unwrap_or("-"),
            );
            chains.push(Chain {
                tool: tool.to_owned(),
                table: table.clone(),
                name: name.to_owned(),
                v4: !v6,
                v6,
                base: (policy != "-").then(|| base(&table, name, policy)),
                rules: Vec::new(),
            });
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let mut rule = rule(rest);
            line.clone_into(&mut rule.text);
            rule.remove = format!("{tool} -t {table} -D {name} {rest}");
            let chain = chains
                .iter_mut()
                .find(|chain| chain.table == table && chain.name == name);
            if let Some(chain) = chain {
                chain.rules.push(rule);
            }
        }
    }
    chains
}

fn base(table: &str, chain: &str, policy: &str) -> Base {
    let hook = match chain {
        "PREROUTING" => Hook::Prerouting,
        "INPUT" => Hook::Input,
        "OUTPUT" => Hook::Output,
        _ => Hook::Elsewhere,
    };
    // include/uapi/linux/netfilter_ipv4.h
    let priority = match table {
        "raw" => -300,
        "mangle" => -150,
        "nat" => -100,
        "security" => 50,
        _ => 0,
    };
    Base {
        hook,
        priority,
        drops: policy == "DROP",
    }
}

fn rule(text: &str) -> Rule {
    let mut rule = Rule::default();
    let mut words = words(text).into_iter().peekable();
    let mut negated = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        let about = match word.as_str() {
            "!" => {
                negated = true;
                continue;
            }
            "-i" | "--in-interface" => About::Device(vec![value()]),
            "-p" | "--protocol" => About::Protocol(vec![value()]),
            "-d" | "--destination" => destination(&value()),
            "--dport" | "--dports" | "--destination-port" => ports(&value()),
            "--ctstate" | "--state" => {
                About::State(value().split(',').map(str::to_owned).collect())
            }
            "-j" | "--jump" => {
                rule.action = target(&value());
                break;
            }
            "-g" | "--goto" => {
                rule.action = Action::Goto(value());
                break;
            }
            "-m" | "--match" => {
                let _name = value();
                continue;
            }
            "--comment" => {
                let _text = value();
                continue;
            }
            // Values of what is not known are not known either; once is enough.
            _ => About::Unknown,
        };
        rule.tests.push(Test {
            about,
            negated: std::mem::take(&mut negated),
        });
    }
    rule
}

fn destination(text: &str) -> About {
    let prefix = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    prefix.map_or(About::Unknown, |prefix| About::Destination(vec![prefix]))
}

/// `25`, `25,110`, `1000:2000`.
fn ports(text: &str) -> About {
    let ranges = text.split(',').map(|item| {
        let (first, last) = item.split_once(':').unwrap_or((item, item));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let ranges: Option<Vec<_>> = ranges.collect();
    ranges.map_or(About::Unknown, About::Ports)
}

fn target(name: &str) -> Action {
    match name {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "DNAT" | "REDIRECT" | "NETMAP" | "TPROXY" => Action::Translate,
        // Targets that let packets go on have names in capitals, and so may chains.
        "LOG" | "NFLOG" | "ULOG" | "MARK" | "CONNMARK" | "CONNSECMARK" | "SECMARK" | "CT"
        | "TCPMSS" | "DSCP" | "TOS" | "TTL" | "HL" | "CLASSIFY" | "CHECKSUM" | "TRACE" | "SNAT"
        | "MASQUERADE" | "NOTRACK" | "SET" | "TEE" => Action::Continue,
        "QUEUE" | "NFQUEUE" | "SYNPROXY" => Action::Unknown,
        chain => Action::Jump(chain.to_owned()),
    }
}

/// Words as a shell has them; iptables quotes with `"` and `\`.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            '\\' => word.extend(letters.next()),
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            letter => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    #[test]
    fn comments_are_one_word() {
        let words = super::words(r#"--comment "a \"b\" -j DROP" -j ACCEPT"#);
        assert_eq!(words, ["--comment", "a \"b\" -j DROP", "-j", "ACCEPT"]);
    }
}
