//! The programs by name and type.

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{Program, ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};

use forwarder_common::{
    capture::Order,
    settings::{FAMILY_V4, FAMILY_V6},
    stage::Stage,
};

use super::{Datapath, object::take};

/// The fast path.
pub(super) const XDP: &str = "forwarder_xdp";
/// The whole pipeline on TC.
pub(super) const TC: &str = "forwarder_tc";
/// What XDP hands over, on TC.
pub(super) const SLOW: &str = "forwarder_slow";
/// What this host itself sends, on TC.
pub(super) const EGRESS: &str = "forwarder_egress";
/// What the names of programs begin with that are the others once more and make copies.
const CAPTURE: &str = "capture_";
/// Sends a frame under test run.
const PROMPT: &str = "forwarder_prompt";
/// Reads the kernel's clocks.
const CLOCK: &str = "forwarder_clock";

/// How often a load is repeated that a signal has interrupted: as often as libbpf does it.
const INTERRUPTIONS: u32 = 4;

/// The programs, each loaded when something needs it: the verifier takes its time for every one.
pub(super) struct Programs {
    ebpf: Ebpf,
    /// In the order of [`HOOKS`]. The kernel empties a table of programs when the last descriptor or pin of it
    /// goes.
    stages: Vec<ProgramArray<MapData>>,
    /// Which of [`HOOKS`] are in use.
    hooks: [bool; HOOKS.len()],
    /// Which address families are: [`FAMILY_V4`], [`FAMILY_V6`].
    families: u32,
    /// Whether those programs are in use that make copies, where there are such.
    capture: bool,
    /// What they are to copy.
    order: Array<MapData, Order>,
}

/// What a program did with a packet under test run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// The program's return value.
    pub verdict: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
}

/// A hook's table of stages, what its programs are called, and its main program.
const HOOKS: [(&str, &str, &str); 3] = [
    ("XDP_STAGES", "xdp", XDP),
    ("TC_STAGES", "tc", TC),
    ("EGRESS_STAGES", "egress", EGRESS),
];

/// The families, with the suffixes of their programs.
const FAMILIES: [(u32, bool, &str); 2] = [(FAMILY_V4, false, "v4"), (FAMILY_V6, true, "v6")];

impl Programs {
    /// Loads what is needed in any case.
    pub(super) fn load(mut ebpf: Ebpf) -> anyhow::Result<Self> {
        let stages = HOOKS
            .map(|(map, _, _)| take(&mut ebpf, map))
            .into_iter()
            .collect::<anyhow::Result<_>>()?;
        let order = take(&mut ebpf, "CAPTURE")?;
        let mut programs = Self {
            ebpf,
            stages,
            hooks: [false; HOOKS.len()],
            families: 0,
            capture: false,
            order,
        };
        programs.load_one(CLOCK)?;
        Ok(programs)
    }

    /// Has the stages of `families` ready, besides those that are.
    pub(super) fn serve(&mut self, families: u32) -> anyhow::Result<()> {
        self.families |= families;
        for hook in 0..HOOKS.len() {
            if self.hooks[hook] {
                self.load_hook(hook)?;
            }
        }
        Ok(())
    }

    /// Loads a hook's main program and its stages.
    fn load_hook(&mut self, hook: usize) -> anyhow::Result<()> {
        let (_, prefix, main) = HOOKS[hook];
        self.load_one(&self.variant(main))?;
        for (family, ipv6, suffix) in FAMILIES {
            if self.families & family == 0 {
                continue;
            }
            for (stage, word) in Stage::ALL {
                let name = format!("{prefix}_{word}_{suffix}");
                // On XDP it is a program of its own, without what every packet meets first.
                let is_whole = stage == Stage::Main && self.ebpf.program(&name).is_none();
                let name = self.variant(if is_whole { main } else { &name });
                let name = name.as_str();
                // Some hooks have no use for some stages.
                if self.ebpf.program(name).is_none() {
                    continue;
                }
                self.load_one(name)?;
                if let Some(program) = self.ebpf.program(name) {
                    self.stages[hook].set(stage.index(ipv6), program.fd()?, 0)?;
                }
            }
        }
        self.hooks[hook] = true;
        Ok(())
    }

