//! A gateway with two devices, and the loaded programs to run packets through.

use std::collections::BTreeMap;

use forwarder::config::{self, Config};
use forwarder::datapath::{Flow, Link, RuleSet, Sizes, TestRun};
use forwarder_common::settings::Settings;
use tests::netns::Namespace;
use tests::packet::Packet;

use super::family::Family;
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
    /// What this host itself sends: packets do not come in by a device but are about to leave by one.
    Egress,
}

/// Where a test runs.
#[derive(Clone, Copy, Debug)]
pub struct At {
    hook: Hook,
    family: Family,
}

impl From<Hook> for At {
    fn from(hook: Hook) -> Self {
        (hook, Family::V4).into()
    }
}

impl From<(Hook, Family)> for At {
    fn from((hook, family): (Hook, Family)) -> Self {
        Self { hook, family }
    }
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
    /// What rules, addresses and packets are put into, see [`Family`].
    pub family: Family,
    /// Payload of the segments that packets on TC are to be cut up into; 0 for packets as they are.
    pub segment: u32,
    /// The configuration in force.
    pub config: Config,
    indices: BTreeMap<Device, u32>,
}

impl Bench {
    /// A gateway with `rules` and default sizes.
    pub fn new(at: impl Into<At>, rules: &str) -> Self {
        Self::with(at, &Setup::new(rules))
    }

    /// A gateway as `setup` has it.
    pub fn with(at: impl Into<At>, setup: &Setup) -> Self {
        Self::on(Loaded::of(setup.sizes), at, setup)
    }

    /// The same on `datapath`, which has these sizes.
    pub fn on(datapath: Loaded, at: impl Into<At>, setup: &Setup) -> Self {
        let At { hook, family } = at.into();
        let namespace = topology::create();
        let links = topology::links(&namespace);
        let addresses = topology::addresses(&links);
        let indices = Device::ALL
            .into_iter()
            .zip(links.iter().map(|link| link.index));
        let mut bench = Self {
            indices: indices.collect(),
            datapath,
            hook,
            family,
            segment: 0,
            config: configuration(&family.text(&setup.rules)),
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
        self.config = configuration(&self.family.text(rules));
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
            Hook::Egress => datapath.run_egress(frame, index),
        };
        self.namespace.run(run)?
    }

    /// The device that packets like `packet` leave by.
    pub fn egress(&self, packet: &Packet) -> Option<u32> {
        let wanted = Tuple::of(packet);
        self.flows().into_iter().find_map(|flow| {
            let directions = [
                (Tuple::from(&flow.original), flow.original_entry),
                (Tuple::from(&flow.reply), flow.reply_entry),
            ];
            let (_, entry) = directions.into_iter().find(|(tuple, _)| *tuple == wanted)?;
            Some(entry.route.egress.index())
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
        let lines = self.family.text(lines);
        let run = match self.family {
            Family::V4 => self.namespace.ip(&lines),
            Family::V6 => self.namespace.ip6(&lines),
        };
        run.expect("ip");
    }

    /// Sets `forwarding` of a device, `all` for all of them.
    pub fn forwarding(&self, device: &str, value: &str) {
        let key = format!("net/{}/conf/{device}/forwarding", self.family.word());
        self.namespace.sysctl(&key, value).expect("a sysctl");
    }
}

fn configuration(rules: &str) -> Config {
    let mut text = String::new();
    for device in Device::ALL {
        text += &format!("[[interface]]\nname = {:?}\n", device.name());
    }
    text += rules;
    config::parse("test.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
