//! The bench's programs in the kernel, one set for each rig.

use std::time::Duration;

use anyhow::{Context, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, MapData, ProgramArray},
    programs::{
        ProgramError, ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, xdp::XdpMode,
    },
};

use crate::wire::{BUCKETS, Counted, Expected, LENGTH_V6, Plan, Progress};

/// What bench/build.rs built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench-ebpf"));

// SAFETY: for this and the next four: integers only, laid out by `repr(C)` without padding that anybody reads.
unsafe impl Pod for Plan {}
// SAFETY: as above.
unsafe impl Pod for Progress {}
// SAFETY: as above.
unsafe impl Pod for Expected {}
// SAFETY: as above.
unsafe impl Pod for Counted {}
// SAFETY: as above.
unsafe impl Pod for Way {}

/// Where the ceiling sends everything: MACs as in the frame, destination first, and a device.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Way {
    /// Destination and source.
    pub macs: [[u8; 6]; 2],
    /// The device's index.
    pub device: u32,
}

/// Programs and maps.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
}

/// One run of the generator ends by itself after this many frames; in practice a signal ends it before.
const FRAMES: u32 = u32::MAX;

/// Frames that the kernel makes ready at a time, which leave together.
const BATCH: u32 = 64;

/// The same where the time of each packet matters.
const SMALL_BATCH: u32 = 4;

