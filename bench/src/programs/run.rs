//! Runs of the programs that no packet sets off.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::{
    maps::{MapData, ProgramArray},
    programs::{ProgramError, ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
};

use super::{Programs, xdp};
use crate::plan::LENGTH_SEGMENT;
use crate::wire::{LENGTH_V4, LENGTH_V6, SYN_V4, SYN_V6};

/// One run of the generator ends by itself after this many frames; in practice a signal ends it before.
const FRAMES: u32 = u32::MAX;

/// Frames that the kernel makes ready at a time. Their pool has as many places: with fewer than are on their way to the
/// gateway and back, pages go to the allocator and are made anew, on whose time depends on chance.
const BATCH: u32 = 256;

/// The same where the time of each packet matters.
const SMALL_BATCH: u32 = 4;

impl Programs {
    /// Has an end of connections hear a frame that came in by the loopback device. Returns its verdict and its answer.
    ///
    /// # Errors
    /// If the kernel refuses to.
    pub fn hear(&self, end: &str, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut answer = vec![0; frame.len() + 128];
        let program: &Xdp = self.ebpf.program(end).context("no program")?.try_into()?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut answer),
            ..TestRunOptions::new()
        })?;
        answer.truncate(result.data_size_out as usize);
        Ok((result.return_value, answer))
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
        packet.truncate(result.data_size_out as usize);
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
        let name = match frame.len() {
            LENGTH_V4 => "generator_v4",
            LENGTH_V6 => "generator_v6",
            SYN_V4 => "syn_v4",
            SYN_V6 => "syn_v6",
            LENGTH_SEGMENT => "segments",
            other => bail!("no generator makes frames of {other} bytes"),
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

fn is_interruption(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if error.io_error.kind() == std::io::ErrorKind::Interrupted)
}
