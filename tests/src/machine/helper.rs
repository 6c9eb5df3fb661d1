//! The kernel's helpers, as far as the programs call them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail, ensure};

use super::map::Kind;
use super::memory::Memory;
use super::run::World;

/// `enum bpf_func_id` in include/uapi/linux/bpf.h.
pub mod id {
    pub const MAP_LOOKUP_ELEM: u32 = 1;
    pub const MAP_UPDATE_ELEM: u32 = 2;
    pub const MAP_DELETE_ELEM: u32 = 3;
    pub const KTIME_GET_NS: u32 = 5;
    pub const GET_PRANDOM_U32: u32 = 7;
    pub const GET_SMP_PROCESSOR_ID: u32 = 8;
    pub const SKB_STORE_BYTES: u32 = 9;
    pub const L4_CSUM_REPLACE: u32 = 11;
    pub const TAIL_CALL: u32 = 12;
    pub const REDIRECT: u32 = 23;
    pub const SKB_LOAD_BYTES: u32 = 26;
    pub const CSUM_DIFF: u32 = 28;
    pub const SKB_CHANGE_TAIL: u32 = 38;
    pub const SKB_PULL_DATA: u32 = 39;
    pub const XDP_ADJUST_HEAD: u32 = 44;
    pub const SKB_ADJUST_ROOM: u32 = 50;
    pub const XDP_ADJUST_META: u32 = 54;
    pub const XDP_ADJUST_TAIL: u32 = 65;
    pub const FIB_LOOKUP: u32 = 69;
    pub const JIFFIES64: u32 = 118;
    pub const REDIRECT_NEIGH: u32 = 152;
}

/// `EFAULT` as helpers return it.
const FAULT: i64 = -14;
/// `XDP_REDIRECT` and `TC_ACT_REDIRECT`.
const XDP_REDIRECT: i64 = 4;
const TC_REDIRECT: i64 = 7;

/// What a call of helper `id` with these arguments returns. Tail calls are the machine's.
///
/// # Errors
/// The helper is not known here, or the arguments make no sense.
pub fn call(memory: &mut Memory, world: &mut World, id: u32, arguments: [u64; 5]) -> Result<u64> {
    let [_, second, third, fourth, _] = arguments;
    let (number, packet) = (second as i32, &mut memory.packet);
    let result = match id {
        id::MAP_LOOKUP_ELEM | id::MAP_UPDATE_ELEM | id::MAP_DELETE_ELEM => {
            return map(memory, id, arguments);
        }
        id::KTIME_GET_NS => return Ok(world.nanoseconds),
        id::JIFFIES64 => return Ok(world.jiffies.read()),
        id::GET_PRANDOM_U32 => i64::from(world.random),
        id::GET_SMP_PROCESSOR_ID => i64::from(world.cpu),
        id::CSUM_DIFF => sum(memory, arguments)?,
        id::FIB_LOOKUP => route(memory, world, second, third)?,
        id::REDIRECT | id::REDIRECT_NEIGH if packet.is_xdp() => XDP_REDIRECT,
        id::REDIRECT | id::REDIRECT_NEIGH => TC_REDIRECT,
        id::XDP_ADJUST_HEAD => packet.adjust_head(number),
        id::XDP_ADJUST_META => packet.adjust_meta(number),
        id::XDP_ADJUST_TAIL => packet.adjust_tail(number),
        // All of the packet is within reach.
        id::SKB_PULL_DATA => 0,
        id::SKB_CHANGE_TAIL => packet.change_tail(second as u32 as usize),
        id::SKB_ADJUST_ROOM => {
            ensure!(third as u32 == 1, "room that is not behind the MAC header");
            packet.make_room(usize::try_from(number)?)
        }
        id::SKB_LOAD_BYTES => {
            let bytes = packet.within(second as u32 as usize, fourth as u32 as usize);
            match bytes.map(<[u8]>::to_vec) {
                Some(bytes) => copy(memory, third, &bytes)?,
                None => FAULT,
            }
        }
        id::SKB_STORE_BYTES => {
            let bytes = memory.bytes(third, fourth as u32 as usize)?.to_vec();
            let place = memory
                .packet
                .within_mut(second as u32 as usize, bytes.len());
            place.map_or(FAULT, |place| {
                place.copy_from_slice(&bytes);
                0
            })
        }
        id::L4_CSUM_REPLACE => replace(memory, arguments)?,
        _ => bail!("helper {id} is not modelled"),
    };
    Ok(result as u64)
}

