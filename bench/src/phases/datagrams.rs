//! Datagrams over IPv4, in rigs with one, a thousand and ten thousand rules.

use anyhow::{Context as _, Result};

use super::{flows, in_turn, latency, memory, program, rules, setup};
use crate::gateway::{Order, Protocol};
use crate::measure::Measure;
use crate::plan::{Kind, Traffic};
use crate::session::{Contender, Session};

/// Ports of a single rule.
pub(super) const PORTS: u32 = 1024;

/// The flows with which numbers of rules are compared.
pub(super) const FEW: u32 = 1000;

pub(super) fn run(session: &mut Session) -> Result<()> {
    let (axis, many): (&[u32], &[u32]) = if session.quick {
        (&[1, 1000, 100_000], &[10_000])
    } else {
        (&[1, 1000, 100_000, 1_000_000], &[1000, 10_000])
    };
    let most = *axis.last().context("there are numbers of flows")?;
    let opened = if session.quick { 10_000 } else { 20_000 };
    let all_opened = opened * session.rounds as u32;
    let order = |rules, flows| Order {
        protocol: Protocol::Udp,
        v6: false,
        rules,
        ports: PORTS,
        flows,
    };
    let mut single = memory::fill(session, &order(1, most + all_opened + FEW), most)?;
    let mut others = Vec::new();
    for &rules in many {
        let order = order(rules, FEW + all_opened);
        let mut contenders = setup::timed(session, &order)?;
        for contender in &mut contenders {
            contender.open(FEW, Kind::Udp)?;
        }
        others.push(contenders);
    }
    for round in 0..session.rounds {
        eprintln!("  datagrams, round {} of {}", round + 1, session.rounds);
        for &count in axis {
            known(session, &mut single, round, count);
        }
        program::round(session, &mut single, axis);
        foreign(session, &mut single, round);
        for contenders in &mut others {
            known(session, contenders, round, FEW);
        }
        for contenders in std::iter::once(&mut single).chain(&mut others) {
            open(session, contenders, round, opened);
        }
        latency::round(session, &mut single, round);
        for contenders in &mut others {
            // What takes a second need not be done often to be known well.
            if round < 5 && (round == 0 || !session.quick) {
                setup::reload(session, contenders);
            }
        }
    }
    drop(others);
    setup::take_over(session, &mut single)
}

/// Packets of flows that are open.
pub(super) fn known(session: &mut Session, contenders: &mut [Contender], round: usize, count: u32) {
    for contender in in_turn(contenders, round) {
        let case = match (contender.order.rules, contender.order.v6) {
            (1, false) => flows(count),
            (1, true) => format!("{}, IPv6", flows(count)),
            (number, _) => format!("{}, {}", flows(count), rules(number)),
        };
        let traffic = contender.traffic(count);
        let passage = contender.measure(&traffic, session.time());
        let passage = passage.map(|it| [it.rate(), it.cost(), it.idle() * 100.0]);
        let measures = [Measure::Rate, Measure::Cost, Measure::Idle];
        session.record_all(measures, &case, contender.candidate, passage);
    }
}

/// Packets of open flows to an address that no rule is about.
fn foreign(session: &mut Session, contenders: &mut [Contender], round: usize) {
    for contender in in_turn(contenders, round) {
        let candidate = contender.candidate;
        if !candidate.translates() && candidate != crate::gateway::Candidate::Kernel {
            continue;
        }
        let traffic = Traffic {
            foreign: true,
            ..contender.traffic(FEW)
        };
        let cost = contender
            .measure(&traffic, session.time())
            .map(|passage| passage.cost());
        session.record(Measure::Foreign, "forwarded by the kernel", candidate, cost);
    }
}

/// Packets of flows that are not open yet.
fn open(session: &mut Session, contenders: &mut [Contender], round: usize, count: u32) {
    for contender in in_turn(contenders, round) {
        if contender.candidate.translates() {
            let case = format!("UDP, {}", rules(contender.order.rules));
            let count = if walks(contender) { count / 10 } else { count };
            opened(session, contender, &case, (count, Kind::Udp));
        }
    }
}

/// Opens flows and takes down what that came to.
pub(super) fn opened(
    session: &mut Session,
    contender: &mut Contender,
    case: &str,
    (count, kind): (u32, Kind),
) {
    let passage = contender.open(count, kind);
    let passage = passage.map(|it| [it.rate(), it.cost()]);
    let measures = [Measure::Open, Measure::OpenCost];
    session.record_all(measures, case, contender.candidate, passage);
}

/// Whether it looks at one rule after the other, and at many: fewer flows take long enough.
pub(super) fn walks(contender: &Contender) -> bool {
    use crate::gateway::Candidate;
    let walker = matches!(
        contender.candidate,
        Candidate::IptablesLegacy | Candidate::IptablesNft
    );
    walker && contender.order.rules > 1000
}
