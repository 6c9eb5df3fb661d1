//! One rule of iptables: what follows `-A CHAIN`.

use super::matches::{self, Read};
use super::target::{self, Target};
use super::words::Words;
use crate::migrate::ruleset::Match;

/// A rule whose target is still a word.
#[derive(Debug, Default)]
pub(super) struct RawRule {
    pub matches: Vec<Match>,
    pub comment: Option<String>,
    pub target: Target,
}

impl RawRule {
    /// Reads all of it; what cannot be read becomes a condition that no configuration has.
    pub fn read(words: &[String]) -> Self {
        let mut rule = Self::default();
        let mut words = Words::new(words);
        let mut module = String::new();
        let mut statistic = Statistic::default();
        while let Some(word) = words.next() {
            let not = word == "!";
            let Some(word) = (if not { words.next() } else { Some(word) }) else {
                rule.other(&["!"]);
                break;
            };
            match word {
                "-m" | "--match" => module = words.next().unwrap_or_default().to_owned(),
                "-j" | "--jump" | "-g" | "--goto" => {
                    module.clear();
                    target::option(&mut rule.target, word, &mut words);
                }
                // What follows the target is about it, unless another match begins.
                _ if word.starts_with("--")
                    && rule.target.name.is_some()
                    && module.is_empty()
                    && !not =>
                {
                    if !target::option(&mut rule.target, word, &mut words) {
                        rule.target_or_condition(word, &mut words);
                    }
                }
                "-c" | "--set-counters" => {
                    words.rest_of_option();
                }
                _ if module == "statistic" && statistic.take(word, not, &mut words) => {}
                _ => rule.option(&module, (word, not), &mut words),
            }
        }
        rule.matches.extend(statistic.build());
        rule
    }

    /// Hand-written rules may have conditions behind the target.
    fn target_or_condition(&mut self, word: &str, words: &mut Words) {
        match matches::is_known(word) {
            true => self.option("", (word, false), words),
            false => self.target.other(word, words),
        }
    }

    fn option(&mut self, module: &str, (word, not): (&str, bool), words: &mut Words) {
        match word {
            "--comment" => {
                self.comment = words.next().map(str::to_owned);
                return;
            }
            // Holds for whatever opens a connection.
            "--syn" if !not => return,
            "--tcp-flags" if !not => {
                let flags = words.rest_of_option();
                if !matches!(
                    flags.as_slice(),
                    ["SYN,RST" | "FIN,SYN,RST,ACK" | "SYN,RST,ACK", "SYN"]
                ) {
                    self.other(&["--tcp-flags", &flags.join(" ")]);
                }
                return;
            }
            // Of `policy`, whose other option says enough.
            "--dir" if module == "policy" => {
                words.next();
                return;
            }
            _ => {}
        }
        let (name, mut value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, vec![value]),
            _ => (word, Vec::new()),
        };
        // Old versions wrote `-s ! ADDR`.
        let not = not != (value.is_empty() && words.take("!"));
        if value.is_empty() {
            value = words.rest_of_option();
        }
        let read = match value.as_slice() {
            [one] => matches::read(name, not, one),
            _ => Read::Unknown,
        };
        match read {
            Read::Match(found) => self.matches.push(found),
            Read::Always => {}
            Read::Bad | Read::Unknown => {
                let not = if not { "! " } else { "" };
                let module = match (module, name.starts_with("--")) {
                    ("", _) | (_, false) => String::new(),
                    (module, true) => format!("-m {module} "),
                };
                self.other(&[&format!("{module}{not}{name}"), &value.join(" ")]);
            }
        }
    }

    fn other(&mut self, words: &[&str]) {
        let text = words.join(" ");
        self.matches.push(Match::Other(text.trim().to_owned()));
    }
}

/// The options of `-m statistic`, which mean something together only.
#[derive(Debug, Default)]
struct Statistic {
    not: bool,
    mode: Option<String>,
    probability: Option<String>,
    every: Option<String>,
}

impl Statistic {
    fn take(&mut self, word: &str, not: bool, words: &mut Words) -> bool {
        let place = match word {
            "--mode" => &mut self.mode,
            "--probability" => &mut self.probability,
            "--every" => &mut self.every,
            "--packet" => &mut None,
            _ => return false,
        };
        *place = words.next().map(str::to_owned);
        self.not |= not;
        true
    }

    fn build(self) -> Option<Match> {
        self.mode.as_ref()?;
        let parts = [&self.mode, &self.probability, &self.every].map(Option::as_deref);
        let found = matches::share(self.not, parts);
        found.or(Some(Match::Other("-m statistic".to_owned())))
    }
}
