//! Connections that netfilter follows.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as Number, Tuple,
    },
};
use rtnetlink::{
    packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_NETFILTER},
};

use super::Gaps;
use crate::config::Protocol;
use crate::doctor::finding::Group;

/// A connection that goes through netfilter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Tracked {
    pub protocol: Protocol,
    /// Where its client sends to.
    pub destination: SocketAddr,
}

pub(super) fn read(gaps: &mut Gaps) -> Vec<Tracked> {
    let mut found = Vec::new();
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        match list(family) {
            Ok(some) => found.extend(some),
            // A kernel without conntrack follows none.
            Err(error) if is_absent(&error) => {}
            Err(error) => gaps.push(Group::Firewall, "tracked connections", reason(&error)),
        }
    }
    found
}

fn is_absent(error: &anyhow::Error) -> bool {
    matches!(
        os_error(error),
        Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP)
    )
}

fn reason(error: &anyhow::Error) -> String {
    match os_error(error) {
        Some(libc::EPERM | libc::EACCES) => "needs CAP_NET_ADMIN; run this with sudo".to_owned(),
        _ => format!("{error:#}"),
    }
}

fn os_error(error: &anyhow::Error) -> Option<i32> {
    error.downcast_ref::<io::Error>()?.raw_os_error()
}

fn list(family: NetfilterProtoFamily) -> anyhow::Result<Vec<Tracked>> {
    let question = NetfilterMessage::new(
        NetfilterHeader::new(family, 0, 0),
        ConntrackMessage::Get(Vec::new()),
    );
    let mut found = Vec::new();
    dump(question, |message| {
        if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message {
            found.extend(tracked(&attributes));
        }
    })?;
    Ok(found)
}

/// Has netfilter list something.
///
/// # Errors
/// The kernel refuses; the error is an [`io::Error`] then.
pub(super) fn dump(
    question: NetfilterMessage,
    mut visit: impl FnMut(NetfilterMessageInner),
) -> anyhow::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(question));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        if read_all(&answer, &mut visit)? {
            return Ok(());
        }
    }
}

/// Reads the messages of one datagram; true after the last.
fn read_all(
    mut bytes: &[u8],
    visit: &mut impl FnMut(NetfilterMessageInner),
) -> anyhow::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<NetfilterMessage>::deserialize(bytes)
            .context("the kernel's answer is not understood")?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io().into()),
            NetlinkPayload::InnerMessage(message) => visit(message.inner),
            _ => {}
        }
        let length = (message.header.length as usize).next_multiple_of(4);
        bytes = bytes.get(length.max(16)..).unwrap_or_default();
    }
    Ok(false)
}

fn tracked(attributes: &[ConntrackAttribute]) -> Option<Tracked> {
    let parts = attributes.iter().find_map(|one| match one {
        ConntrackAttribute::CtaTupleOrig(parts) => Some(parts),
        _ => None,
    })?;
    let (mut address, mut port, mut protocol): (Option<IpAddr>, u16, _) = (None, 0, None);
    for part in parts {
        match part {
            Tuple::Ip(parts) => {
                for part in parts {
                    if let IPTuple::DestinationAddress(to) = part {
                        address = Some(*to);
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(Number::Tcp) => protocol = Some(Protocol::Tcp),
                        ProtoTuple::Protocol(Number::Udp) => protocol = Some(Protocol::Udp),
                        ProtoTuple::DestinationPort(to) => port = *to,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Tracked {
        protocol: protocol?,
        destination: SocketAddr::new(address?, port),
    })
}
