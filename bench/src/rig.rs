//! Traffic through a gateway, and what it comes to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Pid, gettid};
use tests::netns::{Namespace, Prefix, Reception, Wire};
use tests::process::wait_until;

use crate::count::{Counted, Expected};
use crate::hosts::Hosts;
use crate::napi::{self, Thread, Times};
use crate::net::{Net, Pair};
use crate::passage::Passage;
use crate::plan::Traffic;
use crate::programs::Programs;
use crate::wire::Progress;

/// Which CPU does what.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// The generator; for connections between stacks, both of their ends.
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
    gateway: Vec<Thread>,
    device: u32,
}

/// What runs over a rig's cables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Datagrams in one direction, which end in the sink's program.
    Datagrams,
    /// Connections whose ends are programs. Towards the server segmentation and checksums are the device's, as on a card.
    Played,
    /// Connections between stacks that leave segmentation and checksums to the device.
    SuperPackets,
}

impl Rig {
    /// Builds one without a gateway at work.
    ///
    /// # Errors
    /// As [`Hosts::build`], or if the kernel refuses a program.
    pub fn build(prefix: &Prefix, name: &str, cpus: Cpus, wiring: Wiring) -> Result<Self> {
        let cable = |checksum_offload| Wire {
            reception: Reception::Napi,
            checksum_offload,
            ..Wire::CABLE
        };
        let stacks = wiring == Wiring::SuperPackets;
        let outside = cable(stacks || wiring == Wiring::Played);
        let hosts = Hosts::build(prefix, name, [cable(stacks), outside])?;
        let mut programs = Programs::load()?;
        let ends: &[(&Namespace, _, _)] = match wiring {
            Wiring::Datagrams => &[(&hosts.sink, "sink", Net::SINK_DEVICE)],
            Wiring::Played => &[
                (&hosts.sink, "server", Net::SINK_DEVICE),
                (&hosts.generator, "client", Net::GENERATOR_DEVICE),
            ],
            Wiring::SuperPackets => &[],
        };
        for (namespace, program, device) in ends {
            namespace.run(|| programs.attach(program, device))??;
        }
        let device = hosts
            .generator
            .run(|| nix::net::if_::if_nametoindex(Net::GENERATOR_DEVICE))??;
        Ok(Self {
            programs,
            hosts,
            cpus,
            wiring,
            gateway: Vec::new(),
            device,
        })
    }

    /// The threads that do the gateway's work, its receiving first.
    #[must_use]
    pub fn gateway(&self) -> &[Thread] {
        &self.gateway
    }

    /// Puts the gateway's receiving on its CPU; to be called when the gateway is at work, which may switch NAPI.
    ///
    /// # Errors
    /// As [`Thread::of`].
    pub fn settle(&mut self) -> Result<()> {
        let (hosts, cpus) = (&self.hosts, self.cpus);
        self.gateway = vec![
            Thread::of(&hosts.gateway, Net::IN, cpus.gateway)?,
            Thread::of_softirqs(cpus.gateway)?,
        ];
        // What comes back from programs is received right behind their sending. Stacks are no part of the gateway.
        if self.wiring == Wiring::SuperPackets {
            let out = Thread::of(&hosts.gateway, Net::OUT, cpus.gateway)?;
            self.gateway.push(out);
            Thread::of(&hosts.generator, Net::GENERATOR_DEVICE, cpus.generator)?;
            Thread::of(&hosts.sink, Net::SINK_DEVICE, cpus.generator)?;
        }
        Ok(())
    }

    /// Has what a server would answer end in a sink from now on: of frames, or of a stack's packets.
    ///
    /// # Errors
    /// If this is no rig with a server, or the programs cannot be changed over.
    pub fn swallow(&mut self, from_stack: bool) -> Result<()> {
        let (programs, device) = (&mut self.programs, Net::SINK_DEVICE);
        programs.detach("server")?;
        self.hosts.sink.run(|| match from_stack {
            true => programs.attach_sink_tc(device),
            false => programs.attach("sink", device),
        })?
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
            source: Net::low(traffic.v6, traffic.listener()).to_be(),
            whole: u32::from(traffic.whole),
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
        ensure!(!self.gateway.is_empty(), "the gateway has no CPU yet");
        let threads = self.gateway.clone();
        let idle = self.programs.counted()?.packets;
        self.during(traffic, expected, |programs| {
            // On a busy machine the generator may not have its CPU at once.
            let arrived = || programs.counted().is_ok_and(|it| it.packets != idle);
            wait_until("the arrival of a packet", FIRST, arrived)?;
            std::thread::sleep(time / 4);
            let look = || -> Result<(Instant, Counted, Progress, Times)> {
                Ok((
                    Instant::now(),
                    programs.counted()?,
                    programs.progress()?,
                    Times::of(&threads)?,
                ))
            };
            let before = look()?;
            std::thread::sleep(time);
            let after = look()?;
            ensure!(
                after.1.packets != before.1.packets,
                "no packet arrived within {time:?}"
            );
            let (cpu, waited) = after.3.since(before.3);
            Ok(Passage {
                time: after.0 - before.0,
                packets: after.1.packets - before.1.packets,
                bytes: after.1.bytes - before.1.bytes,
                sent: after.2.sent - before.2.sent,
                cpu,
                waited,
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
        ensure!(!self.gateway.is_empty(), "the gateway has no CPU yet");
        let threads = self.gateway.clone();
        let (before, begun) = (self.programs.counted()?, Times::of(&threads)?);
        self.during(traffic, expected, |programs| {
            let sent = || programs.progress().is_ok_and(|it| it.last != 0);
            wait_until("the end of the traffic", limit, sent)?;
            let arrived = || {
                programs
                    .counted()
                    .map_or(0, |it| it.packets - before.packets)
            };
            // What is lost never arrives.
            let _ = wait_until("", LAST, || arrived() >= traffic.limit);
            let progress = programs.progress()?;
            let (cpu, waited) = Times::of(&threads)?.since(begun);
            Ok(Passage {
                time: Duration::from_nanos(progress.last - progress.first),
                packets: arrived(),
                bytes: programs.counted()?.bytes - before.bytes,
                sent: progress.sent,
                cpu,
                waited,
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
