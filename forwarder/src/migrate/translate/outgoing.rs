//! What becomes of what clients behind this host send, by their prefixes.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::config::{PortRange, Protocol, ProtocolPorts, Source};
use crate::migrate::clients::ClientSet;
use crate::migrate::journal::{Journal, Kind, OriginId};
use crate::migrate::ruleset::{Device, Family, Is, Match};

use super::arrival::{general, never_arrives, number, unclear, yes};
use super::course::{Budget, End, Facts, Holds};
use super::outcome::flags;
use super::places::{Places, is_ethernet};
use super::slice::{Slice, have};
use super::source::source;
use super::walk::walk;

/// Packets of one protocol to some ports, from clients of a prefix that are in no longer one.
struct Outgoing<'a> {
    places: &'a Places,
    prefix: IpNet,
    protocol: Protocol,
    ports: PortRange,
    /// The device that they leave by; `None`: one that no rule names.
    device: Option<&'a str>,
}

impl Facts for Outgoing<'_> {
    fn holds(&self, condition: &Match) -> Holds {
        match condition {
            Match::In(device) => unclear(&format!("-i {}", device.value.name)),
            Match::Out(device) => yes(device.holds(self.leaves_by(&device.value))),
            Match::Source(list) => {
                yes(list.holds(list.value.iter().any(|one| one.contains(&self.prefix))))
            }
            Match::Destination(list) | Match::OriginalDestination(list) => self.goes_to(list),
            Match::Protocol(list) => yes(list.holds(list.value.contains(&number(self.protocol)))),
            Match::Ports(list) | Match::OriginalPorts(list) => {
                yes(list.holds(have(&list.value, self.ports)))
            }
            Match::Local(local) => yes(!local),
            Match::Translated(translated) => yes(!translated),
            other => general(other),
        }
    }
}

impl Outgoing<'_> {
    fn leaves_by(&self, device: &Device) -> bool {
        match self.device {
            Some(name) => device.fits(name),
            None => device.open && device.name.is_empty(),
        }
    }

    fn goes_to(&self, list: &Is<Vec<IpNet>>) -> Holds {
        if list.value.iter().any(|one| one.prefix_len() == 0) {
            return yes(list.holds(true));
        }
        let home = self.places.home(self.prefix);
        // What stays among the clients does not come by.
        let among = |one: &IpNet| {
            self.prefix.prefix_len() > 0 && self.prefix.contains(one)
                || home.is_some() && self.places.home(*one) == home
        };
        let matters = list
            .value
            .iter()
            .find(|one| !never_arrives(**one) && !among(one));
        match matters {
            None => yes(list.holds(false)),
            Some(one) => Holds::Unclear(format!(
                "it depends on the destination ({one}), and a `[[masquerade]]` is for all of them"
            )),
        }
    }
}

/// What becomes of a prefix of clients.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// They are not translated.
    Plain,
    /// Something that no configuration can say; the journal has the reason.
    Stuck,
    Translated(Box<Translated>),
}

/// As whom clients go out, and where to.
#[derive(Clone, Debug)]
pub(super) struct Translated {
    /// Empty: all of TCP and UDP.
    pub ports: Vec<ProtocolPorts>,
    pub source: Source,
    pub source_ports: Option<PortRange>,
    /// The devices that rules name for the way out; `None`: whichever.
    pub devices: Option<BTreeSet<String>>,
    /// Whether a rule names the clients.
    pub by_client: bool,
    pub origins: BTreeSet<OriginId>,
    pub remarks: Vec<(OriginId, String)>,
}

impl Translated {
    /// Whether it does the same, whichever rules say so.
    pub fn does_as(&self, other: &Self) -> bool {
        (&self.ports, self.source) == (&other.ports, other.source)
    }
}

/// What the rules for packets that leave do with clients of any prefix.
pub(super) struct Exit<'a> {
    pub places: &'a Places,
    pub budget: &'a Budget,
    pub family: Family,
    /// Without the rules that are for backends only.
    pub slice: Slice<'a>,
}

