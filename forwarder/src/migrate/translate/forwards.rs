//! Rules as a configuration has them: named, complete, and such that `forwarder check` takes them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{
    self, Backend, BackendPort, Filtering, Masquerade, MssClamp, PortRange, Protocol, Rule, Span,
    Target,
};
use crate::migrate::draft::Written;
use crate::migrate::journal::{Journal, Kind, OriginId};
use crate::migrate::names::{Names, service};
use crate::migrate::render;
use crate::migrate::ruleset::Family;

use super::Clamped;
use super::listeners::Listener;
use super::masquerades::Outbound;
use super::outcome::{Port, To};
use super::whole::Comments;

/// `[[forward]]`, in the order of the rules that they were made from.
pub(super) fn write(
    listeners: Vec<(Family, Listener)>,
    clamp: &Clamped,
    (comments, names): (&Comments, &mut Names),
    journal: &mut Journal,
) -> Vec<Written<Rule>> {
    let mut listeners = both_families(listeners);
    listeners.sort_by_key(|(_, one)| {
        let origin = one.forward.origins.iter().min().copied();
        (origin, one.listen.ports.first)
    });
    let mut all = Vec::new();
    for (family, listener) in listeners {
        let origins = listener.forward.origins.clone();
        let name = names.take(&wishes(comments.destination(&origins), &listener));
        let remarks = listener.forward.remarks.clone();
        let deciding = listener.forward.rule;
        let rule = rule(family, listener, name, clamp);
        let origins = with_clamp(origins, rule.mss_clamp, clamp);
        let written = Written::new(rule, origins);
        let text = render::forward(&written.rule);
        let interface = written.rule.interface.as_deref();
        if accept(&text, interface, &written.origins, journal).is_none() {
            continue;
        }
        for what in differences(&written.rule) {
            journal.note(Kind::Differs, deciding, what);
        }
        remark(remarks, journal);
        all.push(written);
    }
    all
}

/// What a rule may be called, the best first.
fn wishes(comment: &str, listener: &Listener) -> Vec<String> {
    let service = service(&listener.protocols, listener.listen.ports);
    let mut wishes = vec![comment.to_owned()];
    if comment.is_empty() {
        wishes.push(service);
    } else {
        wishes.push(format!("{comment}-{service}"));
    }
    let plain = wishes[1].clone();
    let interface = listener.interface.clone();
    let address = listener.listen.address.map(|one| one.to_string());
    wishes.extend(
        interface
            .into_iter()
            .chain(address)
            .map(|place| format!("{plain}-{place}")),
    );
    wishes
}

/// What such a rule does otherwise than netfilter.
fn differences(rule: &Rule) -> Vec<&'static str> {
    let mut all = Vec::new();
    let by_family = rule.deny.is_empty() && rule.allow.iter().all(|one| one.prefix_len() == 0);
    if !by_family {
        all.push(
            "packets of other clients are dropped; iptables leaves them as they are, for whoever they are addressed to",
        );
    }
    let ports = rule.listen.ports;
    if ports.len() > 1 && ports.first <= OWN_PORTS.last && OWN_PORTS.first <= ports.last {
        all.push(
            "replies to connections that this host makes from these ports are taken as well; keep `listen` clear of \
             `ip_local_port_range`",
        );
    }
    all
}

/// What `ip_local_port_range` is on most hosts.
const OWN_PORTS: PortRange = PortRange {
    first: 32_768,
    last: 60_999,
};

/// A rule from `*` to a port of this host serves both families if both have it; the family is `None` then.
fn both_families(listeners: Vec<(Family, Listener)>) -> Vec<(Option<Family>, Listener)> {
    let mut all: Vec<(Option<Family>, Listener)> = Vec::new();
    for (family, listener) in listeners {
        let twin = |one: &&mut (Option<Family>, Listener)| {
            let (other, known) = (one.0, &one.1);
            other.is_some_and(|other| other != family)
                && known.forward.to == listener.forward.to
                && known.listen == listener.listen
                && (&known.interface, &known.protocols)
                    == (&listener.interface, &listener.protocols)
                && known.forward.clients.is_everybody()
                && listener.forward.clients.is_everybody()
        };
        let local = matches!(listener.forward.to, To::Local(_));
        let known = if local {
            all.iter_mut().find(twin)
        } else {
            None
        };
        match known {
            Some((family, known)) => {
                *family = None;
                known.forward.origins.extend(listener.forward.origins);
                known.forward.remarks.extend(listener.forward.remarks);
            }
            None => all.push((Some(family), listener)),
        }
    }
    all
}

