//! What a flow takes of the kernel's memory.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{MapInfo, MapType};
use forwarder::config::Limits;
use forwarder::datapath::Sizes;
use rstest::rstest;

use super::bench::Hook;
use super::cost::kernel;
use super::family::Family;
use super::instructions::image::infos;
use super::instructions::object::code;
use super::instructions::packets::OUTBOUND;
use super::instructions::scale::Scale;
use super::instructions::title;
use super::record::Record;
use super::topology::Device;
use super::traffic::{Connection, udp};

/// Figures of one layout: nothing makes them differ but a change of it.
const RECORD: Record = Record {
    file: "memory-cost.toml",
    header: "\
# Bytes of the kernel's memory for one flow, both directions: what each table takes that is as large as the limits say, divided
# by limits.flows, with default limits and four CPUs. `total` is the sum for a [[forward]]; where a
# [[masquerade]] has UDP, `mappings` comes to it, and `mapping` for a flow with a socket of its own. Entries are counted as
# the kernel makes them, with what links them, on 64 bits.
# A test fails on more than these. To accept growth: UPDATE_MEMORY_COST=1 cargo test -p tests --test prog_run memory
",
    update: "UPDATE_MEMORY_COST",
    most: |_, known| known,
};

/// Of the machine that the record is about. With up to eight it is the same.
const CPUS: u32 = 4;
/// Tables that are as large as the limits say, but not for flows.
const OTHERS: [&str; 2] = ["BACKENDS", "LISTENERS"];

/// `struct htab_elem`, `struct bucket` and `struct llist_node` of the kernel, on 64 bits.
const ELEMENT: u64 = 48;
const BUCKET: u64 = 16;
const LINK: u64 = 8;
/// `BPF_F_NO_PREALLOC` and `BPF_F_MMAPABLE` in include/uapi/linux/bpf.h.
const ON_DEMAND: u32 = 1;
const MAPPED: u32 = 1 << 10;
const PAGE: u64 = 4096;

/// Bytes of a map with so many entries, but for what does not grow with it. One that makes entries on demand has none.
fn size(info: &MapInfo, entries: u32) -> Result<u64> {
    let entries = u64::from(entries);
    let values = u64::from(info.value_size()).next_multiple_of(8) * entries;
    Ok(match info.map_type()? {
        MapType::Array if info.map_flags() & MAPPED != 0 => values.next_multiple_of(PAGE),
        MapType::Array => values,
        MapType::Hash => {
            let buckets = BUCKET * entries.next_power_of_two();
            match info.map_flags() & ON_DEMAND {
                0 => buckets + element(info) * entries,
                _ => buckets,
            }
        }
        kind => bail!("a map of type {kind:?}"),
    })
}

/// Bytes of an entry of a hash map.
fn element(info: &MapInfo) -> u64 {
    let rounded = |bytes: u32| u64::from(bytes).next_multiple_of(8);
    ELEMENT + rounded(info.key_size()) + rounded(info.value_size())
}

/// The tables for flows of `family`, with `sizes` and so many CPUs.
fn tables(sizes: Sizes, cpus: u32, family: Family) -> Vec<(&'static str, u32)> {
    let of_family = |(names, entries): ([&'static str; 2], u32)| (names[family as usize], entries);
    let is_for_flows =
        |(name, _): &(&str, u32)| !OTHERS.iter().any(|other| name.starts_with(other));
    let tables = sizes.tables(cpus).into_iter().map(of_family);
    tables.filter(is_for_flows).collect()
}

#[rstest]
fn flows_take_no_more_memory_than_recorded(
    #[values(Family::V4, Family::V6)] family: Family,
) -> Result<()> {
    let scale = Scale::new(Hook::Xdp, family, OUTBOUND);
    let infos = infos(&scale.bench.datapath.loaded()?, code())?;
    let limits = Limits::default();
    let sizes = Sizes::from(&limits);
    let mut found = BTreeMap::new();
    let mut total = 0;
    for (name, entries) in tables(sizes, CPUS, family) {
        let info = infos.get(name).with_context(|| name.to_owned())?;
        let bytes = size(info, entries)?;
        // Mappings have room where a rule makes some.
        if !name.starts_with("MAPPINGS") {
            total += bytes;
        }
        let (table, _) = name.rsplit_once('_').with_context(|| name.to_owned())?;
        found.insert(table.to_lowercase(), each(bytes, sizes)?);
        if info.map_flags() & ON_DEMAND != 0 {
            // The client's side and the other one.
            let entries = 2 * (element(info) + LINK);
            found.insert("mapping".to_owned(), u32::try_from(entries)?);
        }
    }
    found.insert("total".to_owned(), each(total, sizes)?);
    RECORD.check(&title("memory", family), &found)
}

/// Bytes for each flow, rounded up.
fn each(bytes: u64, sizes: Sizes) -> Result<u32> {
    Ok(u32::try_from(bytes.div_ceil(sizes.flows.into()))?)
}

/// The kernel's own figure, which it has since Linux 6.4 (commit 90a5527d7686).
fn told(info: &MapInfo) -> Result<u64> {
    let descriptor = info.fd()?;
    let number = descriptor.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.context("no figure")?.trim().parse()?)
}

/// What is on record is what the kernel says, but for what each map takes once.
#[rstest]
fn the_kernel_says_the_same(#[values(Family::V4, Family::V6)] family: Family) -> Result<()> {
    /// Bytes that a map takes besides, and those for each CPU.
    const ONCE: u64 = 2 * PAGE;
    if kernel()? < (6, 4) {
        eprintln!("skipped: this kernel only estimates");
        return Ok(());
    }
    let mut scale = Scale::new(Hook::Xdp, family, OUTBOUND);
    let datapath = &scale.bench.datapath;
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    let before = infos(&datapath.loaded()?, code())?;
    let spare = ONCE + 1024 * cpus as u64;
    let mut on_demand = Vec::new();
    for (name, entries) in tables(datapath.sizes(), u32::try_from(cpus)?, family) {
        let info = before.get(name).with_context(|| name.to_owned())?;
        ensure!(info.max_entries() == entries, "{name} has other entries");
        let (here, there) = (size(info, entries)?, told(info)?);
        ensure!(
            (here..here + spare).contains(&there),
            "{name}: {here} bytes, and {there} in the kernel"
        );
        if info.map_flags() & ON_DEMAND != 0 {
            on_demand.push((name, info, there));
        }
    }
    ensure!(!on_demand.is_empty(), "no table makes entries on demand");
    let client = Connection::outbound("10.0.0.2:25000", "195.228.245.1:53", "203.0.113.1:25000");
    let frame = family.packet(&client.request(udp())).to_bytes();
    scale.bench.run(Device::Lan, &frame);
    for (name, info, there) in on_demand {
        let grown = told(info)? - there;
        let expected = 2 * (element(info) + LINK);
        ensure!(
            grown == expected,
            "{name}: {grown} bytes instead of {expected}"
        );
    }
    Ok(())
}

#[test]
fn the_record_of_memory_is_as_these_tests_write_it() -> Result<()> {
    RECORD.is_tidy()
}