fn copy(memory: &mut Memory, to: u64, bytes: &[u8]) -> Result<i64> {
    memory.bytes_mut(to, bytes.len())?.copy_from_slice(bytes);
    Ok(0)
}

fn map(memory: &mut Memory, id: u32, [handle, key, value, flags, _]: [u64; 5]) -> Result<u64> {
    let index = memory.map_of(handle)?;
    let shape = memory.maps[index].shape;
    let key = memory.bytes(key, shape.key)?.to_vec();
    let result = match id {
        id::MAP_LOOKUP_ELEM => {
            let found = memory.maps[index].find(&key)?;
            return Ok(found.map_or(0, |place| memory.value(index, place)));
        }
        id::MAP_UPDATE_ELEM => {
            let value = memory.bytes(value, shape.value)?.to_vec();
            memory.maps[index].update(&key, &value, flags)?
        }
        _ => {
            ensure!(
                shape.kind != Kind::Array,
                "nothing is removed from an array"
            );
            memory.maps[index].remove(&key)
        }
    };
    Ok(result as u64)
}

/// `bpf_csum_diff`: a sum of 16 bits over what is added and the complement of what is taken away.
fn sum(memory: &Memory, [from, taken, to, added, seed]: [u64; 5]) -> Result<i64> {
    let mut sum = u64::from(seed as u32);
    for (address, length, flip) in [(from, taken, u16::MAX), (to, added, 0)] {
        let length = length as u32 as usize;
        if length == 0 {
            continue;
        }
        for pair in memory.bytes(address, length)?.chunks_exact(2) {
            sum += u64::from(u16::from_le_bytes([pair[0], pair[1]]) ^ flip);
        }
    }
    Ok(i64::from(fold(sum)))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// `bpf_l4_csum_replace` from 0 to a difference, for a packet whose checksum no device is to finish.
fn replace(memory: &mut Memory, [_, offset, from, to, flags]: [u64; 5]) -> Result<i64> {
    /// `BPF_F_MARK_MANGLED_0`, and the size of what is replaced.
    const ZERO_IS_NONE: u64 = 0x20;
    const SIZE: u64 = 0x0f;
    ensure!(
        from == 0 && flags & SIZE == 0,
        "only differences are modelled"
    );
    let zero_is_none = flags & ZERO_IS_NONE != 0;
    let Some(field) = memory.packet.within_mut(offset as u32 as usize, 2) else {
        return Ok(FAULT);
    };
    let old = u16::from_le_bytes([field[0], field[1]]);
    if zero_is_none && old == 0 {
        return Ok(0);
    }
    let mut new = !fold(u64::from(!old) + u64::from(to as u32));
    if zero_is_none && new == 0 {
        new = u16::MAX;
    }
    field.copy_from_slice(&new.to_le_bytes());
    Ok(0)
}

/// `bpf_fib_lookup` over `struct bpf_fib_lookup`: the way that the world has for its destination. As on a host that
/// does not forward: only `lo` may ask.
fn route(memory: &mut Memory, world: &World, question: u64, size: u64) -> Result<i64> {
    const LOOPBACK: u32 = 1;
    const INET6: u8 = 10;
    const NOT_FORWARDED: i64 = 4;
    const FORWARDING_DISABLED: i64 = 5;
    ensure!(size == 64, "a question of {size} bytes");
    let question = memory.bytes_mut(question, 64)?;
    if question[8..12] != LOOPBACK.to_le_bytes() {
        return Ok(FORWARDING_DISABLED);
    }
    let mut destination = [0; 16];
    destination.copy_from_slice(&question[32..48]);
    let destination = match question[0] {
        INET6 => IpAddr::V6(Ipv6Addr::from(destination)),
        _ => {
            let [a, b, c, d, ..] = destination;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
    };
    let Some(route) = world.routes.get(&destination) else {
        return Ok(NOT_FORWARDED);
    };
    question[6..8].copy_from_slice(&route.mtu.to_le_bytes());
    question[8..12].copy_from_slice(&route.device.to_le_bytes());
    question[52..58].copy_from_slice(&route.source);
    question[58..64].copy_from_slice(&route.destination);
    Ok(0)
}
