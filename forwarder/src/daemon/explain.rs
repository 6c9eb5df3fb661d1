//! What the daemon tells of a packet that somebody describes.

use std::net::SocketAddr;

use anyhow::Context as _;
use forwarder_common::{
    flow::{DELIVER, FlowKey},
    reason::{Reason, Verdict},
};

use super::published::Setup;
use crate::{
    control::FlowProtocol,
    datapath::{Entry, Flow, Key, Link, Pins, Program, Ran, Shot, Trial, Tried},
    explain::{self, ExplainQuery, Tag},
    report::{Explanation, Hook, Leaving, Outcome, StageReport},
};

/// Return values of programs (include/uapi/linux/bpf.h and pkt_cls.h).
const XDP_TX: u32 = 3;
/// See [`XDP_TX`].
const XDP_REDIRECT: u32 = 4;
/// See [`XDP_TX`].
const TC_ACT_REDIRECT: u32 = 7;

/// Runs the packet that `query` describes through the programs, and tells what they did. Nothing comes of it.
///
/// # Errors
/// There is no such interface, or the kernel refuses something.
pub(super) fn explain(setup: &Setup, query: &ExplainQuery) -> anyhow::Result<Explanation> {
    let (link, hook) = device(setup, &query.interface)?;
    let key = key(query);
    let (first, slow) = shots(setup, query, link, hook)?;
    let tried = Trial::load(Pins::here()?)?.run(&key, &first, slow.as_ref())?;
    let mut telling = Telling {
        setup,
        query,
        key,
        tried: &tried,
        stages: Vec::new(),
    };
    telling.tell()
}

/// The configured interface `name` and where its program is.
fn device<'a>(setup: &'a Setup, name: &str) -> anyhow::Result<(&'a Link, Hook)> {
    let configured = setup.interfaces.iter().find(|one| one.name == name);
    let configured = configured.with_context(|| {
        let names: Vec<_> = setup
            .interfaces
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        format!(
            "packets on `{name}` are not looked at; expected one of the configured interfaces, {}",
            names.join(", ")
        )
    })?;
    let link = setup.network.link(name);
    let link = link.with_context(|| format!("the device `{name}` does not exist at the moment"))?;
    Ok((link, configured.hook))
}

fn key(query: &ExplainQuery) -> Key {
    let (from, to) = (query.source, query.destination);
    let (number, to_port) = match query.protocol {
        FlowProtocol::Tcp => (6, to.port()),
        FlowProtocol::Udp => (17, to.port()),
        FlowProtocol::Icmp if from.is_ipv4() => (1, 0),
        FlowProtocol::Icmp => (58, 0),
    };
    FlowKey::new(
        from.ip(),
        to.ip(),
        from.port().to_be(),
        to_port.to_be(),
        number,
    )
}

/// Where the packet is met first, and where what XDP cannot finish.
fn shots(
    setup: &Setup,
    query: &ExplainQuery,
    link: &Link,
    hook: Hook,
) -> anyhow::Result<(Shot, Option<Shot>)> {
    let shot = |program, frame, device| Shot {
        program,
        frame,
        device,
    };
    let plain = explain::build(query, link.mac, None)?;
    if query.output {
        return Ok((shot(Program::Egress, plain, link.index), None));
    }
    // Frames of a VLAN device are met by XDP on the device that carries them, with their tag.
    let carrier = link.vlan.filter(|vlan| {
        let mut interfaces = setup.interfaces.iter();
        interfaces.any(|one| one.index == Some(vlan.lower) && is_xdp(one.hook))
    });
    let slow = shot(Program::Tc, plain.clone(), link.index);
    Ok(match carrier {
        Some(vlan) => {
            let tag = Tag {
                protocol: vlan.protocol,
                id: vlan.id,
            };
            let tagged = explain::build(query, link.mac, Some(tag))?;
            (shot(Program::Xdp, tagged, vlan.lower), Some(slow))
        }
        None if is_xdp(hook) => (shot(Program::Xdp, plain, link.index), Some(slow)),
        None => (slow, None),
    })
}

fn is_xdp(hook: Hook) -> bool {
    matches!(hook, Hook::Xdp | Hook::XdpGeneric)
}

