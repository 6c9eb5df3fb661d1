//! Traffic through a gateway, and what it comes to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Pid, gettid};
use tests::netns::{Prefix, Reception, Wire};
use tests::process::wait_until;

use crate::hosts::Hosts;
use crate::napi::{self, Thread};
use crate::net::{Net, Pair};
use crate::plan::Traffic;
use crate::programs::Programs;
use crate::wire::{Counted, Expected, Progress};

/// Which CPU does what.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// The generator; for real connections, both of their ends.
    pub generator: usize,
    /// The gateway, and the sink behind it.
    pub gateway: usize,
}

/// Hosts with the generator and the sink at work.
#[derive(Debug)]
pub struct Rig {
    /// The programs. Declared before the hosts, so that they are off the devices first.
    pub programs: Programs,
    /// The hosts.
    pub hosts: Hosts,
    cpus: Cpus,
    wiring: Wiring,
    threads: Vec<Thread>,
    device: u32,
}

/// What runs over a rig's cables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Datagrams in one direction, which end in the sink's program.
    Datagrams,
    /// Connections between stacks whose senders make frames of wire size.
    Frames,
    /// Connections between stacks that leave segmentation and checksums to the device.
    SuperPackets,
}

/// What a while of traffic came to.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// How long it was looked at, or how long sending took if it had a limit.
    pub time: Duration,
    /// Packets that arrived.
    pub packets: u64,
    /// Packets that were sent, those included that found the gateway's ring full.
    pub sent: u64,
    /// How long the gateway's CPU worked on them.
    pub cpu: Duration,
    /// How long the gateway wanted its CPU and others had it.
    pub waited: Duration,
}

impl Passage {
    /// Packets a second of the time that the gateway had its CPU or did not want it.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.time.saturating_sub(self.waited).as_secs_f64()
    }

    /// The part of the time in which the gateway was not at work. In a flood it always has work: then it, or the
    /// generator, did not have its CPU.
    #[must_use]
    pub fn idle(&self) -> f64 {
        (1.0 - self.cpu.as_secs_f64() / self.time.as_secs_f64()).max(0.0)
    }

    /// Nanoseconds of the gateway's CPU for each packet.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.packets as f64
    }
}

impl Rig {
    /// Builds one without a gateway at work.
    ///
    /// # Errors
    /// As [`Hosts::build`], or if the kernel refuses a program.
    pub fn build(prefix: &Prefix, name: &str, cpus: Cpus, wiring: Wiring) -> Result<Self> {
        let wire = Wire {
            reception: Reception::Napi,
            checksum_offload: wiring == Wiring::SuperPackets,
            ..Wire::CABLE
        };
        let hosts = Hosts::build(prefix, name, wire)?;
        let mut programs = Programs::load()?;
        if wiring == Wiring::Datagrams {
            hosts
                .sink
                .run(|| programs.attach("sink", Net::SINK_DEVICE))??;
        }
        let device = hosts
            .generator
            .run(|| nix::net::if_::if_nametoindex(Net::GENERATOR_DEVICE))??;
        Ok(Self {
            programs,
            hosts,
            cpus,
            wiring,
            threads: Vec::new(),
            device,
        })
    }

    /// Puts the gateway's receiving on its CPU; to be called when the gateway is at work, which may switch NAPI.
    ///
    /// # Errors
    /// As [`Thread::of`].
    pub fn settle(&mut self) -> Result<()> {
        // Nothing comes back in a rig for datagrams.
        let devices: &[&str] = match self.wiring {
            Wiring::Datagrams => &[Net::IN],
            Wiring::Frames | Wiring::SuperPackets => &[Net::IN, Net::OUT],
        };
        for device in devices {
            let thread = Thread::of(&self.hosts.gateway, device, self.cpus.gateway)?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// Sends `traffic` while `body` runs. `expected` is where it is to arrive.
    ///
    /// # Errors
    /// If the generator cannot run, or those of `body`.
    pub fn during<T>(
        &mut self,
        traffic: &Traffic,
        expected: Pair,
        body: impl FnOnce(&Programs) -> Result<T>,
    ) -> Result<T> {
        self.programs.set_expected(Expected {
            destination: Net::low(traffic.v6, expected).to_be(),
            stamp: u32::from(traffic.stamp),
        })?;
        self.programs.set_plan(traffic.plan(self.device))?;
        ignore_signal()?;
        let (programs, hosts, cpu) = (&self.programs, &self.hosts, self.cpus.generator);
        let frame = vec![0; traffic.length()];
        let run = Run::default();
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let run = &run;
            let generate = move || -> Result<()> {
                let _ = sender.send(gettid());
                napi::pin(Pid::from_raw(0), cpu)?;
                napi::prefer(Pid::from_raw(0));
                while !run.stop.load(Ordering::Relaxed) {
                    programs.generate(&frame, traffic.stamp)?;
                }
                Ok(())
            };
            let generator = scope.spawn(move || {
                let outcome = hosts.generator.run(generate);
                run.over.store(true, Ordering::Relaxed);
                outcome?
            });
            let thread = receiver.recv().context("the generator did not start")?;
            let end = Stop { run, thread };
            let outcome = body(programs);
            drop(end);
            let generated = generator.join();
            generated.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            outcome
        })
    }

