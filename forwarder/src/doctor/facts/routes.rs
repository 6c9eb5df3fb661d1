//! The ways to the addresses that rules name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::{
    Error, Handle, RouteMessageBuilder,
    packet_route::{
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
    },
};

use super::{Facts, Gaps};
use crate::config::{Config, Target};
use crate::doctor::finding::Group;

/// Where packets to an address go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) enum Way {
    /// Nowhere: there is no route.
    #[default]
    None,
    /// Nowhere, because a route says so: its kind (`blackhole`) and its prefix, if it was found.
    Refused(&'static str, Option<IpNet>),
    /// To this host.
    Local,
    /// Out of a device.
    Out {
        device: String,
        /// The address that is asked for on the link.
        next_hop: IpAddr,
        neighbour: Neighbour,
    },
}

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) enum Neighbour {
    /// Nobody has asked.
    #[default]
    Unknown,
    /// Its MAC address.
    Known,
    /// That it does not answer.
    Silent,
}

/// Addresses that any default route leads to. Nothing is sent to them.
const ELSEWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 1)),
];

/// Asks for the ways to all that `config` names.
pub(super) async fn read(
    config: &Config,
    handle: &Handle,
    facts: &mut Facts,
    gaps: &mut Gaps,
) -> anyhow::Result<()> {
    let neighbours = gaps
        .take(Group::Backends, "neighbours", neighbours(handle).await)
        .unwrap_or_default();
    for address in addresses(config) {
        let mut way = way(handle, address, facts).await?;
        if let Way::Out {
            device,
            next_hop,
            neighbour,
        } = &mut way
        {
            let index = facts.device(device).map_or(0, |device| device.index);
            *neighbour = neighbours
                .get(&(index, *next_hop))
                .copied()
                .unwrap_or_default();
        }
        facts.ways.insert(address, way);
    }
    for (to, default) in ELSEWHERE.into_iter().zip(0..) {
        if let Way::Out { device, .. } = way(handle, to, facts).await? {
            facts.defaults[default] = Some(device);
        }
    }
    Ok(())
}

/// What rules send to, what they take from this host, and clients of which something is known.
fn addresses(config: &Config) -> BTreeSet<IpAddr> {
    let backends = config.rules.iter().flat_map(|rule| rule.backends());
    let outputs = config
        .outputs
        .iter()
        .flat_map(|rule| [rule.address, rule.backend.address]);
    let clients = config
        .rules
        .iter()
        .filter(|rule| matches!(rule.target, Target::Local(_)))
        .flat_map(|rule| rule.allow.iter().map(IpNet::addr));
    backends
        .map(|backend| backend.address)
        .chain(outputs)
        .chain(clients)
        .collect()
}

async fn way(handle: &Handle, address: IpAddr, facts: &Facts) -> anyhow::Result<Way> {
    let length = if address.is_ipv4() { 32 } else { 128 };
    let question = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, length)?
        .build();
    let answer = handle.route().get(question).execute().try_next().await;
    let route = match answer {
        Ok(Some(route)) => route,
        Ok(None) => return Ok(Way::None),
        Err(Error::NetlinkError(error)) => {
            return Ok(match -error.raw_code() {
                libc::EINVAL => refused(handle, address, RouteType::BlackHole).await,
                libc::EHOSTUNREACH => refused(handle, address, RouteType::Unreachable).await,
                libc::EACCES => refused(handle, address, RouteType::Prohibit).await,
                _ => Way::None,
            });
        }
        Err(error) => return Err(error).context("cannot ask for a route"),
    };
    if route.header.kind == RouteType::Local {
        return Ok(Way::Local);
    }
    let device = route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Oif(index) => facts.devices.iter().find(|device| device.index == *index),
        _ => None,
    });
    Ok(device.map_or(Way::None, |device| Way::Out {
        device: device.name.clone(),
        next_hop: next_hop(&route).unwrap_or(address),
        neighbour: Neighbour::Unknown,
    }))
}

fn next_hop(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Gateway(address) => plain(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// Looks for the route of this kind that refuses `address`.
async fn refused(handle: &Handle, address: IpAddr, kind: RouteType) -> Way {
    let name = match kind {
        RouteType::BlackHole => "blackhole",
        RouteType::Prohibit => "prohibit",
        _ => "unreachable",
    };
    let all = match address {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    let mut longest: Option<IpNet> = None;
    let mut routes = std::pin::pin!(handle.route().get(all).execute());
    while let Some(Ok(route)) = routes.next().await {
        let prefix = route.attributes.iter().find_map(|one| match one {
            RouteAttribute::Destination(address) => plain(address),
            _ => None,
        });
        let unspecified = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let length = route.header.destination_prefix_length;
        let net = IpNet::new(prefix.unwrap_or(unspecified), length).ok();
        if let Some(net) = net
            && route.header.kind == kind
            && net.contains(&address)
            && longest.is_none_or(|longest| longest.prefix_len() < length)
        {
            longest = Some(net);
        }
    }
    Way::Refused(name, longest)
}

async fn neighbours(handle: &Handle) -> Result<BTreeMap<(u32, IpAddr), Neighbour>, Error> {
    let mut found = BTreeMap::new();
    let mut messages = handle.neighbours().get().execute();
    while let Some(message) = messages.try_next().await? {
        let address = message.attributes.iter().find_map(|one| match one {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some(IpAddr::V4(*address))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some(IpAddr::V6(*address))
            }
            _ => None,
        });
        let Some(address) = address else { continue };
        let state = match message.header.state {
            NeighbourState::Failed | NeighbourState::Incomplete => Neighbour::Silent,
            NeighbourState::None => Neighbour::Unknown,
            _ => Neighbour::Known,
        };
        found.insert((message.header.ifindex, address), state);
    }
    Ok(found)
}
