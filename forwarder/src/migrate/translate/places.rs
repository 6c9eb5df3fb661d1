//! What the rules give away about the network: which devices there are, and what is behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::migrate::Hints;
use crate::migrate::clients::ClientSet;
use crate::migrate::ruleset::{
    Action, ChainId, Device, Family, Hook, Is, Match, Nat, Rule, Ruleset, Table,
};

/// Devices, own addresses, and prefixes behind devices.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// Devices by name, as they are first mentioned.
    pub interfaces: Vec<String>,
    /// This host's own addresses, if they are known.
    pub own: Vec<IpAddr>,
    told: Vec<(IpNet, String)>,
    /// Those that several rules place differently are left out.
    inferred: BTreeMap<IpNet, Option<String>>,
    /// Devices by which translated packets leave.
    outside: BTreeSet<String>,
    /// Prefixes of clients whose packets leave by a device, which they are not behind then.
    through: BTreeSet<(IpNet, String)>,
    /// A device that nothing names, for rules that are for all but those that are named.
    invented: Option<String>,
}

impl Places {
    pub fn gather(rulesets: &[Ruleset], hints: &Hints) -> Self {
        let mut places = Self {
            own: hints.addresses.clone(),
            told: hints.routes.clone(),
            ..Self::default()
        };
        for ruleset in rulesets {
            for hook in [Hook::Prerouting, Hook::Postrouting] {
                for root in ruleset.nat.roots(hook) {
                    places.learn_chain(&ruleset.nat, *root, &Known::default());
                }
            }
            for table in &ruleset.others {
                for root in table.roots(Hook::Forward) {
                    places.learn_chain(table, *root, &Known::default());
                }
            }
        }
        let routes = hints.routes.iter().map(|(_, name)| name);
        for name in hints.interfaces.iter().chain(routes) {
            places.mention(name);
        }
        places
    }

    /// The device that leads to `address`, if anything says so.
    pub fn way(&self, address: IpAddr) -> Option<&str> {
        let told = self.told.iter().map(|(prefix, name)| (*prefix, name));
        longest(told, address).or_else(|| {
            let inferred = self.inferred.iter();
            let inferred = inferred.filter_map(|(prefix, name)| Some((*prefix, name.as_ref()?)));
            longest(inferred, address)
        })
    }

    /// The device that all of `prefix` is behind, if anything says so.
    pub fn home(&self, prefix: IpNet) -> Option<&str> {
        let told = self.told.iter().map(|(known, name)| (*known, name));
        let inferred = self.inferred.iter();
        let inferred = inferred.filter_map(|(known, name)| Some((*known, name.as_ref()?)));
        let holding = told
            .chain(inferred)
            .filter(|(known, _)| known.contains(&prefix));
        let best = holding.max_by_key(|(known, _)| known.prefix_len())?;
        Some(best.1)
    }

    /// What the rules give away about where clients are, for those who know better.
    pub fn told_by_rules(&self) -> Option<String> {
        let known = self.inferred.iter();
        let known = known.filter_map(|(prefix, name)| Some((prefix, name.as_ref()?)));
        let known: Vec<String> = known
            .map(|(prefix, name)| format!("{prefix} is behind {name}"))
            .collect();
        (!known.is_empty()).then(|| {
            format!(
                "It is taken from the rules that {}. `--route PREFIX=INTERFACE` says otherwise.",
                known.join(", ")
            )
        })
    }

    /// Everybody who is known to be behind another device than `interface`.
    pub fn away(&self, interface: Option<&str>, family: Family) -> ClientSet {
        let known = self.told.iter().map(|(prefix, name)| (*prefix, name));
        let inferred = self.inferred.iter();
        let known =
            known.chain(inferred.filter_map(|(prefix, name)| Some((*prefix, name.as_ref()?))));
        let elsewhere = known.filter(|(_, name)| Some(name.as_str()) != interface);
        let mut prefixes: Vec<IpNet> = elsewhere.map(|(prefix, _)| prefix).collect();
        let through = self.through.iter();
        let through = through.filter(|(_, name)| Some(name.as_str()) == interface);
        prefixes.extend(through.map(|(prefix, _)| *prefix));
        let here = self
            .inferred
            .iter()
            .filter(|(_, name)| name.as_deref() == interface);
        let here: Vec<IpNet> = here.map(|(prefix, _)| *prefix).collect();
        ClientSet::new(family, &prefixes).subtract(&ClientSet::new(family, &here))
    }

    /// Whether clients with addresses of their own are behind the device.
    pub fn is_inside(&self, interface: &str) -> bool {
        let inferred = self.inferred.values().flatten();
        !self.outside.contains(interface) && inferred.into_iter().any(|name| name == interface)
    }

    pub fn knows_own(&self, family: Family) -> bool {
        self.own
            .iter()
            .any(|address| Family::of(*address) == family)
    }

    /// Adds a device that no rule names.
    pub fn invent(&mut self) {
        let mut names = (0..).map(|number| format!("eth{number}"));
        if let Some(name) = names.find(|name| !self.interfaces.contains(name)) {
            self.interfaces.insert(0, name.clone());
            self.invented = Some(name);
        }
    }

