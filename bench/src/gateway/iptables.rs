//! iptables, in both its implementations.

use std::fmt::Write as _;

use anyhow::Result;
use tests::netns::Namespace;

use super::{NotHere, Order, feed};
use crate::net::Net;

/// Which implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The kernel's x_tables.
    Legacy,
    /// nf_tables.
    Nft,
}

/// Loads the rules. There is no batch without a lock that all namespaces share, hence `-w`.
pub(super) fn start(namespace: &Namespace, flavour: Flavour, order: &Order) -> Result<()> {
    let family = if order.v6 { "ip6tables" } else { "iptables" };
    let program = match flavour {
        Flavour::Legacy => format!("{family}-legacy-restore"),
        Flavour::Nft => format!("{family}-nft-restore"),
    };
    let loaded = feed(namespace, &program, &["-w"], &script(order));
    loaded.map_err(|error| NotHere(format!("{program}: {error:#}")))?;
    Ok(())
}

fn script(order: &Order) -> String {
    let listener = Net::pick(order.v6, Net::LISTENER);
    let backend = Net::pick(order.v6, Net::BACKEND);
    let protocol = order.protocol.word();
    let mut text = "*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n".to_owned();
    for index in 0..order.rules {
        let (first, last) = order.ports_of(index);
        let _ = writeln!(
            text,
            "-A PREROUTING -i {} -d {listener} -p {protocol} --dport {first}:{last} \
             -j DNAT --to-destination {backend}",
            Net::IN,
        );
    }
    let _ = writeln!(text, "-A POSTROUTING -o {} -j MASQUERADE", Net::OUT);
    text + "COMMIT\n"
}
