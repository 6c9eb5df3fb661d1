//! The forwarder itself: the real daemon with a file.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};
use tests::netns::{Namespace, Prefix};
use tests::scenario::{Forwarder, Mode, binary, socket_in};

use super::{Gateway, Order, Protocol};
use crate::net::Net;

pub(super) fn start(
    namespace: &Namespace,
    mode: Mode,
    order: &Order,
    prefix: &Prefix,
) -> Result<Gateway> {
    // Below the prefix's own directory, so that whoever removes that removes this.
    let directory = prefix.directory().join(namespace.name());
    let text = file(mode, order, &socket_in(&directory));
    let forwarder = Forwarder::start_with(namespace, binary()?, directory, &text)?;
    Ok(Gateway::Ours(Box::new(forwarder)))
}

pub(super) fn reload(forwarder: &Forwarder, mode: Mode, order: &Order) -> Result<()> {
    let text = file(mode, order, &forwarder.socket());
    std::fs::write(forwarder.config(), text).context("writing the configuration")?;
    forwarder.listing("reload").map(drop)
}

fn file(mode: Mode, order: &Order, socket: &Path) -> String {
    let mut text = String::new();
    for device in [Net::IN, Net::OUT] {
        let mode = mode.as_str();
        let _ = write!(
            text,
            "[[interface]]\nname = \"{device}\"\nmode = \"{mode}\"\n\n"
        );
    }
    let listener = Net::pick(order.v6, Net::LISTENER);
    let backend = Net::pick(order.v6, Net::BACKEND);
    for index in 0..order.rules {
        let (first, last) = order.ports_of(index);
        let listen = at(listener, first);
        let range = if first == last {
            String::new()
        } else {
            format!("-{last}")
        };
        let _ = write!(
            text,
            "[[forward]]\nprotocol = \"{}\"\ninterface = \"{}\"\nlisten = \"{listen}{range}\"\n\
             to = \"{backend}\"\nsource = \"masquerade\"\n\n",
            order.protocol.word(),
            Net::IN,
        );
    }
    let (flows, half_open) = match order.protocol {
        Protocol::Udp => (order.flows, 1024),
        // No more than half of the table can be half-open.
        Protocol::Tcp => (2 * order.flows, order.flows),
    };
    let _ = write!(
        text,
        "[limits]\nflows = {flows}\nhalf-open = {half_open}\nsource-ports = \"1024-65535\"\n\n\
         [timeouts]\nudp = \"2h\"\nudp-stream = \"2h\"\ntcp-half-open = \"2h\"\n\n\
         [control]\nsocket = \"{}\"\n",
        socket.display()
    );
    text
}

fn at(address: IpAddr, port: u32) -> SocketAddr {
    SocketAddr::new(address, port as u16)
}
