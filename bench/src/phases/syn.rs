//! First packets of connections that nobody answers.

use anyhow::Result;

use super::{
    datagrams::{PORTS, opened, walks},
    in_turn, rules,
};
use crate::gateway::{Candidate, Order, Protocol};
use crate::plan::Kind;
use crate::session::Session;

pub(super) fn run(session: &mut Session) -> Result<()> {
    let numbers: &[u32] = if session.quick { &[1] } else { &[1, 10_000] };
    let count = if session.quick { 10_000 } else { 20_000 };
    let mut rigs = Vec::new();
    for &rules in numbers {
        let order = Order {
            protocol: Protocol::Tcp,
            v6: false,
            rules,
            ports: PORTS,
            flows: count * session.rounds as u32,
        };
        rigs.push(session.contenders(&order, Candidate::translates)?);
    }
    for round in 0..session.rounds {
        for contenders in &mut rigs {
            for contender in in_turn(contenders, round) {
                let case = format!("TCP SYN, {}", rules(contender.order.rules));
                let count = if walks(contender) { count / 10 } else { count };
                opened(session, contender, &case, (count, Kind::Syn));
            }
        }
    }
    Ok(())
}
