//! A gateway with two devices, and the loaded programs to run packets through.

use std::collections::BTreeMap;

use forwarder::config::{self, Config};
use forwarder::datapath::{Flow, Link, RuleSet, Sizes, TestRun};
use forwarder_common::device::HANDOFF;
use forwarder_common::reason::{Reason, Verdict};
use forwarder_common::settings::Settings;
use tests::netns::Namespace;
use tests::packet::{Packet, assert_frame};

use super::flows::Tuple;
use super::loaded::Loaded;
use super::topology::{self, Device};

/// Which program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The fast path.
    Xdp,
    /// The slow path, on its own.
    Tc,
}

/// Table sizes unless a test asks for others.
pub const SMALL: Sizes = Sizes {
    flows: 64,
    half_open: 64,
    rules: 64,
};
/// Source ports that translation may choose.
pub const PORTS: (u16, u16) = (20_000, 29_999);
/// Generation of the routes at the start.
pub const GENERATION: u32 = 1;

/// What differs between tests of one topology.
#[derive(Clone, Debug)]
pub struct Setup {
    /// TOML of the rules.
    pub rules: String,
    /// Sizes of the tables.
    pub sizes: Sizes,
    /// Ports for translation.
    pub ports: (u16, u16),
}

impl Setup {
    /// Small tables and ports from 20000 to 29999.
    pub fn new(rules: &str) -> Self {
        Self {
            rules: rules.to_owned(),
            sizes: SMALL,
            ports: PORTS,
        }
    }
}

/// The gateway under test.
pub struct Bench {
    /// Its network namespace; the programs' route look-ups see this one.
    pub namespace: Namespace,
    /// The programs and maps.
    pub datapath: Loaded,
    /// Which program [`Bench::run`] runs.
    pub hook: Hook,
    /// Payload of the segments that packets on TC are to be cut up into; 0 for packets as they are.
    pub segment: u32,
    /// The configuration in force.
    pub config: Config,
    indices: BTreeMap<Device, u32>,
}

impl Bench {
    /// A gateway with `rules` and default sizes.
    pub fn new(hook: Hook, rules: &str) -> Self {
        Self::with(hook, &Setup::new(rules))
    }

    /// A gateway as `setup` has it.
    pub fn with(hook: Hook, setup: &Setup) -> Self {
        let namespace = topology::create();
        let links = topology::links(&namespace);
        let addresses = topology::addresses(&links);
        let indices = Device::ALL
            .into_iter()
            .zip(links.iter().map(|link| link.index));
        let mut bench = Self {
            indices: indices.collect(),
            datapath: Loaded::of(setup.sizes),
            hook,
            segment: 0,
            config: configuration(&setup.rules),
            namespace,
        };
        bench.datapath.set_devices(&links).expect("devices");
        bench.datapath.set_addresses(&addresses).expect("addresses");
        let settings = Settings {
            generation: GENERATION,
            port_first: setup.ports.0,
            port_last: setup.ports.1,
            local_first: 1,
            ..Settings::default()
        };
        bench.datapath.set_settings(settings).expect("settings");
        bench.reload(&setup.rules);
        bench
    }

    /// Makes `rules` the rules in force.
    pub fn reload(&mut self, rules: &str) {
        self.config = configuration(rules);
        let indices = &self.indices;
        let index = |name: &str| {
            let named = |device: &&Device| device.name() == name;
            indices.keys().find(named).map(|device| indices[device])
        };
        let rules = RuleSet::from(&self.config);
        self.datapath.set_rules(rules, index).expect("rules");
    }

    /// The index of a device.
    pub fn index(&self, device: Device) -> u32 {
        self.indices[&device]
    }

    /// The devices as the daemon would describe them, to hand to `set_devices` with a change.
    pub fn links(&self) -> Vec<Link> {
        topology::links(&self.namespace)
    }

    /// Runs the program over a frame that came in by `from`.
    pub fn run(&mut self, from: Device, frame: &[u8]) -> TestRun {
        self.try_run(from, frame)
            .unwrap_or_else(|error| panic!("test run of {} bytes: {error:#}", frame.len()))
    }

    /// As [`Bench::run`], for frames that the kernel's test run itself may refuse.
    pub fn try_run(&mut self, from: Device, frame: &[u8]) -> anyhow::Result<TestRun> {
        let (index, hook, segment) = (self.index(from), self.hook, self.segment);
        let datapath = &mut self.datapath;
        let run = || match hook {
            Hook::Xdp => datapath.run_xdp(frame, index),
            Hook::Tc => datapath.run_tc_super(frame, index, segment),
        };
        self.namespace.run(run)?
    }

    /// Sends `packet` in by `from` and asserts that it leaves by `to` as `expected`: verdict, every byte, egress
    /// device, and that it was counted once, with its length, under this hook.
    #[track_caller]
    pub fn forwards(&mut self, from: Device, packet: &Packet, to: Device, expected: &Packet) {
        let out = self.passes_through(from, packet, to);
        assert_frame(&out, expected);
    }

