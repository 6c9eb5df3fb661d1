//! The bench's programs in the kernel, one set for each rig.

mod run;

use anyhow::{Context, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, MapData},
    programs::{
        SchedClassifier, TcAttachType, Xdp,
        tc::qdisc_add_clsact,
        xdp::{XdpLinkId, XdpMode},
    },
};

use crate::count::{BUCKETS, Counted, Expected};
use crate::wire::{Plan, Progress};

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
    attached: Vec<(&'static str, XdpLinkId)>,
}

/// The program on TC.
const SINK_TC: &str = "sink_tc";

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
            "syn_v4",
            "syn_v6",
            "segments",
            "probe_v4",
            "probe_v6",
            "client",
            "server",
            "sink",
            "ceiling",
            "empty",
        ] {
            xdp(&mut ebpf, name)?
                .load()
                .with_context(|| format!("the kernel refuses the program `{name}`"))?;
        }
        classifier(&mut ebpf)?
            .load()
            .with_context(|| format!("the kernel refuses the program `{SINK_TC}`"))?;
        let attached = Vec::new();
        Ok(Self { ebpf, attached })
    }

    /// Attaches a program to a device of the calling thread's namespace, for as long as this lives.
    ///
    /// # Errors
    /// If there is no such device, or it has a program already.
    pub fn attach(&mut self, name: &'static str, device: &str) -> Result<()> {
        let link = xdp(&mut self.ebpf, name)?
            .attach(device, XdpMode::Driver)
            .with_context(|| format!("attaching `{name}` to {device}"))?;
        self.attached.push((name, link));
        Ok(())
    }

    /// Takes a program off its device.
    ///
    /// # Errors
    /// If it is on none.
    pub fn detach(&mut self, name: &str) -> Result<()> {
        let mut attached = self.attached.iter();
        let index = attached.position(|(it, _)| *it == name);
        let index = index.with_context(|| format!("`{name}` is attached nowhere"))?;
        let (_, link) = self.attached.swap_remove(index);
        xdp(&mut self.ebpf, name)?
            .detach(link)
            .with_context(|| format!("detaching `{name}`"))
    }

    /// Attaches the sink for packets of a stack to a device of the calling thread's namespace, for as long as this lives.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn attach_sink_tc(&mut self, device: &str) -> Result<()> {
        // Kernels before 6.6 need it, and others do not mind.
        let _ = qdisc_add_clsact(device);
        classifier(&mut self.ebpf)?
            .attach(device, TcAttachType::Ingress)
            .with_context(|| format!("attaching `{SINK_TC}` to {device}"))?;
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
}

impl Counted {
    /// All frames.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.packets + self.others
    }
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name);
    let program = program.with_context(|| format!("the object has no program `{name}`"))?;
    Ok(program.try_into()?)
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let program = ebpf.program_mut(SINK_TC);
    let program = program.with_context(|| format!("the object has no program `{SINK_TC}`"))?;
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
