//! Rules as listings show them, without what they have done.

use crate::{
    config::{
        BackendPort, Config, Listen, Masquerade, Mode, Output, PortRange, Protocol, Rule, Source,
        Target,
    },
    report::{Kind, RuleReport},
};

/// Every rule of all three kinds.
pub(super) fn rules(config: &Config) -> impl Iterator<Item = RuleReport> + '_ {
    let forwards = config.rules.iter().map(|rule| RuleReport {
        is_shadow: rule.shadow || is_watched(config, rule.interface.as_deref()),
        ..described_forward(rule)
    });
    let masquerades = config.masquerades.iter().map(|rule| RuleReport {
        is_shadow: rule.shadow || is_watched(config, rule.interface.as_deref()),
        ..described_masquerade(rule)
    });
    let outputs = config.outputs.iter().map(described_output);
    forwards.chain(masquerades).chain(outputs)
}

/// Whether everything that a rule of this interface, or of all of them, may meet is only watched.
fn is_watched(config: &Config, interface: Option<&str>) -> bool {
    let mut its = config
        .interfaces
        .iter()
        .filter(|one| interface.is_none_or(|name| name == one.name));
    its.all(|one| one.mode == Mode::Shadow)
}

fn protocols(tcp: bool, udp: bool) -> String {
    let taken: Vec<_> = [(tcp, "tcp"), (udp, "udp")]
        .into_iter()
        .filter_map(|(taken, name)| taken.then_some(name))
        .collect();
    taken.join(",")
}

fn described_forward(rule: &Rule) -> RuleReport {
    let ports = rule.listen.ports;
    RuleReport {
        kind: Kind::Forward,
        name: rule.name.clone(),
        protocol: protocols(rule.tcp, rule.udp),
        interface: rule.interface.clone(),
        listen: rule.listen.to_string(),
        to: match &rule.target {
            Target::Backends(backends) => backends
                .iter()
                .map(|backend| backend.display(ports))
                .collect(),
            Target::Local(port) => vec![local(*port, ports)],
        },
        source: rule.source.to_string(),
        ..RuleReport::default()
    }
}

/// `local:PORT`, as a file has it.
fn local(port: BackendPort, listen: PortRange) -> String {
    let ports = match port {
        BackendPort::Same => listen,
        BackendPort::Single(port) => PortRange {
            first: port,
            last: port,
        },
        BackendPort::First(first) => PortRange {
            first,
            last: first.saturating_add(listen.last - listen.first),
        },
    };
    format!("local:{ports}")
}

fn described_masquerade(rule: &Masquerade) -> RuleReport {
    let all = rule.ports.is_empty();
    let takes = |protocol| all || rule.ports.iter().any(|ports| ports.protocol == protocol);
    let from: Vec<_> = rule.from.iter().map(ToString::to_string).collect();
    RuleReport {
        kind: Kind::Masquerade,
        name: rule.name.clone(),
        protocol: protocols(takes(Protocol::Tcp), takes(Protocol::Udp)),
        interface: rule.interface.clone(),
        listen: format!("from {}", from.join(",")),
        to: rule.ports.iter().map(ToString::to_string).collect(),
        source: rule.source.to_string(),
        ..RuleReport::default()
    }
}

fn described_output(rule: &Output) -> RuleReport {
    RuleReport {
        kind: Kind::Output,
        name: rule.name.clone(),
        protocol: protocols(rule.tcp, rule.udp),
        listen: Listen {
            address: Some(rule.address),
            ports: rule.ports,
        }
        .to_string(),
        to: vec![rule.backend.display(rule.ports)],
        source: Source::Preserve.to_string(),
        ..RuleReport::default()
    }
}