    /// The program that stands for `name`: the one that makes copies, while it is to and if there is one.
    fn variant(&self, name: &str) -> String {
        let copying = format!("{CAPTURE}{name}");
        match self.capture && self.ebpf.program(&copying).is_some() {
            true => copying,
            false => name.to_owned(),
        }
    }

    /// Tells the programs what to copy.
    pub(super) fn order(&mut self, order: Order) -> anyhow::Result<()> {
        Ok(self.order.set(0, order, 0)?)
    }

    /// Has programs ready that make copies, or the others; they take effect when the main ones are attached.
    pub(super) fn capture(&mut self, on: bool) -> anyhow::Result<()> {
        self.capture = on;
        self.serve(0)
    }

    /// Has the same programs ready as `before`, which copy what those copy.
    pub(super) fn as_before(&mut self, before: &Self) -> anyhow::Result<()> {
        self.capture = before.capture;
        self.order(before.order.get(&0, 0)?)?;
        self.families = before.families;
        self.hooks = before.hooks;
        self.serve(0)
    }

    /// Gives back what programs take that make copies.
    pub(super) fn unload_captures(&mut self) -> anyhow::Result<()> {
        for (name, program) in self.ebpf.programs_mut() {
            if !name.starts_with(CAPTURE) || program.fd().is_err() {
                continue;
            }
            match program {
                Program::Xdp(program) => program.unload()?,
                Program::SchedClassifier(program) => program.unload()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Loads the program `name`, if it is not.
    fn load_one(&mut self, name: &str) -> anyhow::Result<()> {
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("the eBPF object has no program `{name}`"))?;
        if program.fd().is_ok() {
            return Ok(());
        }
        let mut load = || match program {
            Program::Xdp(program) => Ok(program.load()),
            Program::SchedClassifier(program) => Ok(program.load()),
            _ => anyhow::bail!("the eBPF object has a program `{name}` of another kind"),
        };
        let mut loaded = load()?;
        for _ in 0..INTERRUPTIONS {
            if !was_interrupted(&loaded) {
                break;
            }
            loaded = load()?;
        }
        loaded.with_context(|| refused(name))
    }

    pub(super) fn xdp(&mut self) -> anyhow::Result<&mut Xdp> {
        self.load_hook(0)?;
        let name = self.variant(XDP);
        find(&mut self.ebpf, &name)
    }

    pub(super) fn tc(&mut self, name: &str) -> anyhow::Result<&mut SchedClassifier> {
        self.load_hook(if name == EGRESS { 2 } else { 1 })?;
        let name = self.variant(name);
        self.load_one(&name)?;
        find(&mut self.ebpf, &name)
    }

    /// Every program of the object, loaded or not.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.ebpf.programs()
    }

    /// Loads everything there is and tells its cost.
    pub(super) fn verified(&mut self) -> anyhow::Result<Vec<(String, Option<u32>)>> {
        let names: Vec<_> = self
            .ebpf
            .programs()
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut costs = Vec::new();
        for name in names {
            self.load_one(&name)?;
            let program = self.ebpf.program(&name).context("the program is gone")?;
            costs.push((name, program.info()?.verified_instruction_count()));
        }
        costs.sort();
        Ok(costs)
    }

    /// Runs the clock program, which leaves its reading in the `CLOCK` map.
    pub(super) fn read_clock(&mut self) -> anyhow::Result<()> {
        let program: &mut Xdp = find(&mut self.ebpf, CLOCK)?;
        program
            .test_run(TestRunOptions {
                data_in: Some(&[0; 64]),
                ..TestRunOptions::new()
            })
            .context("cannot read the kernel's clock")?;
        Ok(())
    }

    pub(super) fn run_xdp(&mut self, packet: &[u8], ingress: u32) -> anyhow::Result<TestRun> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut context = [0_u32; 6];
        context[1] = u32::try_from(packet.len())?;
        context[3] = ingress;
        let bytes: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut output = vec![0; packet.len() + 256];
        let result = self.xdp()?.test_run(TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut output),
            ctx_in: Some(&bytes),
            ..TestRunOptions::new()
        })?;
        output.truncate(result.data_size_out as usize);
        Ok(TestRun {
            verdict: result.return_value,
            packet: output,
        })
    }

    pub(super) fn run_tc(&mut self, packet: &[u8], ingress: u32) -> anyhow::Result<TestRun> {
        self.run_classifier(TC, packet, [ingress; 2], 0)
    }

    pub(super) fn run_egress(&mut self, packet: &[u8], egress: u32) -> anyhow::Result<TestRun> {
        self.run_classifier(EGRESS, packet, [0, egress], 0)
    }

    /// Sends a frame out of a device.
    pub(super) fn send(&mut self, frame: &[u8], device: u32) -> anyhow::Result<()> {
        self.load_one(PROMPT)?;
        let program: &mut SchedClassifier = find(&mut self.ebpf, PROMPT)?;
        // struct __sk_buff: ifindex is at offset 40.
        let mut context = [0_u8; 192];
        context[40..44].copy_from_slice(&device.to_ne_bytes());
        let sent = program.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        })?;
        anyhow::ensure!(sent.return_value == 0, "the kernel does not take the frame");
        Ok(())
    }

    /// Runs a TC program over a packet that came in by the first of `devices`, 0 for none, and is at the second.
    fn run_classifier(
        &mut self,
        name: &str,
        packet: &[u8],
        devices: [u32; 2],
        segment: u32,
    ) -> anyhow::Result<TestRun> {
        // struct __sk_buff: ingress_ifindex and ifindex are at offsets 36 and 40, gso_size at 176.
        let mut context = [0_u8; 192];
        context[36..40].copy_from_slice(&devices[0].to_ne_bytes());
        context[40..44].copy_from_slice(&devices[1].to_ne_bytes());
        context[176..180].copy_from_slice(&segment.to_ne_bytes());
        let mut output = vec![0; packet.len() + 256];
        let result = self.tc(name)?.test_run(TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut output),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        })?;
        output.truncate(result.data_size_out as usize);
        Ok(TestRun {
            verdict: result.return_value,
            packet: output,
        })
    }
}

