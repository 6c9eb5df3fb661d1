//! What becomes of a kind of packets, as a rule of the forwarder's can say it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{PortRange, Source};
use crate::migrate::clients::ClientSet;
use crate::migrate::journal::{Journal, Kind, OriginId};
use crate::migrate::ruleset::{Destination, Match, Nat};

use super::walk::{Course, Decision, End};

/// As many backends as one listener gets.
const MOST_BACKENDS: usize = 256;

/// What becomes of packets of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// Nothing.
    Pass,
    /// Something that no configuration can say; the journal has the reason.
    Stuck,
    Forward(Box<Forward>),
}

impl Outcome {
    pub fn forward(&self) -> Option<&Forward> {
        match self {
            Self::Forward(forward) => Some(forward),
            Self::Pass | Self::Stuck => None,
        }
    }
}

/// Where packets go, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    pub to: To,
    pub source: Source,
    pub clients: ClientSet,
    /// The rules that say so.
    pub origins: Vec<OriginId>,
    /// The last one of those that say where it sends.
    pub rule: OriginId,
    /// What to know about it.
    pub remarks: Vec<(OriginId, String)>,
    /// Ports that translated sources may have.
    pub source_ports: Option<PortRange>,
}

/// Equal are those that do the same, whichever rules say so.
impl PartialEq for Forward {
    fn eq(&self, other: &Self) -> bool {
        (&self.to, self.source, &self.clients) == (&other.to, other.source, &other.clients)
    }
}

/// Where packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    Local(Port),
    Backends(Vec<(IpAddr, Port)>),
}

/// The new port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Same,
    Single(u16),
    /// That many ports further.
    Shift(i32),
}

impl Port {
    /// The ports that `ports` become.
    pub fn of(self, ports: PortRange) -> PortRange {
        let shifted = |port: u16, by: i32| {
            u16::try_from(i32::from(port) + by).unwrap_or(if by > 0 { u16::MAX } else { 1 })
        };
        match self {
            Self::Same => ports,
            Self::Single(port) => PortRange {
                first: port,
                last: port,
            },
            Self::Shift(by) => PortRange {
                first: shifted(ports.first, by),
                last: shifted(ports.last, by),
            },
        }
    }
}

/// Packets as they come to the rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kinds {
    pub ports: PortRange,
    /// The address they are for, if it is a certain one.
    pub destination: Option<IpAddr>,
}

/// Who goes where; [`settle`] leaves the source to be found.
pub(super) struct Settled {
    pub to: To,
    pub clients: ClientSet,
    pub origins: Vec<OriginId>,
    pub rule: OriginId,
    pub remarks: Vec<(OriginId, String)>,
}

/// One target for all clients that are translated; `Ok(None)` where none is. Reasons why there is none go to the
/// journal.
pub(super) fn settle(
    course: &Course,
    kinds: Kinds,
    own: &[IpAddr],
    journal: &mut Journal,
) -> Result<Option<Settled>, ()> {
    let (Some(first), Some(last)) = (course.decisions.first(), course.decisions.last()) else {
        return Ok(None);
    };
    clear(course, journal)?;
    let mut targets = Vec::new();
    for decision in &course.decisions {
        match target(decision, kinds, own) {
            Ok(to) => targets.push(to),
            Err(reason) => {
                for other in &course.decisions {
                    journal.note(Kind::Untranslated, other.rule.origin, reason.clone());
                }
                return Err(());
            }
        }
    }
    let to = match shared(course, &targets) {
        Ok(to) => to,
        Err(reason) => {
            for decision in &course.decisions {
                journal.note(Kind::Untranslated, decision.rule.origin, reason);
            }
            return Err(());
        }
    };
    if matches!(to, To::Local(Port::Same)) {
        return Ok(None);
    }
    let clients = course.decisions.iter().skip(1);
    let clients = clients.fold(first.clients.clone(), |all, one| all.unite(&one.clients));
    let mut origins: Vec<OriginId> = course
        .decisions
        .iter()
        .flat_map(Decision::origins)
        .collect();
    let mut remarks: Vec<_> = course
        .decisions
        .iter()
        .flat_map(|one| one.assumed.clone())
        .collect();
    for decision in &course.decisions {
        remarks.extend(flags(decision));
        if !decision.by_protocol {
            let why = "iptables takes all protocols, a `[[forward]]` TCP and UDP".to_owned();
            remarks.push((decision.rule.origin, why));
        }
    }
    // Rules that spare clients are told by who is left.
    if !clients.is_everybody() {
        origins.extend(&course.spared);
    }
    Ok(Some(Settled {
        to,
        clients,
        origins,
        rule: last.rule.origin,
        remarks,
    }))
}

/// `Err` if any decision is unclear; all of them are noted then, since each has a part in what happens.
fn clear(course: &Course, journal: &mut Journal) -> Result<(), ()> {
    let unclear = course.decisions.iter().find_map(|one| match &one.end {
        End::Unclear(reason) => Some((one.rule.origin, reason)),
        End::Nat(_) => None,
    });
    let Some((origin, _)) = unclear else {
        return Ok(());
    };
    for decision in &course.decisions {
        let reason = match &decision.end {
            End::Unclear(reason) => reason.clone(),
            End::Nat(_) => format!(
                "{} takes some of its packets, or leaves them to it, and has no equivalent",
                journal.places(&[origin])
            ),
        };
        journal.note(Kind::Untranslated, decision.rule.origin, reason);
    }
    Err(())
}

