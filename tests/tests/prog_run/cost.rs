//! What the verifier had to walk through.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

use super::bench::SMALL;
use super::loaded::Loaded;
use super::record::{Record, percent};

/// Compilers differ.
const RECORD: Record = Record {
    file: "verifier-cost.toml",
    header: "\
# Instructions the verifier walked through, by kernel (major.minor) and program; its limit is one million.
# A test fails on more than 10 % above these. To accept growth: UPDATE_VERIFIER_COST=1 cargo test -p tests --test prog_run cost
",
    update: "UPDATE_VERIFIER_COST",
    most: |_, known| percent(known, 10),
};

/// 6 and 18 of `6.18.44-anything`.
pub fn kernel() -> Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut parts = release.split(['.', '-']);
    let mut number = || parts.next().context("no kernel version");
    Ok((number()?.parse()?, number()?.parse()?))
}

#[test]
fn the_programs_cost_the_verifier_no_more_than_recorded() -> Result<()> {
    let (major, minor) = kernel()?;
    let kernel = format!("{major}.{minor}");
    let mut found = BTreeMap::new();
    for (program, count) in Loaded::of(SMALL).verified()? {
        let Some(count) = count else {
            println!("this kernel does not count; nothing to compare");
            return Ok(());
        };
        found.insert(program.to_owned(), count);
    }
    let update = RECORD.update;
    if !RECORD.is_updated() && !RECORD.read()?.contains_key(&kernel) {
        println!("no record for Linux {kernel}: {found:?}; {update}=1 adds one");
        return Ok(());
    }
    RECORD.check(&kernel, &found)
}

#[test]
fn the_record_is_as_this_test_writes_it() -> Result<()> {
    RECORD.is_tidy()
}
