//! IP Virtual Server in NAT mode, which needs netfilter to change the source too.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use tests::netns::Namespace;

use super::{NotHere, Order, feed};
use crate::net::Net;

pub(super) fn start(namespace: &Namespace, order: &Order) -> Result<()> {
    let tool = |arguments: &[&str], text: &str| {
        feed(namespace, "ipvsadm", arguments, text)
            .map(drop)
            .map_err(|error| NotHere(format!("ipvsadm: {error:#}")))
    };
    // The tool's first word brings the module where it is one.
    tool(&["--clear"], "")?;
    namespace
        .sysctl("net/ipv4/vs/conntrack", "1")
        .map_err(|_| NotHere("IPVS of this kernel leaves conntrack out".to_owned()))?;
    tool(&["--restore"], &script(order))?;
    let masquerade = format!(
        "*nat\n:POSTROUTING ACCEPT\n-A POSTROUTING -o {} -j MASQUERADE\nCOMMIT\n",
        Net::OUT
    );
    let program = if order.v6 {
        "ip6tables-restore"
    } else {
        "iptables-restore"
    };
    feed(namespace, program, &["-w"], &masquerade).map(drop)
}

fn script(order: &Order) -> String {
    let listener = Net::pick(order.v6, Net::LISTENER);
    let backend = Net::pick(order.v6, Net::BACKEND);
    let flag = match order.protocol {
        super::Protocol::Udp => "-u",
        super::Protocol::Tcp => "-t",
    };
    let at = |address: IpAddr, port: u32| SocketAddr::new(address, port as u16);
    let mut text = String::new();
    // It has no ranges: a single rule for many ports is that many services.
    for index in 0..order.all_ports() {
        let port = u32::from(Net::PORT) + index;
        let (service, server) = (at(listener, port), at(backend, port));
        let _ = write!(
            text,
            "-A {flag} {service} -s rr\n-a {flag} {service} -r {server} -m\n"
        );
    }
    text
}