/// What all decisions come to together.
fn shared(course: &Course, targets: &[To]) -> Result<To, &'static str> {
    let decisions = &course.decisions;
    let share: f64 = decisions.iter().map(|one| one.share).sum();
    let parts = decisions.iter().any(|one| one.share < 1.0);
    let same = targets.windows(2).all(|two| two[0] == two[1]);
    let clients = decisions
        .windows(2)
        .all(|two| two[0].clients == two[1].clients);
    match targets {
        [first, ..] if same && !parts => Ok(first.clone()),
        _ if !clients => {
            Err("where it sends depends on the client, and a listener sends all alike")
        }
        _ if !parts => Err("it is one of several targets of the same packets"),
        _ if (share - 1.0).abs() > 0.01 => Err("it takes only a part of the connections"),
        _ => {
            let equal = 1.0 / targets.len() as f64;
            if decisions.iter().any(|one| (one.share - equal).abs() > 0.01) {
                return Err("backends have equal shares, and these have not");
            }
            let mut all = Vec::new();
            for target in targets {
                match target {
                    To::Backends(backends) => all.extend(backends.iter().copied()),
                    To::Local(_) => return Err("this host is no backend beside others"),
                }
            }
            Ok(To::Backends(all))
        }
    }
}

fn target(decision: &Decision, kinds: Kinds, own: &[IpAddr]) -> Result<To, String> {
    let End::Nat(nat) = &decision.end else {
        return Err("it is unclear".to_owned());
    };
    match nat {
        Nat::Redirect { ports, .. } => {
            let port = match ports {
                None => Port::Same,
                Some(ports) => new_port(*ports, None, kinds.ports)?,
            };
            let here = kinds.destination.is_some_and(|one| own.contains(&one));
            match port {
                Port::Same if !here => Err(
                    "it takes what is for other hosts to the same port of this one, which `local:` cannot"
                        .to_owned(),
                ),
                Port::Single(port) if kinds.ports.first == port && kinds.ports.len() == 1 => Err(format!(
                    "it takes what is for other hosts to the same port of this one, which `local:{port}` cannot"
                )),
                port => Ok(To::Local(port)),
            }
        }
        Nat::Destination(to) => {
            let named = decision
                .rule
                .matches
                .iter()
                .any(|one| is_only(one, kinds.destination));
            destination(to, kinds, (own, named))
        }
        Nat::Source { .. } | Nat::Masquerade { .. } => {
            Err("it translates the source of packets that arrive".to_owned())
        }
    }
}

/// Whether a condition is on this destination alone.
fn is_only(condition: &Match, address: Option<IpAddr>) -> bool {
    let Match::Destination(list) = condition else {
        return false;
    };
    let alone = address.map(|address| vec![IpNet::from(address)]);
    !list.not && alone.is_some_and(|alone| alone == list.value)
}

/// `named`: whether the rule names the destination that packets have.
fn destination(
    to: &Destination,
    kinds: Kinds,
    (own, named): (&[IpAddr], bool),
) -> Result<To, String> {
    let port = match to.ports {
        None => Port::Same,
        Some(ports) => new_port(ports, to.base, kinds.ports)?,
    };
    let mut addresses = Vec::new();
    for range in &to.addresses {
        let left = MOST_BACKENDS - addresses.len();
        addresses.extend(range.list(left).ok_or_else(|| {
            format!("it sends to more than {MOST_BACKENDS} addresses, and a rule would list each")
        })?);
    }
    if addresses.is_empty() {
        addresses.extend(kinds.destination);
    }
    let Some(first) = addresses.first() else {
        return Err(
            "it changes the port of whatever address, and a rule needs an address to send to"
                .to_owned(),
        );
    };
    if first.is_loopback() {
        return Err(
            "it sends to the loopback address; `to = \"local:PORT\"` sends to a program that listens on all addresses"
                .to_owned(),
        );
    }
    // An address that a rule names as the one that packets are for, before and after, is most likely this host's own.
    let here = own.contains(first) || named && Some(*first) == kinds.destination;
    match (here, addresses.len()) {
        (true, 1) if port == Port::Single(kinds.ports.first) && kinds.ports.len() == 1 => {
            Ok(To::Local(Port::Same))
        }
        (true, 1) => Ok(To::Local(port)),
        _ => Ok(To::Backends(
            addresses.into_iter().map(|one| (one, port)).collect(),
        )),
    }
}

/// The port that `ports` of a target make of `from`, which is either inside of them or outside.
fn new_port(ports: PortRange, base: Option<u16>, from: PortRange) -> Result<Port, String> {
    match base {
        None if ports.len() == 1 => Ok(Port::Single(ports.first)),
        None if ports.contains(from.first) => Ok(Port::Same),
        None => Err(format!(
            "it takes any of the ports {ports}, and which one differs between kernels"
        )),
        Some(base) => {
            let last = u32::from(base) + ports.len() - 1;
            let fits = base <= from.first && u32::from(from.last) <= last;
            let shift = i32::from(ports.first) - i32::from(base);
            match shift {
                _ if !fits => Err(format!("its ports {ports} begin anew beyond port {last}")),
                0 => Ok(Port::Same),
                shift => Ok(Port::Shift(shift)),
            }
        }
    }
}

/// Words about the choice of addresses and ports.
pub(super) fn flags(decision: &Decision) -> Option<(OriginId, String)> {
    let End::Nat(nat) = &decision.end else {
        return None;
    };
    let flags = nat.flags();
    (!flags.is_empty()).then(|| {
        let words = flags.join(" ");
        let why = format!("`{words}` has no equivalent: ports are kept where they are free, and one client is always one address");
        (decision.rule.origin, why)
    })
}