fn rule(family: Option<Family>, listener: Listener, name: String, clamp: &Clamped) -> Rule {
    let tcp = listener.protocols.contains(&Protocol::Tcp);
    let ports = listener.listen.ports;
    let (mut allow, mut deny) = listener.forward.clients.lists();
    // Nobody is forwarded who has such an address, so nobody needs to be kept out.
    deny.retain(|one| !matches!(one, IpNet::V6(one) if one.addr().is_unicast_link_local() || one.addr().is_multicast()));
    let target = match &listener.forward.to {
        To::Local(port) => Target::Local(backend_port(*port, ports)),
        To::Backends(all) => Target::Backends(all.iter().map(|one| backend(*one, ports)).collect()),
    };
    let local = matches!(target, Target::Local(_));
    if let Some(family) = family
        && local
        && listener.listen.address.is_none()
        && allow.is_empty()
    {
        allow.push(family.everything());
    }
    Rule {
        name,
        tcp,
        udp: listener.protocols.contains(&Protocol::Udp),
        interface: listener.interface,
        listen: listener.listen,
        target,
        source: listener.forward.source,
        allow,
        deny,
        mss_clamp: size(clamp, tcp && !local),
        reset_unknown: false,
        shadow: false,
        on_change: None,
        span: Span::default(),
    }
}

fn size(clamp: &Clamped, fits: bool) -> Option<MssClamp> {
    clamp.as_ref().filter(|_| fits).map(|(size, _)| *size)
}

/// The rules that a rule was made from, with those that say what segments it lets through.
fn with_clamp(mut origins: Vec<OriginId>, set: Option<MssClamp>, clamp: &Clamped) -> Vec<OriginId> {
    if let (Some(_), Some((_, clamping))) = (set, clamp) {
        origins.extend(clamping);
    }
    origins
}

pub(super) fn backend((address, port): (IpAddr, Port), ports: PortRange) -> Backend {
    Backend {
        address,
        port: backend_port(port, ports),
    }
}

fn backend_port(port: Port, ports: PortRange) -> BackendPort {
    match port {
        Port::Same => BackendPort::Same,
        Port::Single(port) => BackendPort::Single(port),
        Port::Shift(_) if ports.len() == 1 => BackendPort::Single(port.of(ports).first),
        Port::Shift(_) => BackendPort::First(port.of(ports).first),
    }
}

/// `[[masquerade]]`.
pub(super) fn outbound(
    outbound: Outbound,
    clamp: &Clamped,
    (comments, names): (&Comments, &mut Names),
    journal: &mut Journal,
) -> Option<Written<Masquerade>> {
    let origins: Vec<OriginId> = outbound.way.origins.iter().copied().collect();
    let from = outbound.from.first()?;
    let instead = match (&outbound.interface, from.prefix_len()) {
        (Some(interface), 0) => format!("clients-{interface}"),
        _ => format!("clients-{from}"),
    };
    let ports = outbound.way.ports;
    let tcp = ports.is_empty() || ports.iter().any(|one| one.protocol == Protocol::Tcp);
    let rule = Masquerade {
        name: names.take(&[comments.source(&origins).to_owned(), instead]),
        from: outbound.from,
        interface: outbound.interface,
        ports,
        source: outbound.way.source,
        filtering: Filtering::default(),
        shadow: false,
        mss_clamp: size(clamp, tcp),
        on_change: None,
        span: Span::default(),
    };
    let origins = with_clamp(origins, rule.mss_clamp, clamp);
    let written = Written::new(rule, origins);
    let text = render::masquerade(&written.rule);
    let interface = written.rule.interface.as_deref();
    accept(&text, interface, &written.origins, journal)?;
    if let Some(devices) = outbound.way.devices {
        let devices: Vec<String> = devices.into_iter().collect();
        let why = format!(
            "iptables translates only what leaves by {}, a `[[masquerade]]` whatever its clients send to other hosts",
            devices.join(" or ")
        );
        journal.note_all(Kind::Differs, &written.origins, &why);
    }
    remark(outbound.way.remarks, journal);
    journal.remark(
        "A [[masquerade]] is the filter as well: its clients may use its `ports` and echo, and nothing else; what the \
         chain FORWARD lets through or not is not asked.",
    );
    Some(written)
}

/// Asks the configuration's own checks about a rule by itself. If they refuse it, it is not written, and they say why.
pub(super) fn accept(
    rule: &str,
    interface: Option<&str>,
    origins: &[OriginId],
    journal: &mut Journal,
) -> Option<()> {
    let interface = toml::Value::String(interface.unwrap_or("eth0").to_owned());
    let text = format!("[[interface]]\nname = {interface}\n{rule}");
    match config::parse("rule", &text) {
        Ok(_) => {
            origins
                .iter()
                .for_each(|origin| journal.translated(*origin));
            Some(())
        }
        Err(errors) => {
            journal.note_all(Kind::Untranslated, origins, errors.first());
            None
        }
    }
}

pub(super) fn remark(remarks: Vec<(OriginId, String)>, journal: &mut Journal) {
    let remarks: BTreeSet<(OriginId, String)> = remarks.into_iter().collect();
    for (origin, text) in remarks {
        journal.note(Kind::Differs, origin, text);
    }
}