impl Programs {
    /// Loads them all.
    ///
    /// # Errors
    /// If the kernel refuses one.
    pub fn load() -> Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("loading the bench's programs")?;
        for name in [
            "generator_v4",
            "generator_v6",
            "probe_v4",
            "probe_v6",
            "sink",
            "ceiling",
            "empty",
        ] {
            xdp(&mut ebpf, name)?
                .load()
                .with_context(|| format!("the kernel refuses the program `{name}`"))?;
        }
        Ok(Self { ebpf })
    }

    /// Attaches a program to a device of the calling thread's namespace, for as long as this lives.
    ///
    /// # Errors
    /// If there is no such device, or it has a program already.
    pub fn attach(&mut self, name: &str, device: &str) -> Result<()> {
        xdp(&mut self.ebpf, name)?
            .attach(device, XdpMode::Driver)
            .with_context(|| format!("attaching `{name}` to {device}"))?;
        Ok(())
    }

    /// Tells the ceiling its way.
    ///
    /// # Errors
    /// Those of the map.
    pub fn set_way(&mut self, way: Way) -> Result<()> {
        set(&mut self.ebpf, "WAY", way)
    }

    /// Tells the generator what to send, and forgets what it has sent.
    ///
    /// # Errors
    /// Those of the map.
    pub fn set_plan(&mut self, plan: Plan) -> Result<()> {
        let progress = Progress {
            lost: 0_u64.wrapping_sub(self.counted()?.total()),
            random: 0x9e37_79b9,
            ..Progress::default()
        };
        set(&mut self.ebpf, "PROGRESS", progress)?;
        set(&mut self.ebpf, "PLAN", plan)
    }

    /// Tells the sink what to count.
    ///
    /// # Errors
    /// Those of the map.
    pub fn set_expected(&mut self, expected: Expected) -> Result<()> {
        set(&mut self.ebpf, "EXPECTED", expected)
    }

    /// What the sink has counted since the beginning.
    ///
    /// # Errors
    /// Those of the map.
    pub fn counted(&self) -> Result<Counted> {
        get(&self.ebpf, "COUNTED")
    }

    /// How far the generator is.
    ///
    /// # Errors
    /// Those of the map.
    pub fn progress(&self) -> Result<Progress> {
        get(&self.ebpf, "PROGRESS")
    }

    /// Packets by the bucket of their latency since the beginning.
    ///
    /// # Errors
    /// Those of the map.
    pub fn latency(&self) -> Result<Vec<u64>> {
        let map: Array<&MapData, u64> = self.ebpf.map("LATENCY").context("no map")?.try_into()?;
        (0..BUCKETS).map(|index| Ok(map.get(&index, 0)?)).collect()
    }

    /// Has the generator make one packet out of a frame, which goes nowhere. Returns its verdict and the packet.
    ///
    /// # Errors
    /// If the kernel refuses to.
    pub fn one(&self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut packet = vec![0; frame.len()];
        let result = self.generator(frame)?.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut packet),
            ..TestRunOptions::new()
        })?;
        Ok((result.return_value, packet))
    }

    /// Has the probe make `packets` packets of the plan and a program look at each, as if they had come in by the device
    /// `ingress` of the calling thread's namespace. Returns the nanoseconds that one took and the last verdict.
    ///
    /// # Errors
    /// If the kernel refuses to.
    pub fn probe(
        &mut self,
        target: Option<&ProgramFd>,
        length: usize,
        ingress: u32,
        packets: u32,
    ) -> Result<(f64, u32)> {
        let empty = xdp(&mut self.ebpf, "empty")?.fd()?.try_clone()?;
        let map = self.ebpf.map_mut("TARGET").context("no map `TARGET`")?;
        let mut map: ProgramArray<&mut MapData> = map.try_into()?;
        map.set(0, target.unwrap_or(&empty), 0)
            .context("the kernel refuses to call the program")?;
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, u32::try_from(length)?, 0, ingress, 0, 0].map(u32::to_ne_bytes);
        let name = if length == LENGTH_V6 {
            "probe_v6"
        } else {
            "probe_v4"
        };
        let result = xdp(&mut self.ebpf, name)?.test_run(TestRunOptions {
            data_in: Some(&vec![0; length]),
            ctx_in: Some(context.as_flattened()),
            repeat: packets,
            ..TestRunOptions::new()
        })?;
        Ok((result.duration.as_secs_f64() * 1e9, result.return_value))
    }

    /// The program for frames of this length.
    fn generator(&self, frame: &[u8]) -> Result<&Xdp> {
        let name = if frame.len() == LENGTH_V6 {
            "generator_v6"
        } else {
            "generator_v4"
        };
        let program = self.ebpf.program(name).context("no program")?;
        Ok(program.try_into()?)
    }

    /// Runs the generator in the calling thread and namespace, until a signal comes.
    ///
    /// # Errors
    /// If the kernel refuses to.
    pub fn generate(&self, frame: &[u8], timely: bool) -> Result<Duration> {
        let program = self.generator(frame)?;
        let batch = if timely { SMALL_BATCH } else { BATCH };
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: FRAMES,
            attrs: TestRunAttrs::new().xdp_live_frames(batch),
            ..TestRunOptions::new()
        };
        match program.test_run(options) {
            Ok(result) => Ok(result.duration),
            Err(error) if is_interruption(&error) => Ok(Duration::ZERO),
            Err(error) => Err(error).context("running the generator"),
        }
    }
}

impl Counted {
    /// All frames.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.packets + self.others
    }
}

fn is_interruption(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if error.io_error.kind() == std::io::ErrorKind::Interrupted)
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name);
    let program = program.with_context(|| format!("the object has no program `{name}`"))?;
    Ok(program.try_into()?)
}

fn set<V: Pod>(ebpf: &mut Ebpf, name: &str, value: V) -> Result<()> {
    let map = ebpf.map_mut(name);
    let map = map.with_context(|| format!("the object has no map `{name}`"))?;
    let mut map: Array<&mut MapData, V> = map.try_into()?;
    map.set(0, value, 0)
        .with_context(|| format!("writing the map `{name}`"))
}

fn get<V: Pod>(ebpf: &Ebpf, name: &str) -> Result<V> {
    let map = ebpf.map(name);
    let map = map.with_context(|| format!("the object has no map `{name}`"))?;
    let map: Array<&MapData, V> = map.try_into()?;
    map.get(&0, 0)
        .with_context(|| format!("reading the map `{name}`"))
}
