//! Rules of a configuration as netfilter's.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{
    Backend, BackendPort, Config, Masquerade, MssClamp, PortRange, Protocol, Rule, Source, Target,
};

use super::Family;
use super::plan::{Act, Line, Plan, Port, When, of_protocol};

/// Every `[[forward]]`, the most specific first: netfilter takes the first that holds.
pub(super) fn forwards(plan: &mut Plan, config: &Config) {
    let family = plan.family;
    let mut rules: Vec<&Rule> = config
        .rules
        .iter()
        .filter(|rule| serves(rule, family))
        .collect();
    rules.sort_by_key(|rule| Reverse((rule.listen.address.is_some(), rule.interface.is_some())));
    let limited = rules
        .iter()
        .any(|rule| !clients(rule, family).is_everybody());
    for rule in &rules {
        for protocol in protocols(rule.tcp, rule.udp) {
            if limited {
                admission(plan, rule, protocol);
            }
            arrival(plan, rule, protocol);
        }
    }
    for rule in &rules {
        for protocol in protocols(rule.tcp, rule.udp) {
            departure(plan, config, (rule, &rules), protocol);
        }
    }
}

fn serves(rule: &Rule, family: Family) -> bool {
    match family {
        Family::V4 => rule.serves_v4(),
        Family::V6 => rule.serves_v6(),
    }
}

fn protocols(tcp: bool, udp: bool) -> impl Iterator<Item = Protocol> {
    let both = [(tcp, Protocol::Tcp), (udp, Protocol::Udp)];
    both.into_iter()
        .filter_map(|(has, protocol)| has.then_some(protocol))
}

