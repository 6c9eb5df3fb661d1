//! A generator, a gateway and a sink, each in a namespace of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Pid, gettid};
use tests::netns::{End, Namespace, Prefix, Reception, Wire, mac, veth};
use tests::process::wait_until;

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

/// The three hosts.
#[derive(Debug)]
pub struct Hosts {
    /// Where packets come from.
    pub generator: Namespace,
    /// What is measured.
    pub gateway: Namespace,
    /// Where they end.
    pub sink: Namespace,
}

impl Hosts {
    /// Makes them and connects them. Every neighbour is known and every route there, for no candidate needs to ask.
    ///
    /// # Errors
    /// If the kernel or iproute2 refuses.
    pub fn build(prefix: &Prefix, name: &str, wire: Wire) -> Result<Self> {
        let hosts = Self {
            generator: Namespace::create(prefix, &format!("{name}-gen"))?,
            gateway: Namespace::create(prefix, &format!("{name}-gw"))?,
            sink: Namespace::create(prefix, &format!("{name}-sink"))?,
        };
        let [gen4, gen6] = both(Net::GENERATOR);
        let [in4, in6] = both(Net::LISTENER);
        let [out4, out6] = both(Net::GATEWAY);
        let [sink4, sink6] = both(Net::BACKEND);
        let end = |namespace, device, addresses| End {
            namespace,
            device,
            addresses,
        };
        let addresses = [&in4, &in6].map(String::as_str);
        let near = end(&hosts.gateway, Net::IN, &addresses);
        let addresses = [&gen4, &gen6].map(String::as_str);
        let far = end(&hosts.generator, Net::GENERATOR_DEVICE, &addresses);
        veth([near, far], [&mac(1, 1), &mac(1, 2)], wire)?;
        let addresses = [&out4, &out6].map(String::as_str);
        let near = end(&hosts.gateway, Net::OUT, &addresses);
        let addresses = [&sink4, &sink6].map(String::as_str);
        let far = end(&hosts.sink, Net::SINK_DEVICE, &addresses);
        veth([near, far], [&mac(2, 1), &mac(2, 2)], wire)?;
        hosts.introduce()?;
        hosts.gateway.forward(true)?;
        Ok(hosts)
    }

    fn introduce(&self) -> Result<()> {
        let neighbour = |pair: Pair, device: &str, mac: &str| -> String {
            let line = |address: &dyn std::fmt::Display| {
                format!("neigh replace {address} lladdr {mac} dev {device} nud permanent\n")
            };
            line(&pair.0) + &line(&pair.1)
        };
        let route = |to: [&str; 2], by: Pair| {
            format!(
                "route add {} via {}\nroute add {} via {}\n",
                to[0], by.0, to[1], by.1
            )
        };
        self.gateway.ip(&[
            neighbour(Net::GENERATOR, Net::IN, &mac(1, 2)),
            neighbour(Net::BACKEND, Net::OUT, &mac(2, 2)),
            route(["10.0.0.0/8", "2001:db8:a::/48"], Net::GENERATOR),
            route(["203.0.113.0/24", "2001:db8:3::/48"], Net::BACKEND),
        ]
        .concat())?;
        self.generator.ip(&[
            neighbour(Net::LISTENER, Net::GENERATOR_DEVICE, &mac(1, 1)),
            route(["198.51.100.0/24", "2001:db8:2::/64"], Net::LISTENER),
        ]
        .concat())?;
        self.sink.ip(&[
            neighbour(Net::GATEWAY, Net::SINK_DEVICE, &mac(2, 1)),
            route(["192.0.2.0/24", "2001:db8:1::/64"], Net::GATEWAY),
        ]
        .concat())?;
        // Checking sources is none of a gateway's NAT; a host that does it does it for every candidate.
        for scope in ["all", Net::IN, Net::OUT] {
            self.gateway
                .sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        Ok(())
    }
}

fn both(pair: Pair) -> [String; 2] {
    [format!("{}/24", pair.0), format!("{}/64", pair.1)]
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
    /// How long it was looked at.
    pub time: Duration,
    /// Packets that arrived.
    pub packets: u64,
    /// Packets that were sent, those included that found the gateway's ring full.
    pub sent: u64,
    /// How long the gateway's CPU worked on them.
    pub cpu: Duration,
}

impl Passage {
    /// Packets a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.time.as_secs_f64()
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
        self.during(traffic, expected, |programs| {
            std::thread::sleep(time / 4);
            let look = || -> Result<(Instant, Counted, Progress, u64)> {
                Ok((
                    Instant::now(),
                    programs.counted()?,
                    programs.progress()?,
                    thread.cpu_time()?,
                ))
            };
            let before = look()?;
            std::thread::sleep(time);
            let after = look()?;
            Ok(Passage {
                time: after.0 - before.0,
                packets: after.1.packets - before.1.packets,
                sent: after.2.sent - before.2.sent,
                cpu: Duration::from_nanos(after.3 - before.3),
            })
        })
    }

    /// Sends `traffic`, which has a limit, to its end. Returns how many packets arrived, and how long sending them
    /// took, by the generator's own clock: starting and ending it would be most of a short run.
    ///
    /// # Errors
    /// As [`Rig::during`], or if it takes longer than `limit`.
    pub fn complete(
        &mut self,
        traffic: &Traffic,
        expected: Pair,
        limit: Duration,
    ) -> Result<(u64, Duration)> {
        let before = self.programs.counted()?.packets;
        self.during(traffic, expected, |programs| {
            let sent = || programs.progress().is_ok_and(|it| it.last != 0);
            wait_until("the end of the traffic", limit, sent)?;
            let arrived = || programs.counted().map_or(0, |it| it.packets) - before;
            // What is lost never arrives.
            let _ = wait_until("", LAST, || arrived() >= traffic.limit);
            let progress = programs.progress()?;
            let time = Duration::from_nanos(progress.last - progress.first);
            Ok((arrived(), time))
        })
    }
}

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
