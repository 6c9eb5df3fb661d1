//! The maps of a loaded datapath, copied out of the kernel.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{MapInfo, MapType};
use forwarder::datapath::{Datapath, LoadedProgram};
use tests::machine::map::{Kind, Map, Shape};

use super::object::Code;

/// Of a map that is not there.
const ABSENT: Shape = Shape {
    kind: Kind::Other,
    key: 0,
    value: 0,
    entries: 0,
};
/// `enum bpf_cmd` in include/uapi/linux/bpf.h.
const LOOKUP: libc::c_int = 1;
const NEXT_KEY: libc::c_int = 4;
const LOOKUP_BATCH: libc::c_int = 24;

/// The maps as programs on `cpu` see them, by the numbers that `code` has for them. One that no loaded program uses is
/// empty.
pub fn copy(datapath: &Datapath, code: &Code, cpu: usize) -> Result<Vec<Map>> {
    let loaded = datapath.loaded()?;
    let programs: BTreeMap<_, _> = loaded.iter().map(|it| (it.id, it.name.as_str())).collect();
    let infos = infos(&loaded, code)?;
    let copy = |name: &String| match infos.get(name.as_str()) {
        Some(info) => one(name, info, cpu, &programs).with_context(|| format!("map {name}")),
        None => Ok(Map::new(name, ABSENT)),
    };
    code.maps.iter().map(copy).collect()
}

/// What the kernel says of the maps that loaded programs use, by name.
pub fn infos<'a>(loaded: &[LoadedProgram], code: &'a Code) -> Result<BTreeMap<&'a str, MapInfo>> {
    let mut infos = BTreeMap::new();
    for program in loaded {
        let uses = code.uses(&program.name);
        let name = &program.name;
        ensure!(uses.len() == program.maps.len(), "{name} uses other maps");
        for (number, id) in uses.into_iter().zip(&program.maps) {
            infos.insert(code.maps[number].as_str(), MapInfo::from_id(*id)?);
        }
    }
    Ok(infos)
}

fn one(name: &str, info: &MapInfo, cpu: usize, programs: &BTreeMap<u32, &str>) -> Result<Map> {
    let (kind, per_cpu) = match info.map_type()? {
        MapType::Array => (Kind::Array, false),
        MapType::PerCpuArray => (Kind::Array, true),
        MapType::Hash => (Kind::Hash, false),
        MapType::LruHash => (Kind::LruHash, false),
        MapType::LpmTrie => (Kind::PrefixTree, false),
        MapType::ProgramArray => (Kind::Programs, false),
        _ => (Kind::Other, false),
    };
    let shape = Shape {
        kind,
        key: info.key_size() as usize,
        value: info.value_size() as usize,
        entries: info.max_entries(),
    };
    let mut map = Map::new(name, shape);
    let descriptor = info.fd()?;
    let source = Source {
        descriptor: descriptor.as_fd().as_raw_fd(),
        shape,
        cpu: per_cpu.then_some(cpu),
    };
    match kind {
        Kind::Other => {}
        Kind::Array if !per_cpu => map.fill(source.all()?)?,
        Kind::Programs => {
            for (key, value) in source.entries()? {
                let [index, id] = [key, value].map(|it| it.try_into().map(u32::from_ne_bytes));
                let (Ok(index), Ok(id)) = (index, id) else {
                    continue;
                };
                let name = programs.get(&id).context("a program of somebody else's")?;
                map.insert_program(index, name);
            }
        }
        _ => {
            for (key, value) in source.entries()? {
                map.update(&key, &value, 0)?;
            }
        }
    }
    Ok(map)
}

/// A map in the kernel.
struct Source {
    descriptor: RawFd,
    shape: Shape,
    /// The CPU whose values are wanted, of a map that has some for each.
    cpu: Option<usize>,
}

/// `union bpf_attr` of the commands on one element: `map_fd`, `key`, `value` or `next_key`, `flags`.
#[repr(C)]
struct Element {
    descriptor: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` of the commands on many.
#[repr(C)]
struct Batch {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    descriptor: u32,
    element_flags: u64,
    flags: u64,
}

impl Source {
    /// Every entry.
    fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut entries = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0; self.shape.key];
            let from = key.as_ref().map_or(0, |key| address(key.as_ptr()));
            if self
                .element(NEXT_KEY, from, address(next.as_mut_ptr()))?
                .is_none()
            {
                return Ok(entries);
            }
            if let Some(value) = self.value(&next)? {
                entries.push((next.clone(), value));
            }
            key = Some(next);
        }
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let stride = self.shape.value.next_multiple_of(8);
        let cpus = match self.cpu {
            Some(_) => aya::util::nr_cpus().map_err(|(_, error)| error)?,
            None => 1,
        };
        let mut values = vec![0; stride * cpus];
        let found = self.element(LOOKUP, address(key.as_ptr()), address(values.as_mut_ptr()))?;
        let start = stride * self.cpu.unwrap_or(0);
        Ok(found.map(|()| values[start..start + self.shape.value].to_vec()))
    }

    /// All values of an array.
    fn all(&self) -> Result<Vec<u8>> {
        let entries = self.shape.entries as usize;
        let mut keys = vec![0_u8; 4 * entries];
        let mut values = vec![0_u8; self.shape.value * entries];
        let mut next = [0_u8; 4];
        let attributes = Batch {
            from: 0,
            next: address(next.as_mut_ptr()),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: self.shape.entries,
            descriptor: self.descriptor as u32,
            element_flags: 0,
            flags: 0,
        };
        bpf(LOOKUP_BATCH, &attributes).or_else(unless_absent)?;
        Ok(values)
    }

    /// `None` if there is no such element.
    fn element(&self, command: libc::c_int, key: u64, value: u64) -> Result<Option<()>> {
        let attributes = Element {
            descriptor: self.descriptor as u32,
            padding: 0,
            key,
            value,
            flags: 0,
        };
        match bpf(command, &attributes) {
            Ok(()) => Ok(Some(())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn unless_absent(error: Error) -> Result<(), Error> {
    match error.kind() {
        // The end was reached.
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

fn address(pointer: *const u8) -> u64 {
    pointer.addr() as u64
}

/// The system call. What the pointers in `attributes` lead to must be large enough.
fn bpf<A>(command: libc::c_int, attributes: &A) -> Result<(), Error> {
    let (pointer, size) = (&raw const *attributes, size_of::<A>());
    // SAFETY: the callers' attributes are laid out as the kernel's, and their buffers as large as the map says.
    match unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}