impl Datapath {
    /// Runs the XDP program over `packet` as if it had come in by the device `ingress`, maps and all.
    ///
    /// # Errors
    /// The kernel refuses the test run.
    pub fn run_xdp(&mut self, packet: &[u8], ingress: u32) -> anyhow::Result<TestRun> {
        self.programs.run_xdp(packet, ingress)
    }

    /// Runs the TC program over `packet` as if it had come in by the device `ingress`, maps and all.
    ///
    /// # Errors
    /// The kernel refuses the test run.
    pub fn run_tc(&mut self, packet: &[u8], ingress: u32) -> anyhow::Result<TestRun> {
        self.programs.run_tc(packet, ingress)
    }

    /// As [`Datapath::run_tc`] for a super-packet that will be cut up into segments of `segment` bytes of
    /// payload.
    ///
    /// # Errors
    /// The kernel refuses the test run.
    pub fn run_tc_super(
        &mut self,
        packet: &[u8],
        ingress: u32,
        segment: u32,
    ) -> anyhow::Result<TestRun> {
        let devices = [ingress; 2];
        self.programs.run_classifier(TC, packet, devices, segment)
    }

    /// Runs the egress program over `packet` as if this host sent it and it was about to leave by the device
    /// `egress`.
    ///
    /// # Errors
    /// The kernel refuses the test run.
    pub fn run_egress(&mut self, packet: &[u8], egress: u32) -> anyhow::Result<TestRun> {
        self.programs.run_egress(packet, egress)
    }

    /// Instructions the verifier walked through, by program; `None` before Linux 5.16 (aba64c7da983).
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn verified(&mut self) -> anyhow::Result<Vec<(String, Option<u32>)>> {
        self.programs.verified()
    }
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the eBPF object has no program `{name}`"))?;
    Ok(program.try_into()?)
}

/// The verifier gives up with `EAGAIN` when a signal is pending (`do_check` in kernel/bpf/verifier.c).
fn was_interrupted(loaded: &Result<(), ProgramError>) -> bool {
    matches!(loaded, Err(ProgramError::LoadError { io_error, .. })
        if io_error.kind() == std::io::ErrorKind::WouldBlock)
}

fn refused(name: &str) -> String {
    format!("the kernel refuses the program `{name}`")
}