/// Turns what the programs did into words.
struct Telling<'a> {
    setup: &'a Setup,
    query: &'a ExplainQuery,
    key: Key,
    tried: &'a Tried,
    stages: Vec<StageReport>,
}

impl Telling<'_> {
    fn tell(&mut self) -> anyhow::Result<Explanation> {
        let tried = self.tried;
        let (packet, _) = explain::read(&explain::build(self.query, [0; 6], None)?)?;
        let last = tried.runs.last().context("no program ran")?;
        let refused = last.reasons.last().copied();
        self.hook();
        let rule = self.flow().map(|slot| self.rule_name(slot));
        for ran in tried.runs.iter().filter(|ran| ran.is_handed_over()) {
            if let Some(reason) = ran.reasons.last() {
                let decision = format!("TC goes on: {}: {}", reason.name(), reason.sentence());
                self.stage("slow path", decision);
            }
        }
        let outcome = outcome(last, refused, self.entry());
        if let Some(reason) = refused {
            let word = match outcome {
                Outcome::Kernel => "kernel",
                _ => "dropped",
            };
            self.stage(word, format!("{}: {}", reason.name(), reason.sentence()));
        }
        let leaves = match outcome {
            Outcome::Sent | Outcome::Delivered | Outcome::Answered => {
                Some(self.leaving(last, outcome)?)
            }
            Outcome::Kernel | Outcome::Dropped => None,
        };
        Ok(Explanation {
            packet,
            interface: self.query.interface.clone(),
            stages: std::mem::take(&mut self.stages),
            rule,
            outcome,
            reason: refused.map(|reason| reason.name().to_owned()),
            leaves,
        })
    }

    fn stage(&mut self, stage: &str, decision: String) {
        self.stages.push(StageReport {
            stage: stage.to_owned(),
            decision,
        });
    }

    fn hook(&mut self) {
        let program = self.tried.runs.first().map(|ran| ran.program);
        let name = match program {
            Some(Program::Xdp) => "XDP",
            Some(Program::Egress) => "TC egress",
            _ => "TC ingress",
        };
        let decision = match &self.tried.stand_in {
            Some(why) => format!(
                "XDP, for which its twin on {name} stands in, since the kernel runs no XDP test for this device ({why})"
            ),
            None => name.to_owned(),
        };
        self.stage("hook", decision);
    }

    /// This direction's entry.
    fn entry(&self) -> Option<&Entry> {
        let known = self.tried.known.as_ref().or(self.tried.opened.as_ref());
        known.map(|[entry, _]| entry)
    }

    /// What the look-ups decided. Returns the rule's slot.
    fn flow(&mut self) -> Option<u32> {
        let tried = self.tried;
        if let Some([entry, other]) = &tried.known {
            let (original, reply) = match entry.is_original() {
                true => (entry, other),
                false => (other, entry),
            };
            let direction = if entry.is_original() {
                "original"
            } else {
                "reply"
            };
            let flow = Flow {
                original: other.rewrite.key(self.key.protocol).reversed(),
                original_entry: *original,
                reply: entry.rewrite.key(self.key.protocol).reversed(),
                reply_entry: *reply,
            };
            let state = flow.state().name();
            let rule = self.rule_name(entry.rule);
            let decision = format!("known, of rule {rule}, {direction} direction, {state}");
            self.stage("flow", decision);
            self.way(entry);
            return Some(entry.rule);
        }
        self.stage("flow", "none is known".to_owned());
        let Some(met) = tried.met else {
            let asked = tried.runs.iter().flat_map(|ran| &ran.reasons);
            if asked.clone().any(|reason| *reason == Reason::NoRule) {
                self.stage("rule", "no listener matches".to_owned());
            }
            return None;
        };
        let rule = self.rule_name(met.rule);
        self.stage("rule", rule);
        if met.asks {
            let refused = self.has(Reason::ClientRefused);
            let decision = if refused {
                "refused by `allow` and `deny`"
            } else {
                "allowed"
            };
            self.stage("client", decision.to_owned());
        }
        let Some(entry) = &tried.opened.map(|[entry, _]| entry) else {
            if let Some(target) = met.target {
                self.stage("backend", target.to_string());
            }
            return Some(met.rule);
        };
        let to = SocketAddr::new(
            entry.rewrite.destination,
            u16::from_be(entry.rewrite.destination_port_be),
        );
        self.stage("backend", to.to_string());
        self.way(entry);
        self.source(entry);
        Some(met.rule)
    }

    fn has(&self, reason: Reason) -> bool {
        let mut runs = self.tried.runs.iter();
        runs.any(|ran| ran.reasons.contains(&reason))
    }

    fn way(&mut self, entry: &Entry) {
        if entry.flags & DELIVER != 0 {
            self.stage("route", "to this host".to_owned());
            return;
        }
        let index = entry.route.egress.index();
        if index == 0 {
            self.stage("route", "as this host sends it".to_owned());
            return;
        }
        let device = self.device(index);
        let mac = entry.route.macs.destination();
        let next = match mac {
            [0, 0, 0, 0, 0, 0] => "a next hop whose MAC address is not known yet".to_owned(),
            mac => mac_text(mac),
        };
        let mtu = entry.route.mtu;
        self.stage("route", format!("by {device} to {next}, MTU {mtu}"));
    }

    fn source(&mut self, entry: &Entry) {
        let rewrite = &entry.rewrite;
        let source = SocketAddr::new(rewrite.source, u16::from_be(rewrite.source_port_be));
        let how = match (
            rewrite.source == self.key.source,
            rewrite.source_port_be == self.key.source_port_be,
        ) {
            (true, true) => "the client's own",
            (false, true) => "with the client's own port",
            (_, false) => {
                "with another port, drawn by lot, since the client's own is taken or not to be given"
            }
        };
        self.stage("source", format!("{source}, {how}"));
    }

    fn leaving(&self, ran: &Ran, outcome: Outcome) -> anyhow::Result<Leaving> {
        let (packet, mac) = explain::read(&ran.frame)?;
        let entry = self.entry();
        let egress = match (outcome, entry) {
            (Outcome::Delivered, _) => None,
            (Outcome::Sent, Some(entry)) if entry.route.egress.index() != 0 => {
                Some(self.device(entry.route.egress.index()))
            }
            _ => Some(self.query.interface.clone()),
        };
        let has_mac = match outcome {
            Outcome::Sent => entry.is_some_and(|entry| entry.route.macs.destination() != [0; 6]),
            Outcome::Answered => true,
            _ => false,
        };
        Ok(Leaving {
            packet,
            interface: egress,
            to_mac: has_mac.then(|| mac_text(mac)),
            by: match (ran.program, ran.verdict) {
                (Program::Xdp, XDP_TX) => "XDP_TX",
                (Program::Xdp, XDP_REDIRECT) => "XDP_REDIRECT",
                (_, TC_ACT_REDIRECT) if outcome == Outcome::Sent && !has_mac => {
                    "bpf_redirect_neigh"
                }
                (Program::Tc | Program::Egress, TC_ACT_REDIRECT) => "bpf_redirect",
                _ => "up or down the stack, as it was going",
            }
            .to_owned(),
        })
    }

    fn rule_name(&self, slot: u32) -> String {
        let name = self.setup.names.get(&slot).cloned();
        name.unwrap_or_else(|| "that is gone".to_owned())
    }

    fn device(&self, index: u32) -> String {
        self.setup.network.name(index).unwrap_or("?").to_owned()
    }
}

/// What became of the packet at the last program that it met.
fn outcome(last: &Ran, refused: Option<Reason>, entry: Option<&Entry>) -> Outcome {
    let leaves = match last.program {
        Program::Xdp => matches!(last.verdict, XDP_TX | XDP_REDIRECT),
        Program::Tc | Program::Egress => last.verdict == TC_ACT_REDIRECT,
    };
    match refused.map(Reason::verdict) {
        Some(Verdict::Pass) => Outcome::Kernel,
        Some(Verdict::Drop) if leaves => Outcome::Answered,
        Some(_) => Outcome::Dropped,
        None if entry.is_some_and(|entry| entry.flags & DELIVER != 0) => Outcome::Delivered,
        None => Outcome::Sent,
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
