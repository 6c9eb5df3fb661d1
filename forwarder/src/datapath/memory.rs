//! How much memory the maps will take, worked out from their definitions.

use std::collections::HashMap;

use aya_obj::{Map, Object, generated::bpf_map_type};

use super::{
    Needs, Sizes,
    object::{OBJECT, cpus},
};

/// `struct htab_elem` and `struct bucket` of kernel/bpf/hashtab.c on a 64-bit machine.
const HASH_ENTRY: u64 = 48;
const HASH_BUCKET: u64 = 16;
/// A pointer to an entry of a per-CPU array, or to a program.
const POINTER: u64 = 8;

/// Bytes that the kernel allocates for the maps when they are made, with room for `needs`. Those that grow with their contents come on top:
/// listeners, prefixes of clients, names.
///
/// # Errors
/// This build has no eBPF object, or the CPUs cannot be counted.
pub fn needed(sizes: Sizes, needs: Needs) -> anyhow::Result<u64> {
    let object = Object::parse(OBJECT)?;
    let cpus = cpus()?;
    let tables = sizes.entries(needs, cpus).into_iter();
    let rules = ["RULE_TRAFFIC", "RULE_OPENED"].map(|name| (name, sizes.rules));
    let given: HashMap<_, _> = tables.chain(rules).collect();
    let of = |(name, map): (&String, &Map)| {
        let entries = given.get(name.as_str()).copied();
        bytes(
            map,
            entries.unwrap_or_else(|| map.max_entries()),
            cpus.into(),
        )
    };
    Ok(object.maps.iter().map(of).sum())
}

/// As the kernel reckons it in the `map_mem_usage` of each type (Linux 6.4).
fn bytes(map: &Map, entries: u32, cpus: u64) -> u64 {
    const NO_PREALLOC: u32 = 1;
    let round = |size: u32| u64::from(size).next_multiple_of(8);
    let (key, value) = (round(map.key_size()), round(map.value_size()));
    let buckets = u64::from(entries).next_power_of_two() * HASH_BUCKET;
    let entries = u64::from(entries);
    let Ok(kind) = bpf_map_type::try_from(map.map_type()) else {
        return 0;
    };
    match kind {
        bpf_map_type::BPF_MAP_TYPE_HASH
        | bpf_map_type::BPF_MAP_TYPE_LRU_HASH
        | bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH => {
            let preallocated = map.map_flags() & NO_PREALLOC == 0;
            let each = HASH_ENTRY + key + value;
            buckets + u64::from(preallocated) * (entries + cpus) * each
        }
        bpf_map_type::BPF_MAP_TYPE_ARRAY => entries * value,
        bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY => entries * (value * cpus + POINTER),
        bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY => entries * POINTER,
        bpf_map_type::BPF_MAP_TYPE_RINGBUF => entries,
        _ => 0,
    }
}
