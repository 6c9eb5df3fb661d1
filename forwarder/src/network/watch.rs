//! Changes of the network, as the kernel reports them.

use std::{collections::HashMap, net::IpAddr};

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    },
};
use tokio::task::JoinHandle;

/// What a change means for the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing.
    None,
    /// Cached routes may be wrong.
    Routes,
    /// Devices or addresses have changed as well.
    Network,
}

type Messages = Box<
    dyn Stream<
            Item = (
                NetlinkMessage<RouteNetlinkMessage>,
                rtnetlink::sys::SocketAddr,
            ),
        > + Send
        + Unpin,
>;

/// A subscription to everything that can change where packets go.
pub struct Watch {
    messages: Messages,
    neighbours: HashMap<(u32, IpAddr), Vec<u8>>,
    /// For questions.
    pub handle: Handle,
    connection: JoinHandle<()>,
}

impl Watch {
    /// Subscribes. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// Netlink fails.
    pub async fn start() -> anyhow::Result<Self> {
        let (connection, handle, messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv6Rule,
        ])?;
        let mut watch = Self {
            messages: Box::new(messages),
            neighbours: HashMap::new(),
            handle,
            connection: tokio::spawn(connection),
        };
        // Those that are known already, so that another MAC is noticed for them as well.
        let mut known = watch.handle.neighbours().get().execute();
        while let Some(neighbour) = known.try_next().await.context("cannot list neighbours")? {
            watch.neighbour(&neighbour, true);
        }
        Ok(watch)
    }

    /// The next change. Messages that were lost count as a change of everything.
    pub async fn next(&mut self) -> Change {
        match self.messages.next().await {
            Some((message, _)) => self.judge(message.payload),
            // The connection has ended, which it never does; there is nothing left to wait for.
            None => std::future::pending().await,
        }
    }

    fn judge(&mut self, payload: NetlinkPayload<RouteNetlinkMessage>) -> Change {
        let NetlinkPayload::InnerMessage(message) = payload else {
            return Change::Network;
        };
        match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => self.neighbour(&neighbour, true),
            RouteNetlinkMessage::DelNeighbour(neighbour) => self.neighbour(&neighbour, false),
            RouteNetlinkMessage::NewRoute(_)
            | RouteNetlinkMessage::DelRoute(_)
            | RouteNetlinkMessage::NewRule(_)
            | RouteNetlinkMessage::DelRule(_) => Change::Routes,
            RouteNetlinkMessage::NewLink(_)
            | RouteNetlinkMessage::DelLink(_)
            | RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_) => Change::Network,
            _ => Change::None,
        }
    }

    /// Neighbours go through states all the time; only another MAC, or none, makes cached routes wrong.
    fn neighbour(&mut self, message: &NeighbourMessage, present: bool) -> Change {
        let mut destination = None;
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                    destination = Some(IpAddr::V4(*address));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                    destination = Some(IpAddr::V6(*address));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Some(bytes.clone()),
                _ => {}
            }
        }
        let Some(destination) = destination else {
            return Change::None;
        };
        let unusable = matches!(
            message.header.state,
            NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::None
        );
        let key = (message.header.ifindex, destination);
        match mac.filter(|_| present && !unusable) {
            Some(mac) => match self.neighbours.insert(key, mac.clone()) {
                Some(before) if before != mac => Change::Routes,
                _ => Change::None,
            },
            None => {
                self.neighbours.remove(&key);
                Change::Routes
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
