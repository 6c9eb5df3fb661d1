//! `[[forward]]`.

use ipnet::IpNet;

use super::keys;
use super::listen;
use super::model::{Listen, Protocol, Source};
use super::model_rules::{Families, MssClamp, OnChange, Rule};
use super::scalar;
use super::source;
use super::span::{Located, Span};
use super::targets::{self, RawTarget};
use super::tree::{Reader, Section};

/// A rule as it was written: parts that could not be read are `None`, those left out have their default.
#[derive(Debug)]
pub(super) struct RawRule {
    pub header: Span,
    pub name: Option<Located<String>>,
    pub protocols: Option<Vec<Protocol>>,
    pub interface: Option<Option<Located<String>>>,
    pub listen: Option<Located<Listen>>,
    pub target: Option<RawTarget>,
    pub source: Option<Located<Source>>,
    pub allow: Option<Vec<Located<IpNet>>>,
    pub deny: Option<Vec<Located<IpNet>>>,
    pub mss_clamp: Option<Option<Located<MssClamp>>>,
    pub reset_unknown: Option<Located<bool>>,
    shadow: Option<bool>,
    on_change: Option<Option<OnChange>>,
}

impl RawRule {
    /// `position` counts from 1 and makes the default name.
    pub fn read<'a>(reader: &mut Reader<'a>, section: Section<'a>, position: usize) -> Self {
        let preserve = Located {
            value: Source::default(),
            span: section.span,
        };
        let everybody = Some("leave `allow` out to let everybody in");
        Self {
            header: section.span,
            name: keys::name(reader, &section, ("forward", position)),
            protocols: keys::protocols(reader, &section),
            interface: keys::interface(reader, &section),
            listen: section
                .require(reader, "listen")
                .and_then(|value| listen::read(reader, value)),
            target: section
                .require(reader, "to")
                .and_then(|value| targets::read(reader, value)),
            source: section
                .get("source")
                .map_or(Some(preserve), |value| source::forward(reader, value)),
            allow: section.get("allow").map_or(Some(Vec::new()), |value| {
                keys::prefixes(reader, value, everybody)
            }),
            deny: section.get("deny").map_or(Some(Vec::new()), |value| {
                keys::prefixes(reader, value, None)
            }),
            mss_clamp: keys::mss_clamp(reader, &section),
            shadow: keys::shadow(reader, &section),
            reset_unknown: match section.get("reset-unknown") {
                None => Some(Located {
                    value: false,
                    span: section.span,
                }),
                Some(value) => scalar::boolean(reader, value).map(|flag| Located {
                    value: flag,
                    span: value.span,
                }),
            },
            on_change: keys::on_change(reader, &section),
        }
    }

    pub fn has(&self, protocol: Protocol) -> bool {
        self.protocols
            .as_ref()
            .is_some_and(|protocols| protocols.contains(&protocol))
    }

    /// The families it serves, if what decides about them could be read; see [`Rule::serves_v4`].
    pub fn families(&self) -> Option<Families> {
        if let Some(address) = self.listen.as_ref()?.value.address {
            return Some(Families::of(address));
        }
        match self.target.as_ref()? {
            RawTarget::Backends(backends) => {
                backends.first().map(|one| Families::of(one.value.address))
            }
            RawTarget::Local(_) => {
                let allow = self.allow.as_ref()?;
                Some(Families::of_clients(
                    allow.iter().map(|one| one.value.addr()),
                ))
            }
        }
    }

    pub fn build(self) -> Option<Rule> {
        let (tcp, udp) = (self.has(Protocol::Tcp), self.has(Protocol::Udp));
        let listen = self.listen?;
        let values =
            |prefixes: Vec<Located<IpNet>>| prefixes.into_iter().map(|one| one.value).collect();
        Some(Rule {
            name: self.name?.value,
            tcp,
            udp,
            interface: self.interface?.map(|name| name.value),
            listen: listen.value,
            target: self.target?.build(),
            source: self.source?.value,
            allow: values(self.allow?),
            deny: values(self.deny?),
            mss_clamp: self.mss_clamp?.map(|clamp| clamp.value),
            reset_unknown: self.reset_unknown?.value,
            shadow: self.shadow?,
            on_change: self.on_change?,
            span: listen.span,
        })
    }
}
