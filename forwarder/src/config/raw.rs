//! The file as it was written: every value read and located, nothing yet compared with anything else.

use toml::de::DeTable;

use super::interface::RawInterface;
use super::masquerade::RawMasquerade;
use super::model::Config;
use super::output::RawOutput;
use super::rule::RawRule;
use super::schema;
use super::settings::RawSettings;
use super::span::Origin;
use super::suggest::nearest;
use super::tree::{self, Reader, Section};

/// Everything that could be read.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub interfaces: Vec<RawInterface>,
    pub rules: Vec<RawRule>,
    pub masquerades: Vec<RawMasquerade>,
    pub outputs: Vec<RawOutput>,
    pub settings: RawSettings,
    /// Whether the top level has a key of this kind at all, right or wrong.
    pub mentions: Mentions,
}

/// What stands at the top level; "there is none" is said only of what is not there in any shape.
#[derive(Debug)]
pub(super) struct Mentions {
    pub anything: bool,
    pub interface: bool,
    /// A table of rules, of whatever kind.
    pub rules: bool,
}

impl RawConfig {
    pub fn read<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>) -> Self {
        let mentions = read_top_level(reader, root);
        let interfaces = Section::list(reader, root, &schema::INTERFACE);
        let rules = Section::list(reader, root, &schema::FORWARD);
        let masquerades = Section::list(reader, root, &schema::MASQUERADE);
        let outputs = Section::list(reader, root, &schema::OUTPUT);
        Self {
            interfaces: interfaces
                .into_iter()
                .map(|section| RawInterface::read(reader, section))
                .collect(),
            rules: (1..)
                .zip(rules)
                .map(|(position, section)| RawRule::read(reader, section, position))
                .collect(),
            masquerades: (1..)
                .zip(masquerades)
                .map(|(position, section)| RawMasquerade::read(reader, section, position))
                .collect(),
            outputs: (1..)
                .zip(outputs)
                .map(|(position, section)| RawOutput::read(reader, section, position))
                .collect(),
            settings: RawSettings::read(reader, root),
            mentions,
        }
    }

    /// `None` if any part could not be read; its problem has been noted then.
    pub fn build(self, origin: &Origin) -> Option<Config> {
        let interfaces: Option<Vec<_>> = self
            .interfaces
            .into_iter()
            .map(RawInterface::build)
            .collect();
        let rules: Option<Vec<_>> = self.rules.into_iter().map(RawRule::build).collect();
        let masquerades = self.masquerades.into_iter().map(RawMasquerade::build);
        let outputs = self.outputs.into_iter().map(RawOutput::build);
        Some(Config {
            interfaces: interfaces?,
            rules: rules?,
            masquerades: masquerades.collect::<Option<_>>()?,
            outputs: outputs.collect::<Option<_>>()?,
            limits: self.settings.limits,
            timeouts: self.settings.timeouts,
            control: self.settings.control,
            metrics: self.settings.metrics,
            original_destination: self.settings.original_destination,
            log: self.settings.log,
            flow_log: self.settings.flow_log,
            history: self.settings.history,
            origin: origin.clone(),
        })
    }
}

fn read_top_level(reader: &mut Reader, root: &DeTable) -> Mentions {
    let known: Vec<&str> = schema::TABLES.iter().map(|table| table.key).collect();
    let mut mentions = Mentions {
        anything: false,
        interface: false,
        rules: false,
    };
    for (key, _) in root {
        let text = &**key.get_ref();
        mentions.anything = true;
        // A mistyped one is there as well: its problem is the name.
        let meant = nearest(text, known.iter().copied()).unwrap_or(text);
        mentions.interface |= meant == "interface";
        mentions.rules |= matches!(meant, "forward" | "masquerade" | "output");
        if !known.contains(&text) {
            reader.push(tree::unknown_key(key, &known, ""));
        }
    }
    mentions
}
