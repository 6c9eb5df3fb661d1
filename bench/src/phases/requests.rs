//! Short connections: connect, request, response, close, played by programs at both ends, so that the gateway is what
//! limits them.

use anyhow::Result;

use super::{datagrams::PORTS, in_turn};
use crate::gateway::{Candidate, Order, Protocol};
use crate::measure::Measure;
use crate::rig::Wiring;
use crate::session::Session;

pub(super) fn run(session: &mut Session) -> Result<()> {
    let count = if session.quick { 5000 } else { 20_000 };
    let order = Order {
        protocol: Protocol::Tcp,
        v6: false,
        rules: 1,
        ports: PORTS,
        flows: count * (session.rounds as u32 + 1),
    };
    // The ceiling knows one direction only.
    let takes_part = |it| it != Candidate::Ceiling;
    let mut contenders = session.wired(&order, Wiring::Played, takes_part)?;
    for round in 0..session.rounds {
        for contender in in_turn(&mut contenders, round) {
            let passage = contender.play(count);
            let passage = passage.map(|it| [it.rate(), it.cost()]);
            let measures = [Measure::Requests, Measure::RequestCost];
            session.record_all(measures, "64 bytes", contender.candidate, passage);
        }
    }
    Ok(())
}
