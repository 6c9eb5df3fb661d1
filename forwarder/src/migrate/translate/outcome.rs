//! What becomes of a kind of packets, as a rule of the forwarder's can say it.

use std::net::IpAddr;

use crate::config::{PortRange, Source};
use crate::migrate::clients::ClientSet;
use crate::migrate::journal::{Journal, Kind, OriginId};

use super::course::{Course, Decision, End};
use super::target::target;

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
    // By clients: of whom it takes all, or parts that are all of them together.
    let mut groups: Vec<(&ClientSet, Vec<(f64, &To)>)> = Vec::new();
    for (decision, target) in course.decisions.iter().zip(targets) {
        let part = (decision.share, target);
        match groups
            .iter_mut()
            .find(|(clients, _)| **clients == decision.clients)
        {
            Some((_, parts)) => parts.push(part),
            None => groups.push((&decision.clients, vec![part])),
        }
    }
    let mut all = None;
    for (_, parts) in groups {
        let to = spread(&parts)?;
        if all.get_or_insert_with(|| to.clone()) != &to {
            return Err("where it sends depends on the client, and a listener sends all alike");
        }
    }
    all.ok_or("it sends nowhere")
}

/// The backends of equal shares.
fn spread(parts: &[(f64, &To)]) -> Result<To, &'static str> {
    if let [(share, one)] = parts
        && *share >= 1.0
    {
        return Ok((*one).clone());
    }
    let sum: f64 = parts.iter().map(|(share, _)| share).sum();
    if (sum - 1.0).abs() > 0.01 {
        return Err("it takes only a part of the connections");
    }
    let equal = 1.0 / parts.len() as f64;
    if parts.iter().any(|(share, _)| (share - equal).abs() > 0.01) {
        return Err("backends have equal shares, and these have not");
    }
    let mut all = Vec::new();
    for (_, target) in parts {
        match target {
            To::Backends(backends) => all.extend(backends.iter().copied()),
            To::Local(_) => return Err("this host is no backend beside others"),
        }
    }
    Ok(To::Backends(all))
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
