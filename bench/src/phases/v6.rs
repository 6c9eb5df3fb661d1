//! Datagrams over IPv6.

use anyhow::Result;

use super::datagrams::{PORTS, known};
use super::program;
use crate::gateway::{Order, Protocol};
use crate::plan::Kind;
use crate::session::Session;

/// Flows, as most cases over IPv4 have them.
const FLOWS: u32 = 1000;

pub(super) fn run(session: &mut Session) -> Result<()> {
    let order = Order {
        protocol: Protocol::Udp,
        v6: true,
        rules: 1,
        ports: PORTS,
        flows: FLOWS,
    };
    let mut contenders = session.contenders(&order, |_| true)?;
    for contender in &mut contenders {
        contender.open(FLOWS, Kind::Udp)?;
    }
    for round in 0..session.rounds {
        known(session, &mut contenders, round, FLOWS);
        program::round(session, &mut contenders, &[FLOWS]);
    }
    Ok(())
}
