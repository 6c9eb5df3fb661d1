//! Devices, and the BPF programs on them.

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle,
    packet_route::{
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State},
        tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption},
    },
};

use super::host::text;
use super::{Channels, Features, Gaps, Peer};
use crate::datapath::others::{self, Loaded};
use crate::doctor::finding::Group;
use crate::network::{self, Network};

/// A network device.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::doctor) struct Device {
    pub index: u32,
    pub name: String,
    /// What kind of virtual device it is: `veth`, `bridge`.
    pub kind: Option<String>,
    pub driver: Option<String>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    pub ethernet: bool,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether there is something at the other end.
    pub carrier: bool,
    /// The bridge or bond that it is a part of.
    pub master: Option<String>,
    /// For a VLAN device, which one carries its frames.
    pub lower: Option<String>,
    /// Whether it takes frames that XDP redirects to it.
    pub transmits: bool,
    /// The larger of its own `rp_filter` and that of all.
    pub rp_filter: u8,
    pub ipv6_disabled: bool,
    pub features: Option<Features>,
    pub channels: Option<Channels>,
    /// For a veth device, the other end, if it can be found.
    pub peer: Option<Peer>,
    pub xdp: Option<Program>,
    /// What runs on TC ingress as links, in order.
    pub links: Vec<Program>,
    /// What runs on TC ingress after them, in order.
    pub filters: Vec<Classifier>,
    /// The number of its XDP program, whosever it is.
    pub xdp_id: Option<(u32, bool)>,
    /// For a veth device: index of the other end, and the number of its network namespace, if that is another.
    pub other_end: Option<(u32, Option<i32>)>,
}

/// A BPF program on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Program {
    pub id: u32,
    pub name: String,
    /// The link by which it is attached, if it is one.
    pub link: Option<u32>,
    /// For XDP: not in the driver.
    pub generic: bool,
    /// Whether it is this forwarder's.
    pub ours: bool,
}

/// A filter on TC ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Classifier {
    /// `bpf`, `flower`, `u32`.
    pub kind: String,
    /// What it is called, if it has a name.
    pub name: String,
    pub priority: u16,
    pub ours: bool,
}

pub(super) async fn read(handle: &Handle, network: &Network) -> anyhow::Result<Vec<Device>> {
    let mut messages = Vec::new();
    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await.context("cannot list devices")? {
        messages.push(message);
    }
    let devices = messages.iter().map(|message| device(message, network));
    Ok(devices.collect())
}

fn device(message: &LinkMessage, network: &Network) -> Device {
    let index = message.header.index;
    let flags = message.header.flags;
    let link = network.links.iter().find(|link| link.index == index);
    let name_of = |index: u32| network.name(index).map(str::to_owned);
    let mut device = Device {
        index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        transmits: link.is_some_and(|link| link.xdp_transmit),
        ethernet: link.is_some_and(|link| link.ethernet),
        lower: link
            .and_then(|link| link.vlan)
            .and_then(|vlan| name_of(vlan.lower)),
        ..Device::default()
    };
    let (mut other, mut namespace) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Controller(index) => device.master = name_of(*index),
            LinkAttribute::OperState(State::LowerLayerDown) => device.carrier = false,
            LinkAttribute::Link(index) => other = Some(*index),
            LinkAttribute::LinkNetNsId(number) => namespace = Some(*number),
            LinkAttribute::LinkInfo(facts) => device.kind = kind(facts),
            LinkAttribute::Xdp(facts) => device.xdp_id = network::xdp_program(facts),
            _ => {}
        }
    }
    if device.kind.as_deref() == Some("veth") {
        device.other_end = other.map(|index| (index, namespace));
    }
    device.driver = network::driver(&device.name);
    let setting = |scope: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter");
        text(path)
            .and_then(|text| text.parse::<u8>().ok())
            .unwrap_or_default()
    };
    device.rp_filter = setting("all").max(setting(&device.name));
    let path = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", device.name);
    device.ipv6_disabled = text(path).is_none_or(|text| text != "0");
    device
}

fn kind(facts: &[LinkInfo]) -> Option<String> {
    facts.iter().find_map(|fact| match fact {
        LinkInfo::Kind(InfoKind::Other(name)) => Some(name.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

/// Number of the XDP program, and whether it is generic.
/// Finds out which programs are on `device`.
pub(super) async fn programs(
    device: &mut Device,
    loaded: Option<&Loaded>,
    handle: &Handle,
    gaps: &mut Gaps,
) {
    if let Some(loaded) = loaded {
        let program = |id: u32, generic: bool| Program {
            id,
            name: loaded.name(id).to_owned(),
            link: loaded.link(id),
            generic,
            ours: loaded.is_ours(id),
        };
        device.xdp = device.xdp_id.map(|(id, generic)| program(id, generic));
        // Before 6.6 there are none.
        let links = others::on_ingress(&device.name).unwrap_or_default();
        device.links = links.into_iter().map(|id| program(id, false)).collect();
    }
    let index = i32::try_from(device.index).unwrap_or(i32::MAX);
    let filters: Result<Vec<TcMessage>, _> = handle
        .traffic_filter(index)
        .get()
        .ingress()
        .execute()
        .try_collect()
        .await;
    match filters {
        Ok(filters) => {
            device.filters = filters
                .iter()
                .filter_map(|one| filter(one, loaded))
                .collect()
        }
        Err(error) => gaps.push(
            Group::Interface(device.name.clone()),
            "TC filters",
            error.to_string(),
        ),
    }
    device.filters.sort_by_key(|one| one.priority);
    device.filters.dedup();
}

/// A filter; messages without a handle announce a priority.
fn filter(message: &TcMessage, loaded: Option<&Loaded>) -> Option<Classifier> {
    let mut filter = Classifier {
        priority: (message.header.info >> 16) as u16,
        ..Classifier::default()
    };
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => filter.kind.clone_from(kind),
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => {
                            filter.name.clone_from(name);
                        }
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => {
                            filter.ours = loaded.is_some_and(|loaded| loaded.is_ours(*id));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let announced = u32::from(message.header.handle) == 0;
    (!announced).then_some(filter)
}
