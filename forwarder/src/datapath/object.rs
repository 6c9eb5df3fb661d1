//! The eBPF object, loaded.

use std::path::Path;

use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, SchedClassifier, Xdp},
};

/// The object that build.rs compiled from `forwarder-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forwarder-ebpf"));

/// How large the tables are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Established flows; each takes two entries.
    pub flows: u32,
    /// Half-open flows; each takes two entries.
    pub half_open: u32,
    /// Rules, and backends over all rules.
    pub rules: u32,
}

/// Names of the programs in the object.
pub const XDP: &str = "forwarder_xdp";
/// The whole pipeline on TC.
pub const TC: &str = "forwarder_tc";
/// What XDP hands over, on TC.
pub const SLOW: &str = "forwarder_slow";
/// Reads the kernel's clocks.
pub const CLOCK: &str = "forwarder_clock";

/// Creates the maps (or adopts those pinned under `pins`) and loads every program.
pub fn load(sizes: Sizes, pins: Option<&Path>) -> anyhow::Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("FLOWS", sizes.flows * 2)
        .map_max_entries("HALF_OPEN", sizes.half_open * 2)
        .map_max_entries("BACKENDS", sizes.rules)
        .map_max_entries("RULE_TRAFFIC", sizes.rules)
        .map_max_entries("RULE_OPENED", sizes.rules);
    let _ = pins;
    let mut ebpf = loader.load(OBJECT)?;
    for name in [XDP, CLOCK] {
        program::<Xdp>(&mut ebpf, name)?.load()?;
    }
    for name in [TC, SLOW] {
        program::<SchedClassifier>(&mut ebpf, name)?.load()?;
    }
    Ok(ebpf)
}

/// The program `name` as its type.
pub fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| anyhow::anyhow!("the eBPF object has no program `{name}`"))?;
    Ok(program.try_into()?)
}
