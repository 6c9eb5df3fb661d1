//! What is measured, in groups that share their rigs.

mod bulk;
mod datagrams;
mod latency;
mod memory;
mod program;
mod requests;
pub mod segments;
mod setup;
mod syn;
mod v6;

use anyhow::Result;
use clap::ValueEnum;

use crate::session::{Contender, Session};

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Datagrams over IPv4: rate, cost, new flows, latency, memory, times
    Datagrams,
    /// Datagrams over IPv6
    V6,
    /// SYNs
    Syn,
    /// TCP segments of wire size
    Segments,
    /// Short connections: connect, request, response, close
    Requests,
    /// TCP between real stacks, in super-packets
    Bulk,
    /// The XDP program by test run and nothing else, which is over soon; without `--only` it is a part of the others
    Program,
}

impl Phase {
    /// What a whole run is made of.
    pub const WHOLE: [Self; 6] = [
        Self::Datagrams,
        Self::V6,
        Self::Syn,
        Self::Segments,
        Self::Requests,
        Self::Bulk,
    ];

    /// What is being done, for somebody who waits.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams over IPv4",
            Self::V6 => "datagrams over IPv6",
            Self::Syn => "SYNs",
            Self::Segments => "segments",
            Self::Requests => "short connections",
            Self::Bulk => "bulk",
            Self::Program => "the program",
        }
    }

    /// Measures it.
    ///
    /// # Errors
    /// If a rig cannot be built.
    pub fn run(self, session: &mut Session) -> Result<()> {
        match self {
            Self::Datagrams => datagrams::run(session),
            Self::V6 => v6::run(session),
            Self::Syn => syn::run(session),
            Self::Segments => segments::run(session),
            Self::Requests => requests::run(session),
            Self::Bulk => bulk::run(session),
            Self::Program => program::run(session),
        }
    }

    /// Whether anybody in it keeps so many flows in conntrack that there has to be room for them.
    #[must_use]
    pub fn fills_conntrack(self) -> bool {
        !matches!(self, Self::Program | Self::Segments | Self::Bulk)
    }
}

/// The number as cases have it: `1k`, `1M`.
fn short(number: u32) -> String {
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{}k", number / 1000),
        _ => format!("{}M", number / 1_000_000),
    }
}

fn rules(number: u32) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} rule{plural}", short(number))
}

fn flows(number: u32) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} flow{plural}", short(number))
}

/// Everybody in turn, and another one first in each round: who comes after whom must not matter.
fn in_turn(contenders: &mut [Contender], round: usize) -> impl Iterator<Item = &mut Contender> {
    let start = round % contenders.len().max(1);
    let (first, second) = contenders.split_at_mut(start);
    second.iter_mut().chain(first)
}