    /// Looks at `traffic` for `time`, after it has run for a quarter of that.
    ///
    /// # Errors
    /// As [`Rig::during`].
    pub fn measure(
        &mut self,
        traffic: &Traffic,
        expected: Pair,
        time: Duration,
    ) -> Result<Passage> {
        let thread = *self.threads.first().context("the gateway has no CPU yet")?;
        let idle = self.programs.counted()?.packets;
        self.during(traffic, expected, |programs| {
            // On a busy machine the generator may not have its CPU at once.
            let arrived = || programs.counted().is_ok_and(|it| it.packets != idle);
            wait_until("the arrival of a packet", FIRST, arrived)?;
            std::thread::sleep(time / 4);
            let look = || -> Result<(Instant, Counted, Progress, [Duration; 2])> {
                Ok((
                    Instant::now(),
                    programs.counted()?,
                    programs.progress()?,
                    thread.times()?,
                ))
            };
            let before = look()?;
            std::thread::sleep(time);
            let after = look()?;
            ensure!(
                after.1.packets != before.1.packets,
                "no packet arrived within {time:?}"
            );
            Ok(Passage {
                time: after.0 - before.0,
                packets: after.1.packets - before.1.packets,
                sent: after.2.sent - before.2.sent,
                cpu: after.3[0].saturating_sub(before.3[0]),
                waited: after.3[1].saturating_sub(before.3[1]),
            })
        })
    }

    /// Sends `traffic`, which has a limit, to its end. The time is the generator's own: starting and ending it would be
    /// most of a short run.
    ///
    /// # Errors
    /// As [`Rig::during`], or if it takes longer than `limit`.
    pub fn complete(
        &mut self,
        traffic: &Traffic,
        expected: Pair,
        limit: Duration,
    ) -> Result<Passage> {
        let thread = *self.threads.first().context("the gateway has no CPU yet")?;
        let before = self.programs.counted()?.packets;
        let [ran, waited] = thread.times()?;
        self.during(traffic, expected, |programs| {
            let sent = || programs.progress().is_ok_and(|it| it.last != 0);
            wait_until("the end of the traffic", limit, sent)?;
            let arrived = || programs.counted().map_or(0, |it| it.packets) - before;
            // What is lost never arrives.
            let _ = wait_until("", LAST, || arrived() >= traffic.limit);
            let progress = programs.progress()?;
            let after = thread.times()?;
            Ok(Passage {
                time: Duration::from_nanos(progress.last - progress.first),
                packets: arrived(),
                sent: progress.sent,
                cpu: after[0].saturating_sub(ran),
                waited: after[1].saturating_sub(waited),
            })
        })
    }
}

/// How long the first packet may take.
const FIRST: Duration = Duration::from_secs(2);

/// How long a packet may still be on its way when all are sent.
const LAST: Duration = Duration::from_millis(20);

/// What the generator's thread and the others tell each other.
#[derive(Default)]
struct Run {
    stop: AtomicBool,
    over: AtomicBool,
}

/// Stops the generator when dropped, also by a panic.
struct Stop<'a> {
    run: &'a Run,
    thread: Pid,
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.run.stop.store(true, Ordering::Relaxed);
        // Again and again: a signal between the look at `stop` and the test run would be lost.
        while !self.run.over.load(Ordering::Relaxed) {
            let (process, thread) = (Pid::this().as_raw(), self.thread.as_raw());
            // SAFETY: no memory is involved; a thread that has ended is none to signal, and no harm.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// SIGUSR1 is there to interrupt a system call, and for nothing else.
fn ignore_signal() -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = SigHandler::Handler(nothing);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.context("handling SIGUSR1")?;
    Ok(())
}