    pub fn is_invented(&self, interface: &str) -> bool {
        self.invented.as_deref() == Some(interface)
    }

    fn mention(&mut self, name: &str) {
        if is_device(name) && is_ethernet(name) && !self.interfaces.iter().any(|one| one == name) {
            self.interfaces.push(name.to_owned());
        }
    }

    /// Learns from a chain that packets of which this much is `known` come to.
    fn learn_chain<'a>(&mut self, table: &'a Table, chain: ChainId, known: &Known<'a>) {
        if known.depth > DEPTH {
            return;
        }
        for rule in &table.chains[chain].rules {
            let known = known.and(rule);
            for condition in &rule.matches {
                if let Match::In(device) | Match::Out(device) = condition
                    && let Some((name, _)) = named(device)
                {
                    self.mention(name);
                }
            }
            match rule.calls() {
                Some(called) => self.learn_chain(table, called, &known),
                None => self.learn(&rule.action, &known),
            }
        }
    }

    fn learn(&mut self, action: &Action, known: &Known) {
        // A rule that drops is more likely about addresses that do not belong there.
        if !matches!(action, Action::Accept | Action::Nat(_)) {
            return;
        }
        for (device, prefix) in known.devices.into_iter().zip(known.prefixes) {
            if let (Some((name, false)), Some(prefix)) = (device, prefix) {
                self.place(prefix, name);
            }
        }
        if !matches!(
            action,
            Action::Nat(Nat::Masquerade { .. } | Nat::Source { .. })
        ) {
            return;
        }
        match (known.devices[1], known.prefixes[0]) {
            // Whoever leaves by another device than this one, translated, is at home behind this one.
            (Some((name, true)), Some(prefix)) => self.place(prefix, name),
            (Some((name, false)), prefix) => {
                self.outside.insert(name.to_owned());
                self.through
                    .extend(prefix.map(|prefix| (prefix, name.to_owned())));
            }
            _ => {}
        }
    }

    fn place(&mut self, prefix: IpNet, name: &str) {
        if prefix.prefix_len() == 0 || !is_device(name) || !is_ethernet(name) {
            return;
        }
        let known = self
            .inferred
            .entry(prefix)
            .or_insert_with(|| Some(name.to_owned()));
        if known.as_deref() != Some(name) {
            *known = None;
        }
    }
}

/// As deep as chains are followed.
const DEPTH: usize = 8;

/// What conditions say about packets: devices and prefixes, of the way in and of the way out.
#[derive(Clone, Default)]
struct Known<'a> {
    devices: [Option<(&'a str, bool)>; 2],
    prefixes: [Option<IpNet>; 2],
    depth: usize,
}

impl<'a> Known<'a> {
    fn and(&self, rule: &'a Rule) -> Self {
        let mut known = self.clone();
        known.depth += 1;
        for condition in &rule.matches {
            match condition {
                Match::In(device) => add(&mut known.devices[0], device),
                Match::Out(device) => add(&mut known.devices[1], device),
                Match::Source(list) => known.prefixes[0] = only(list),
                Match::Destination(list) => known.prefixes[1] = only(list),
                _ => {}
            }
        }
        known
    }
}

/// A device that packets use says more than one that they do not.
fn add<'a>(known: &mut Option<(&'a str, bool)>, device: &'a Is<Device>) {
    match (&known, named(device)) {
        (Some((_, false)), Some((_, true))) => {}
        (_, found) => *known = found.or(*known),
    }
}

fn longest<'a>(
    places: impl Iterator<Item = (IpNet, &'a String)>,
    address: IpAddr,
) -> Option<&'a str> {
    let holding = places.filter(|(prefix, _)| prefix.contains(&address));
    let best = holding.max_by_key(|(prefix, _)| prefix.prefix_len())?;
    Some(best.1)
}

/// The name of a single device, and whether it is excluded.
fn named(device: &Is<Device>) -> Option<(&str, bool)> {
    (!device.value.open).then_some((device.value.name.as_str(), device.not))
}

fn only(list: &Is<Vec<IpNet>>) -> Option<IpNet> {
    match (list.not, list.value.as_slice()) {
        (false, [one]) => Some(*one),
        _ => None,
    }
}

/// Whether a configuration can have this name.
pub(super) fn is_device(name: &str) -> bool {
    let unfit = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    !matches!(name, "" | "." | "..") && name.len() <= 15 && !name.contains(unfit)
}

/// Whether a device of this name can carry Ethernet frames. The kernel names the others after their drivers.
pub(super) fn is_ethernet(name: &str) -> bool {
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let others = [
        "lo", "ppp", "tun", "wg", "ipsec", "vti", "vti6_", "sit", "gre", "tunl", "ip6tnl", "wwan",
        "slip",
    ];
    !(others.contains(&letters) && (letters != name || name == "lo"))
}

/// Whether an address is of a network that the Internet does not know.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // The second are carriers' own (RFC 6598).
            address.is_private() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}
