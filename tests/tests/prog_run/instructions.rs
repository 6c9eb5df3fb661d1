//! What packets cost: instructions, counted by a machine that runs the same programs beside the kernel.

pub mod image;
pub mod object;
pub mod packets;
mod profile;
pub mod scale;
mod twin;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use rstest::rstest;

use super::bench::Hook;
use super::family::Family;
use super::record::{Record, percent};
use super::refused::{Random, seeds};
use super::topology::Device;
use super::traffic::Connection;
use super::translate::RULE;
use scale::Scale;

/// Compilers differ, less than changes do that are worth a thought. A call is worth one in any case.
const RECORD: Record = Record {
    file: "instruction-cost.toml",
    header: "\
# What one packet costs: instructions that the programs execute for it, and how many of these are calls of helpers, such as
# look-ups in maps. They are counted as they are handed to the kernel, before it inlines anything; a call is one.
# A test fails on more calls, or on more than 3 % or 3 instructions above these. To accept growth:
# UPDATE_INSTRUCTION_COST=1 cargo test -p tests --test prog_run instructions
",
    update: "UPDATE_INSTRUCTION_COST",
    most: |name, known| {
        if name.ends_with(".calls") {
            known
        } else {
            percent(known, 3).max(known + 3)
        }
    },
};

/// What a table of a record is called.
pub fn title(what: &str, family: Family) -> String {
    let family = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    format!("{what}, {family}")
}

#[rstest]
#[case::xdp(Hook::Xdp, "XDP")]
#[case::tc(Hook::Tc, "TC")]
fn packets_that_come_in(
    #[case] hook: Hook,
    #[case] name: &str,
    #[values(Family::V4, Family::V6)] family: Family,
) -> Result<()> {
    let scale = packets::forwarded(hook, family)?;
    RECORD.check(&title(name, family), &scale.found)?;
    let scale = packets::outbound(hook, family)?;
    let name = format!("{name}, [[masquerade]]");
    RECORD.check(&title(&name, family), &scale.found)
}

#[rstest]
fn packets_that_this_host_sends(#[values(Family::V4, Family::V6)] family: Family) -> Result<()> {
    let scale = packets::local(family)?;
    RECORD.check(&title("TC egress", family), &scale.found)
}

/// Whatever comes: the machine does what the kernel does, or the figures above are of another way than the packets'.
#[rstest]
fn garbled_packets_fare_alike_in_both(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) -> Result<()> {
    let mut bench = Scale::new(hook, family, RULE).bench;
    let connection = Connection::default();
    connection.handshake(&mut bench);
    let seeds = seeds(&connection, family);
    let mut random = Random(11);
    let mut ways = BTreeSet::new();
    for _ in 0..80 {
        let mut frame = seeds[random.below(seeds.len())].clone();
        for _ in 0..random.below(3) {
            // Of the headers.
            let at = random.below(frame.len().min(80));
            frame[at] ^= 1 << random.below(8);
        }
        let device = [Device::Wan, Device::Lan][random.below(2)];
        let weighed = bench.weigh(device, &frame, 1)?;
        ways.insert((weighed.outcome.verdict, weighed.outcome.way));
    }
    ensure!(ways.len() >= 4, "only by {ways:?}");
    Ok(())
}

#[test]
fn the_record_of_instructions_is_as_these_tests_write_it() -> Result<()> {
    RECORD.is_tidy()
}
