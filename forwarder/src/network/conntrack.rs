//! What netfilter has made of a connection: the entry of conntrack, asked for by its original tuple.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple},
};
use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_NETFILTER},
};

/// One direction of a connection, as its packets arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tracked {
    /// IP protocol number: 6 or 17.
    pub protocol: u8,
    /// From whom.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

/// A way to ask.
pub struct Conntrack(Socket);

impl Conntrack {
    /// Opens one, for this network namespace.
    ///
    /// # Errors
    /// The kernel has no such sockets.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddress::new(0, 0))?;
        // The kernel answers before the question's system call ends, so nobody ever waits.
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// The reply direction of the connection that begins with `original`; `None` if netfilter knows of none.
    ///
    /// # Errors
    /// CAP_NET_ADMIN is missing, or the kernel has no conntrack.
    pub fn reply(&self, original: &Tracked) -> io::Result<Option<Tracked>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(question(original)));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        let answer = NetlinkMessage::<NetfilterMessage>::deserialize(&answer);
        match answer.map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(error) => match error.to_io() {
                error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
                error => Err(error),
            },
            NetlinkPayload::InnerMessage(message) => Ok(reply_of(&message.inner)),
            _ => Ok(None),
        }
    }
}

fn question(original: &Tracked) -> NetfilterMessage {
    let (source, destination) = (original.source, original.destination);
    let family = match source.ip() {
        IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
        IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let tuple = vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(source.ip()),
            IPTuple::DestinationAddress(destination.ip()),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(original.protocol.into()),
            ProtoTuple::SourcePort(source.port()),
            ProtoTuple::DestinationPort(destination.port()),
        ]),
    ];
    NetfilterMessage::new(
        NetfilterHeader::new(family, 0, 0),
        ConntrackMessage::Get(vec![ConntrackAttribute::CtaTupleOrig(tuple)]),
    )
}

fn reply_of(message: &NetfilterMessageInner) -> Option<Tracked> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message else {
        return None;
    };
    let parts = attributes.iter().find_map(|one| match one {
        ConntrackAttribute::CtaTupleReply(parts) => Some(parts),
        _ => None,
    })?;
    let (mut addresses, mut ports, mut protocol) = ([None; 2], [0; 2], 0);
    for part in parts {
        match part {
            Tuple::Ip(parts) => parts.iter().for_each(|part| match part {
                IPTuple::SourceAddress(address) => addresses[0] = Some(*address),
                IPTuple::DestinationAddress(address) => addresses[1] = Some(*address),
                _ => {}
            }),
            Tuple::Proto(parts) => parts.iter().for_each(|part| match part {
                ProtoTuple::Protocol(number) => protocol = (*number).into(),
                ProtoTuple::SourcePort(port) => ports[0] = *port,
                ProtoTuple::DestinationPort(port) => ports[1] = *port,
                _ => {}
            }),
            _ => {}
        }
    }
    Some(Tracked {
        protocol,
        source: SocketAddr::new(addresses[0]?, ports[0]),
        destination: SocketAddr::new(addresses[1]?, ports[1]),
    })
}
