//! Segments of wire size in connections that are open, one after the other and without a loss: what a card hands to a
//! gateway while somebody sends a file through it.

use anyhow::Result;

use super::{datagrams::PORTS, in_turn};
use crate::gateway::{Candidate, Order, Protocol};
use crate::measure::Measure;
use crate::plan::{Kind, Order as Sequence, SEGMENTS, Traffic};
use crate::rig::Wiring;
use crate::session::{Contender, Session};

/// The most connections at a time.
const FLOWS: u32 = 16;

/// Cases: connections, and segments of one that follow each other. GRO of a veth device finds every flow in the same of
/// its eight lists, as no card has told them apart, and keeps eight: sixteen that alternate are too many for it, trains
/// are what it is made for.
const CASES: [(&str, u32, u32); 3] = [
    ("1 flow", 1, 1),
    ("16 flows", FLOWS, 1),
    ("16 flows, trains of 16", FLOWS, 16),
];

pub(super) fn run(session: &mut Session) -> Result<()> {
    let order = Order {
        protocol: Protocol::Tcp,
        v6: false,
        rules: 1,
        ports: PORTS,
        flows: 1000,
    };
    let takes_part = |it| it != Candidate::Auto;
    let mut contenders = session.wired(&order, Wiring::Played, takes_part)?;
    for contender in &mut contenders {
        make_ready(contender)?;
    }
    for round in 0..session.rounds {
        for case in CASES {
            for contender in in_turn(&mut contenders, round) {
                look(session, contender, case);
            }
        }
    }
    Ok(())
}

/// Opens the connections, and puts the sink to where their server was.
///
/// # Errors
/// If one does not open, or the programs cannot be changed over.
pub fn make_ready(contender: &mut Contender) -> Result<()> {
    // The ceiling knows one direction only, and no connections.
    if contender.candidate != Candidate::Ceiling {
        contender.open(FLOWS, Kind::Syn)?;
    }
    let by_frames = matches!(contender.candidate, Candidate::Xdp | Candidate::Ceiling);
    contender.rig.swallow(!by_frames)
}

/// Segments of so many connections, so many of one following each other.
#[must_use]
pub fn traffic(contender: &Contender, flows: u32, train: u32) -> Traffic {
    Traffic {
        kind: Kind::Segment { train },
        order: Sequence::Sequential,
        // A segment that is lost is a hole that GRO ends at.
        pace: SEGMENTS,
        ..contender.traffic(flows)
    }
}

fn look(session: &mut Session, contender: &mut Contender, (case, flows, train): (&str, u32, u32)) {
    let traffic = traffic(contender, flows, train);
    let passage = contender.measure(&traffic, session.time());
    let passage = passage.map(|it| [it.throughput(), it.cost_of_bytes(), it.idle() * 100.0]);
    let measures = [Measure::WireTcp, Measure::WireCost, Measure::Idle];
    session.record_all(measures, case, contender.candidate, passage);
}