/// Who may use a rule.
struct Clients {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl Clients {
    fn is_everybody(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

fn clients(rule: &Rule, family: Family) -> Clients {
    let of = |prefixes: &[IpNet]| -> Vec<IpNet> {
        let prefixes = prefixes
            .iter()
            .filter(|one| Family::of(one.addr()) == family);
        prefixes.copied().collect()
    };
    let allow = of(&rule.allow);
    // A prefix of everybody only says which family is meant.
    let everybody = allow.iter().any(|one| one.prefix_len() == 0);
    Clients {
        allow: if everybody { Vec::new() } else { allow },
        deny: of(&rule.deny),
    }
}

fn listens(rule: &Rule, protocol: Protocol) -> When {
    When {
        input: rule.interface.clone(),
        destination: rule.listen.address.map(IpNet::from),
        protocol: Some(protocol),
        ports: match rule.listen.ports {
            PortRange::ALL => Vec::new(),
            ports => vec![ports],
        },
        ..When::default()
    }
}

fn line(name: &str, when: When, act: Act) -> Line {
    Line {
        name: name.to_owned(),
        when,
        act,
    }
}

/// Drops new connections of clients that may not; those that may go no further in the chain.
fn admission(plan: &mut Plan, rule: &Rule, protocol: Protocol) {
    let clients = clients(rule, plan.family);
    let when = listens(rule, protocol);
    for prefix in &clients.deny {
        plan.clients
            .push(line(&rule.name, when.from(*prefix), Act::Drop));
    }
    for prefix in &clients.allow {
        plan.clients
            .push(line(&rule.name, when.from(*prefix), Act::Return));
    }
    let rest = if clients.allow.is_empty() {
        Act::Return
    } else {
        Act::Drop
    };
    plan.clients.push(line(&rule.name, when, rest));
}

fn arrival(plan: &mut Plan, rule: &Rule, protocol: Protocol) {
    let clients = clients(rule, plan.family);
    let when = listens(rule, protocol);
    let acts = targets(plan, rule);
    for prefix in &clients.deny {
        plan.arriving
            .push(line(&rule.name, when.from(*prefix), Act::Return));
    }
    let mut send = |when: &When| {
        for (ports, act) in &acts {
            let mut when = when.clone();
            if let Some(port) = ports {
                when.ports = vec![*port];
            }
            plan.arriving.push(line(&rule.name, when, act.clone()));
        }
    };
    if clients.allow.is_empty() {
        return send(&when);
    }
    clients
        .allow
        .iter()
        .for_each(|prefix| send(&when.from(*prefix)));
    plan.arriving.push(line(&rule.name, when, Act::Return));
}

/// What a rule does with which of its ports (`None`: with all of them).
fn targets(plan: &mut Plan, rule: &Rule) -> Vec<(Option<PortRange>, Act)> {
    let listen = rule.listen.ports;
    match &rule.target {
        Target::Local(to) => vec![(None, Act::Redirect(port(*to, listen)))],
        Target::Backends(backends) => {
            let ports: Vec<Port> = backends.iter().map(|one| port(one.port, listen)).collect();
            if ports.windows(2).all(|two| two[0] == two[1]) {
                let addresses = backends.iter().map(|one| one.address).collect();
                return vec![(None, Act::Send(addresses, ports[0]))];
            }
            plan.remark(format!(
                "Rule `{}` has backends with different ports; netfilter gets the first of them only.",
                rule.name
            ));
            vec![(None, Act::Send(vec![backends[0].address], ports[0]))]
        }
    }
}

fn port(port: BackendPort, listen: PortRange) -> Port {
    match port {
        BackendPort::Same => Port::Same,
        BackendPort::Single(port) => Port::Single(port),
        BackendPort::First(first) if first == listen.first => Port::Same,
        BackendPort::First(first) if listen.len() == 1 => Port::Single(first),
        BackendPort::First(first) => Port::Shift(
            listen,
            PortRange {
                first,
                last: first.saturating_add(listen.last - listen.first),
            },
        ),
    }
}

/// The ports of a backend.
fn reached(backend: &Backend, listen: PortRange) -> PortRange {
    PortRange {
        first: backend.port_for(listen, listen.first),
        last: backend.port_for(listen, listen.last),
    }
}

/// As whom a rule sends, for each backend.
fn departure(plan: &mut Plan, config: &Config, (rule, all): (&Rule, &[&Rule]), protocol: Protocol) {
    let ports = config.limits.ports;
    for backend in rule.backends() {
        let reached = reached(backend, rule.listen.ports);
        let mut when = When {
            destination: Some(IpNet::from(backend.address)),
            protocol: Some(protocol),
            ports: if reached == PortRange::ALL {
                Vec::new()
            } else {
                vec![reached]
            },
            translated: Some(true),
            ..When::default()
        };
        // Rules that send to the same place as somebody else are told apart by where packets were for.
        let shared = all.iter().any(|other| {
            let mut backends = other.backends().iter();
            other.source != rule.source && backends.any(|one| one.address == backend.address)
        });
        if shared {
            when.original = Some((rule.listen.address, rule.listen.ports));
            let same = all.iter().any(|other| {
                other.source != rule.source
                    && other.listen == rule.listen
                    && other.interface != rule.interface
            });
            if same {
                plan.remark(format!(
                    "Netfilter cannot tell by which device a packet of rule `{}` came when it leaves, and so not as \
                     whom to send it.",
                    rule.name
                ));
            }
        }
        clamp(plan, rule, protocol, backend);
        let act = match rule.source {
            Source::Preserve => {
                plan.remark(format!(
                    "Clients in the subnet of {} need a rule that masquerades what they send to it.",
                    backend.address
                ));
                if !shared {
                    continue;
                }
                Act::Return
            }
            source => translate(source, ports),
        };
        let new = line(&rule.name, when, act);
        // Each once, whatever the devices are.
        let known = plan
            .leaving
            .iter()
            .any(|one| (&one.when, &one.act) == (&new.when, &new.act));
        if !known {
            plan.leaving.push(new);
        }
    }
}

fn translate(source: Source, ports: Option<PortRange>) -> Act {
    match source {
        Source::Preserve => Act::Return,
        Source::Masquerade => Act::Masquerade(ports),
        Source::Pool { first, last } => Act::From([first, last], ports),
    }
}

/// Both directions of a connection to a backend.
fn clamp(plan: &mut Plan, rule: &Rule, protocol: Protocol, backend: &Backend) {
    let Some(size) = rule.mss_clamp.filter(|_| protocol == Protocol::Tcp) else {
        return;
    };
    let prefix = IpNet::from(backend.address);
    let reached = reached(backend, rule.listen.ports);
    let base = When {
        protocol: Some(Protocol::Tcp),
        handshake: true,
        ..When::default()
    };
    let to = When {
        destination: Some(prefix),
        ports: vec![reached],
        ..base.clone()
    };
    let back = When {
        source: Some(prefix),
        source_ports: Some(reached),
        ..base
    };
    for when in [to, back] {
        plan.clamps.push(line(&rule.name, when, Act::Clamp(size)));
    }
}

/// Every `[[masquerade]]`: those of a device first, then longer prefixes before shorter ones.
pub(super) fn masquerades(plan: &mut Plan, config: &Config) {
    let mut all: Vec<(&Masquerade, IpNet)> = Vec::new();
    for rule in &config.masquerades {
        let prefixes = rule
            .from
            .iter()
            .filter(|one| Family::of(one.addr()) == plan.family);
        all.extend(prefixes.map(|prefix| (rule, *prefix)));
    }
    all.sort_by_key(|(rule, prefix)| Reverse((rule.interface.is_some(), prefix.prefix_len())));
    if all.is_empty() {
        return;
    }
    plan.remark("UDP of a client has a port for each server; in the forwarder it has one for all.");
    for (rule, prefix) in all {
        outgoing(plan, config, rule, prefix);
        permitted(plan, rule, prefix);
    }
}

fn outgoing(plan: &mut Plan, config: &Config, rule: &Masquerade, prefix: IpNet) {
    let ports = config.limits.ports;
    let name = &rule.name;
    let when = When {
        not_output: rule.interface.clone(),
        source: Some(prefix),
        translated: Some(false),
        ..When::default()
    };
    for protocol in Protocol::ALL {
        let Some(of) = of_protocol(&rule.ports, protocol) else {
            continue;
        };
        let when = When {
            protocol: Some(protocol),
            ports: of,
            ..when.clone()
        };
        plan.leaving
            .push(line(name, when, translate(rule.source, ports)));
    }
    let echo = When {
        echo: true,
        ..when.clone()
    };
    plan.leaving
        .push(line(name, echo, translate(rule.source, None)));
    // A client is in the longest prefix that holds it, and in no other.
    plan.leaving.push(line(name, when, Act::Return));
}

/// What its clients may, and that they may nothing else.
fn permitted(plan: &mut Plan, rule: &Masquerade, prefix: IpNet) {
    let name = &rule.name;
    let when = When {
        input: rule.interface.clone(),
        source: Some(prefix),
        ..When::default()
    };
    for protocol in Protocol::ALL {
        let Some(ports) = of_protocol(&rule.ports, protocol) else {
            continue;
        };
        let when = When {
            protocol: Some(protocol),
            ports,
            ..when.clone()
        };
        plan.passing.push(line(name, when.clone(), Act::Return));
    }
    let echo = When {
        echo: true,
        ..when.clone()
    };
    plan.passing.push(line(name, echo, Act::Return));
    plan.passing.push(line(name, when.clone(), Act::Drop));
    if let Some(size) = rule.mss_clamp {
        clamp_clients(plan, name, prefix, size);
    }
}

fn clamp_clients(plan: &mut Plan, name: &str, prefix: IpNet, size: MssClamp) {
    let base = When {
        protocol: Some(Protocol::Tcp),
        handshake: true,
        ..When::default()
    };
    let to = When {
        source: Some(prefix),
        ..base.clone()
    };
    let back = When {
        destination: Some(prefix),
        ..base
    };
    for when in [to, back] {
        plan.clamps.push(line(name, when, Act::Clamp(size)));
    }
}

/// Every `[[output]]`.
pub(super) fn outputs(plan: &mut Plan, config: &Config) {
    let rules = config.outputs.iter();
    for rule in rules.filter(|rule| Family::of(rule.address) == plan.family) {
        for protocol in protocols(rule.tcp, rule.udp) {
            let when = When {
                destination: Some(IpNet::from(rule.address)),
                protocol: Some(protocol),
                ports: vec![rule.ports],
                ..When::default()
            };
            let to: Vec<IpAddr> = vec![rule.backend.address];
            let act = Act::Send(to, port(rule.backend.port, rule.ports));
            plan.own.push(line(&rule.name, when, act));
        }
    }
}