    /// As [`Bench::forwards`] where the bytes are not known beforehand: returns them.
    #[track_caller]
    pub fn passes_through(&mut self, from: Device, packet: &Packet, to: Device) -> Vec<u8> {
        let run = self.sends(from, packet);
        if self.hook == Hook::Xdp {
            let tx = run.verdict == verdicts::XDP_TX;
            assert_eq!(tx, from == to, "back out by the same device");
        }
        let egress = self.egress(packet);
        assert_eq!(egress, Some(self.index(to)), "egress device");
        run.packet
    }

    /// As [`Bench::passes_through`] for a packet whose flow does not know its egress device.
    #[track_caller]
    pub fn leaves(&mut self, from: Device, packet: &Packet) -> Vec<u8> {
        self.sends(from, packet).packet
    }

    #[track_caller]
    fn sends(&mut self, from: Device, packet: &Packet) -> TestRun {
        let frame = packet.to_bytes();
        let mut wanted = self.counted();
        let run = self.run(from, &frame);
        let verdicts = match self.hook {
            Hook::Tc => [verdicts::TC_REDIRECT; 2],
            Hook::Xdp => [verdicts::XDP_TX, verdicts::XDP_REDIRECT],
        };
        let counted = self.counted();
        wanted.packets[self.hook as usize] += 1;
        wanted.bytes += ip_length(&frame);
        assert_eq!(counted, wanted, "counters of a forwarded packet");
        assert!(verdicts.contains(&run.verdict), "verdict {}", run.verdict);
        run
    }

    /// Sends `packet` in by `from` and asserts that it is not forwarded for `reason`: verdict, not one byte
    /// changed, and this reason, once, the only thing counted.
    #[track_caller]
    pub fn refuses(&mut self, from: Device, packet: &Packet, reason: Reason) {
        self.refuses_frame(from, &packet.to_bytes(), reason);
    }

    /// As [`Bench::refuses`], for what is no [`Packet`].
    #[track_caller]
    pub fn refuses_frame(&mut self, from: Device, frame: &[u8], reason: Reason) {
        let mut wanted = self.counted();
        let run = self.run(from, frame);
        *wanted.reasons.entry(reason.name()).or_default() += 1;
        let counted = self.counted();
        assert_eq!(counted, wanted, "counters of a refused packet");
        let handed_off = self.hook == Hook::Xdp && reason.verdict() == Verdict::SlowPath;
        let mut bytes = Vec::new();
        if handed_off {
            // The test run gives the metadata out in front of the frame.
            bytes.extend(HANDOFF.to_ne_bytes());
        }
        bytes.extend(frame);
        assert_eq!(run.packet, bytes, "{} changed the packet", reason.name());
        assert_eq!(run.verdict, self.verdict_of(reason), "{}", reason.name());
    }

    fn verdict_of(&self, reason: Reason) -> u32 {
        match (self.hook, reason.verdict()) {
            (Hook::Xdp, Verdict::Pass | Verdict::SlowPath) => verdicts::XDP_PASS,
            (Hook::Xdp, Verdict::Drop) => verdicts::XDP_DROP,
            (Hook::Tc, Verdict::Pass) => verdicts::TC_UNSPEC,
            (Hook::Tc, _) => verdicts::TC_SHOT,
        }
    }

    /// The device that packets like `packet` leave by.
    fn egress(&self, packet: &Packet) -> Option<u32> {
        let wanted = Tuple::of(packet);
        self.flows().into_iter().find_map(|flow| {
            let directions = [
                (Tuple::from(&flow.original), flow.original_entry),
                (Tuple::from(&flow.reply), flow.reply_entry),
            ];
            let (_, entry) = directions.into_iter().find(|(tuple, _)| *tuple == wanted)?;
            Some(entry.route.egress)
        })
    }

    /// Every flow.
    pub fn flows(&self) -> Vec<Flow> {
        self.datapath.flows().expect("reading the flows")
    }

    /// Says to the programs that routes or neighbours have changed.
    pub fn bump(&mut self) {
        self.datapath.bump_generation().expect("settings");
    }

    /// Runs `ip` commands in the gateway.
    pub fn ip(&self, lines: &str) {
        self.namespace.ip(lines).expect("ip");
    }
}

/// Return values of programs, from include/uapi/linux/{bpf,pkt_cls}.h.
mod verdicts {
    pub const XDP_DROP: u32 = 1;
    pub const XDP_PASS: u32 = 2;
    pub const XDP_TX: u32 = 3;
    pub const XDP_REDIRECT: u32 = 4;
    /// TC_ACT_UNSPEC is -1.
    pub const TC_UNSPEC: u32 = u32::MAX;
    pub const TC_SHOT: u32 = 2;
    pub const TC_REDIRECT: u32 = 7;
}

/// "Total length" of a frame's IPv4 header.
fn ip_length(frame: &[u8]) -> u64 {
    u64::from(u16::from_be_bytes([frame[16], frame[17]]))
}

fn configuration(rules: &str) -> Config {
    let mut text = String::new();
    for device in Device::ALL {
        text += &format!("[[interface]]\nname = {:?}\n", device.name());
    }
    text += rules;
    config::parse("test.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
