//! Copies of packets: having the programs make them, and reading them.

use std::{
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use anyhow::Context as _;
use aya::{
    maps::{HashMap, Map, MapData, PerfEventArray, perf::PerfEvent, perf::PerfEventArrayBuffer},
    util::online_cpus,
};
use forwarder_common::{
    capture::{Order, Sample},
    rule::NAME_LENGTH,
};

use super::{Attached, Datapath, Link, Wanted, pins};

/// The map of copies, as it is pinned.
pub(super) const SAMPLES: &str = "SAMPLES";

/// Room for copies, in pages for each CPU: about a thousand full frames.
const PAGES: usize = 512;

impl Datapath {
    /// Has the programs make copies of what they translate, on the devices given, until [`Datapath::end_capture`].
    ///
    /// # Errors
    /// The kernel refuses a program or a map; call [`Datapath::end_capture`] then.
    pub fn begin_capture(
        &mut self,
        order: Order,
        served: &[(Link, Attached)],
        native: impl Fn(&Link) -> bool,
    ) -> anyhow::Result<()> {
        self.programs.order(order)?;
        self.programs.capture(true)?;
        self.exchange(served, native)
    }

    /// Puts the usual programs back.
    ///
    /// # Errors
    /// The kernel refuses a program or a map.
    pub fn end_capture(
        &mut self,
        served: &[(Link, Attached)],
        native: impl Fn(&Link) -> bool,
    ) -> anyhow::Result<()> {
        self.programs.capture(false)?;
        self.exchange(served, native)?;
        self.programs.unload_captures()
    }

    /// Replaces each device's programs, in one step each.
    fn exchange(
        &mut self,
        served: &[(Link, Attached)],
        native: impl Fn(&Link) -> bool,
    ) -> anyhow::Result<()> {
        for (link, attached) in served {
            let wanted = Wanted {
                mode: attached.mode,
                native: native(link),
                egress: attached.egress,
                occupant: None,
            };
            self.attach(link, wanted)?;
        }
        Ok(())
    }

    /// The slot of the rule `name`.
    pub fn rule_slot(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }
}

/// Where copies arrive. While it is open, the programs have somewhere to put them.
pub struct Samples {
    buffers: Vec<Buffer>,
    names: HashMap<MapData, u32, [u8; NAME_LENGTH]>,
}

/// One CPU's copies; readable when there are some.
pub struct Buffer(PerfEventArrayBuffer<MapData>);

impl AsRawFd for Buffer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Buffer {
    /// Takes what has come, and returns how many copies were lost because there was no room.
    pub fn drain(&mut self, mut each: impl FnMut(Sample, &[u8])) -> u64 {
        let mut lost = 0;
        let mut joined = Vec::new();
        self.0.for_each(|event| match event {
            PerfEvent::Sample { head, tail } => {
                // It lies across the end of the ring now and then.
                let bytes = if tail.is_empty() {
                    head
                } else {
                    joined.clear();
                    joined.extend_from_slice(head);
                    joined.extend_from_slice(tail);
                    &joined
                };
                if let Some((sample, packet)) = Sample::split(bytes) {
                    each(sample, packet);
                }
            }
            PerfEvent::Lost { count } => lost += count,
        });
        lost
    }
}

impl Samples {
    /// Opens what is pinned in `directory`.
    ///
    /// # Errors
    /// There is nothing, or this process may not.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let pinned = |name: &str| {
            let path = pins::map_in(directory, name);
            let data = MapData::from_pin(&path).with_context(|| {
                format!(
                    "cannot open {}: run this as root in the forwarder's network namespace",
                    path.display()
                )
            })?;
            Ok::<_, anyhow::Error>(data)
        };
        let map = Map::from_map_data(pinned(SAMPLES)?)?;
        let mut samples = PerfEventArray::try_from(map)?;
        let names = HashMap::try_from(Map::from_map_data(pinned("RULE_NAMES")?)?)?;
        let mut buffers = Vec::new();
        for cpu in online_cpus().map_err(|(_, error)| error)? {
            let buffer = samples.open(cpu, Some(PAGES));
            let buffer =
                buffer.context("cannot make room for copies of packets: run this as root")?;
            buffers.push(Buffer(buffer));
        }
        Ok(Self { buffers, names })
    }

    /// The buffers, one for each CPU, and what tells the names of rules.
    pub fn split(self) -> (Vec<Buffer>, Names) {
        (self.buffers, Names(self.names))
    }
}

/// Names of rules by slot.
pub struct Names(HashMap<MapData, u32, [u8; NAME_LENGTH]>);

impl Names {
    /// The name of the rule with this slot.
    pub fn get(&self, slot: u32) -> Option<String> {
        let bytes = self.0.get(&slot, 0).ok()?;
        let length = bytes.iter().position(|byte| *byte == 0);
        let name = &bytes[..length.unwrap_or(bytes.len())];
        Some(String::from_utf8_lossy(name).into_owned())
    }
}
