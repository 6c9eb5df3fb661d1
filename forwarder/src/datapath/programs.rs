//! The programs by name and type.

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{MapData, ProgramArray},
    programs::{Program, ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};

use forwarder_common::stage::Stage;

use super::{Datapath, object::take};

/// The fast path.
pub(super) const XDP: &str = "forwarder_xdp";
/// The whole pipeline on TC.
pub(super) const TC: &str = "forwarder_tc";
/// What XDP hands over, on TC.
pub(super) const SLOW: &str = "forwarder_slow";
/// What this host itself sends, on TC.
pub(super) const EGRESS: &str = "forwarder_egress";
/// Reads the kernel's clocks.
const CLOCK: &str = "forwarder_clock";

/// How often a load is repeated that a signal has interrupted: as often as libbpf does it.
const INTERRUPTIONS: u32 = 4;

/// The loaded programs.
pub(super) struct Programs {
    ebpf: Ebpf,
    /// The kernel empties a table of programs when the last descriptor or pin of it goes.
    _stages: Vec<ProgramArray<MapData>>,
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

impl Programs {
    /// Loads every program of the object, and makes the stages reachable.
    pub(super) fn load(mut ebpf: Ebpf) -> anyhow::Result<Self> {
        for (name, program) in ebpf.programs_mut() {
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
            loaded.with_context(|| refused(name))?;
        }
        let mut tables = Vec::new();
        for (map, prefix, main) in HOOKS {
            let mut stages: ProgramArray<MapData> = take(&mut ebpf, map)?;
            for (stage, word) in Stage::ALL {
                for (ipv6, family) in [(false, "v4"), (true, "v6")] {
                    let name = format!("{prefix}_{word}_{family}");
                    let name = if stage == Stage::Main { main } else { &name };
                    // Some hooks have no use for some stages.
                    if let Some(program) = ebpf.program(name) {
                        stages.set(stage.index(ipv6), program.fd()?, 0)?;
                    }
                }
            }
            tables.push(stages);
        }
        Ok(Self {
            ebpf,
            _stages: tables,
        })
    }

    pub(super) fn xdp(&mut self) -> anyhow::Result<&mut Xdp> {
        find(&mut self.ebpf, XDP)
    }

    pub(super) fn tc(&mut self, name: &str) -> anyhow::Result<&mut SchedClassifier> {
        find(&mut self.ebpf, name)
    }

    pub(super) fn verified(&self) -> anyhow::Result<Vec<(String, Option<u32>)>> {
        let mut costs = Vec::new();
        for (name, program) in self.ebpf.programs() {
            costs.push((
                name.to_owned(),
                program.info()?.verified_instruction_count(),
            ));
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
        self.run_tc_super(packet, ingress, 0)
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
        self.programs.run_classifier(EGRESS, packet, [0, egress], 0)
    }

    /// Instructions the verifier walked through, by program; `None` before Linux 5.16 (aba64c7da983).
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn verified(&self) -> anyhow::Result<Vec<(String, Option<u32>)>> {
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
