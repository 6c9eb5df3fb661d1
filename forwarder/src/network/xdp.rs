//! Which XDP program is on a device, and taking it off.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
};

/// `XDP_FLAGS_SKB_MODE` in include/uapi/linux/if_link.h.
const GENERIC: u32 = 2;
/// `XDP_FLAGS_DRV_MODE`.
const DRIVER: u32 = 4;

/// The XDP program on the device with `index`: its number, and whether it is generic instead of in the driver.
///
/// # Errors
/// There is no such device, or netlink fails.
pub fn xdp_on(index: u32) -> io::Result<Option<(u32, bool)>> {
    let mut question = LinkMessage::default();
    question.header.index = index;
    let answer = ask(RouteNetlinkMessage::GetLink(question), NLM_F_REQUEST)?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = answer else {
        return Err(io::Error::other("the kernel does not describe the device"));
    };
    let facts = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Xdp(facts) => Some(facts),
            _ => None,
        });
    Ok(facts.and_then(|facts| program(facts)))
}

/// Of what the kernel says of a device's XDP: the number of the program, and whether it is generic.
pub fn program(facts: &[LinkXdp]) -> Option<(u32, bool)> {
    let generic = facts.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
    facts.iter().find_map(|fact| match fact {
        LinkXdp::ProgId(id) => Some((*id, generic)),
        _ => None,
    })
}

/// Takes the XDP program off the device with `index`, as `ip link set dev D xdp off` does.
///
/// # Errors
/// It is there by a link, or netlink fails.
pub fn take_xdp_off(index: u32, generic: bool) -> io::Result<()> {
    let mut order = LinkMessage::default();
    order.header.index = index;
    let mode = if generic { GENERIC } else { DRIVER };
    let none = vec![LinkXdp::Fd(-1), LinkXdp::Flags(mode)];
    order.attributes.push(LinkAttribute::Xdp(none));
    ask(
        RouteNetlinkMessage::SetLink(order),
        NLM_F_REQUEST | NLM_F_ACK,
    )
    .map(drop)
}

fn ask(
    message: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, message.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer);
    match answer.map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        payload => Ok(payload),
    }
}