impl Exit<'_> {
    pub fn way(&self, prefix: IpNet, journal: &mut Journal) -> Way {
        let mut sum = Sum::default();
        for protocol in Protocol::ALL {
            let slice = self.slice.filter(|condition| match condition {
                Match::Protocol(list) => list.holds(list.value.contains(&number(protocol))),
                Match::Source(list) => {
                    list.holds(list.value.iter().any(|one| one.contains(&prefix)))
                }
                _ => true,
            });
            let devices = self.devices(&slice, prefix);
            slice.divide(PortRange::ALL, &[], &mut |slice, ports| {
                for device in &devices {
                    let packets = Outgoing {
                        places: self.places,
                        prefix,
                        protocol,
                        ports,
                        device: device.as_deref(),
                    };
                    self.add(slice, &packets, &mut sum);
                }
            });
        }
        sum.close(journal)
    }

    /// Every device that a rule tells apart, but the one that the clients are behind, and any other.
    fn devices(&self, slice: &Slice, prefix: IpNet) -> BTreeSet<Option<String>> {
        let home = self.places.home(prefix);
        let mut devices = BTreeSet::from([None]);
        for condition in slice.all().flat_map(|rule| &rule.matches) {
            if let Match::Out(device) = condition {
                let name = &device.value.name;
                if !name.is_empty() && Some(name.as_str()) != home && name != "lo" {
                    devices.insert(Some(name.clone()));
                }
            }
        }
        devices
    }

    fn add(&self, slice: &Slice, packets: &Outgoing, sum: &mut Sum) {
        let clients = ClientSet::everybody(self.family);
        let course = walk(slice, packets, &clients, self.budget);
        sum.spared.extend(&course.spared);
        let Some(decision) = course.decisions.first() else {
            return;
        };
        let origins: Vec<OriginId> = decision.origins().collect();
        let found = match source(decision) {
            Ok(found) if decision.share >= 1.0 => found,
            Ok(_) => {
                return sum.stick(
                    origins,
                    "it takes only a part of the connections".to_owned(),
                );
            }
            Err(why) => {
                for later in &course.decisions[1..] {
                    sum.origins.extend(later.origins());
                }
                return sum.stick(origins, why);
            }
        };
        if let (End::Nat(_), Some(name)) = (&decision.end, packets.device)
            && !is_ethernet(name)
        {
            let why = format!("{name} has no Ethernet frames, and nothing is forwarded by it");
            return sum.stick(origins, why);
        }
        sum.by_client |= !decision.from.is_empty();
        sum.remarks.extend(decision.assumed.clone());
        sum.remarks.extend(flags(decision));
        sum.take(packets, found, &origins);
    }
}

/// What is known of a prefix so far.
#[derive(Default)]
struct Sum {
    found: Option<(Source, Option<PortRange>)>,
    ports: Vec<ProtocolPorts>,
    devices: BTreeSet<Option<String>>,
    by_client: bool,
    origins: BTreeSet<OriginId>,
    spared: BTreeSet<OriginId>,
    stuck: Vec<(OriginId, String)>,
    remarks: Vec<(OriginId, String)>,
}

impl Sum {
    fn stick(&mut self, origins: Vec<OriginId>, why: String) {
        self.stuck
            .extend(origins.into_iter().map(|one| (one, why.clone())));
    }

    fn take(
        &mut self,
        packets: &Outgoing,
        found: (Source, Option<PortRange>),
        origins: &[OriginId],
    ) {
        self.origins.extend(origins);
        self.devices.insert(packets.device.map(str::to_owned));
        let known = self.found.get_or_insert(found);
        if known.0 != found.0 {
            let why = "as whom its clients go out depends on the port or the device, and a `[[masquerade]]` has one `source`";
            return self.stick(origins.to_vec(), why.to_owned());
        }
        let entry = ProtocolPorts {
            protocol: packets.protocol,
            ports: packets.ports,
        };
        match self.ports.last_mut() {
            Some(last) if *last == entry => {}
            Some(last)
                if last.protocol == entry.protocol
                    && last.ports.last.checked_add(1) == Some(entry.ports.first) =>
            {
                last.ports.last = entry.ports.last;
            }
            Some(last)
                if last.protocol == entry.protocol && last.ports.last == entry.ports.last => {}
            _ => self.ports.push(entry),
        }
    }

    fn close(mut self, journal: &mut Journal) -> Way {
        if !self.stuck.is_empty() {
            let origins: BTreeSet<OriginId> = self.stuck.iter().map(|one| one.0).collect();
            for origin in self.origins.difference(&origins) {
                let places: Vec<OriginId> = origins.iter().copied().collect();
                let why = format!(
                    "of the same clients {} cannot be translated",
                    journal.places(&places)
                );
                journal.note(Kind::Untranslated, *origin, why);
            }
            for (origin, why) in self.stuck {
                journal.note(Kind::Untranslated, origin, why);
            }
            return Way::Stuck;
        }
        let Some((source, source_ports)) = self.found else {
            return Way::Plain;
        };
        if self.ports.iter().all(|one| one.ports == PortRange::ALL) && self.ports.len() == 2 {
            self.ports.clear();
        }
        let by_any = self.devices.contains(&None);
        let devices = self.devices.into_iter().flatten().collect();
        self.origins.extend(self.spared);
        Way::Translated(Box::new(Translated {
            ports: self.ports,
            source,
            source_ports,
            devices: (!by_any).then_some(devices),
            by_client: self.by_client,
            origins: self.origins,
            remarks: self.remarks,
        }))
    }
}
