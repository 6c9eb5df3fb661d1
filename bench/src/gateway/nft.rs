//! nf_tables with all rules in one map, as its own documentation recommends for many.

use std::fmt::Write as _;

use anyhow::Result;
use tests::netns::Namespace;

use super::{NotHere, Order, feed};
use crate::net::Net;

pub(super) fn start(namespace: &Namespace, order: &Order, flowtable: bool) -> Result<()> {
    let loaded = feed(namespace, "nft", &["-f", "-"], &script(order, flowtable));
    loaded.map_err(|error| NotHere(format!("nft: {error:#}")))?;
    Ok(())
}

fn script(order: &Order, flowtable: bool) -> String {
    let listener = Net::pick(order.v6, Net::LISTENER);
    let backend = Net::pick(order.v6, Net::BACKEND);
    let (family, kind) = if order.v6 {
        ("ip6", "ipv6_addr")
    } else {
        ("ip", "ipv4_addr")
    };
    let (inside, outside) = (Net::IN, Net::OUT);
    let flags = if order.rules == 1 {
        "flags interval;"
    } else {
        ""
    };
    let protocol = order.protocol.word();
    // Made first, so that there is something to delete.
    let mut text = format!("table {family} bench\ndelete table {family} bench\n");
    let _ = write!(
        text,
        "table {family} bench {{\nmap backends {{ type inet_service : {kind}; {flags} elements = {{"
    );
    for index in 0..order.rules {
        let (first, last) = order.ports_of(index);
        let ports = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        let _ = write!(text, "{ports} : {backend},");
    }
    let _ = write!(
        text,
        "}}\n}}\n\
         chain before {{ type nat hook prerouting priority dstnat;\n\
         iifname {inside} {family} daddr {listener} dnat to {protocol} dport map @backends\n}}\n\
         chain after {{ type nat hook postrouting priority srcnat; oifname {outside} masquerade\n}}\n"
    );
    if flowtable {
        let _ = write!(
            text,
            "flowtable fast {{ hook ingress priority 0; devices = {{ {inside}, {outside} }};\n}}\n\
             chain between {{ type filter hook forward priority 0; meta l4proto {protocol} flow add @fast\n}}\n"
        );
    }
    text + "}\n"
}
