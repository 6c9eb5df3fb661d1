//! veth pairs, which are not quite like cables.

use super::{Hook, Served};
use crate::doctor::Case;
use crate::doctor::facts::Peer;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

/// The largest MTU of the other end: a page less headroom (256), the frame's header (14) and what follows it (320), see
/// `veth_xdp_set` in drivers/net/veth.c.
const LARGEST: u32 = 4096 - 256 - 14 - 320;

pub(super) fn check(case: &Case<'_>, served: &Served<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if served.hook == Hook::Tc {
        return found;
    }
    if let Some(peer) = &served.device.peer {
        found.extend(checksums(served, peer));
        if served.hook == Hook::Xdp {
            found.extend(mtu(case, served, peer));
            found.extend(queues(served, peer));
        }
    }
    found.extend(napi(served));
    found
}

fn checksums(served: &Served<'_>, peer: &Peer) -> Option<Finding> {
    if !peer.features.leaves_checksums() {
        return None;
    }
    let (name, other) = (served.name(), &peer.name);
    let what = format!("{other}, the other end of {name}, leaves checksums to the device.");
    Some(
        Finding::error(Check::ChecksumOffload, what)
            .why("A veth pair never fills them in. XDP then sees half a checksum and makes a wrong one of it, and packets are dropped at their destination.")
            .run(format!("{}ethtool -K {} tx off", peer.enter, shell(other)))
            .advise(format!("Or set `mode = \"tc\"` for {name}, which can deal with it and is faster between veth pairs for large transfers.")),
    )
}

fn mtu(case: &Case<'_>, served: &Served<'_>, peer: &Peer) -> Option<Finding> {
    if peer.mtu <= LARGEST || case.facts.host.page != 4096 {
        return None;
    }
    let (name, other) = (served.name(), &peer.name);
    let what = format!(
        "{other}, the other end of {name}, has an MTU of {}.",
        peer.mtu
    );
    let why = format!(
        "XDP on a veth device takes at most {LARGEST} from its peer. {}",
        served.consequence()
    );
    Some(
        served
            .refused(Check::MtuTooLarge, what)
            .why(why)
            .run(format!(
                "{}ip link set dev {} mtu {LARGEST}",
                peer.enter,
                shell(other)
            ))
            .advise("Or set `mode = \"tc\"`, which has no such limit."),
    )
}

fn queues(served: &Served<'_>, peer: &Peer) -> Option<Finding> {
    let receive = served.device.channels?;
    let transmit = peer.channels?;
    let (receive, transmit) = (
        receive.rx.max(receive.combined),
        transmit.tx.max(transmit.combined),
    );
    if transmit <= receive {
        return None;
    }
    let (name, other) = (served.name(), &peer.name);
    let what = format!(
        "{other}, the other end of {name}, has {transmit} transmit queues, and {name} receives by {receive}."
    );
    let why = format!(
        "XDP on a veth device needs a receive queue for each of its peer's transmit queues. {}",
        served.consequence()
    );
    Some(
        served
            .refused(Check::TransmitQueues, what)
            .why(why)
            .run(format!(
                "{}ethtool -L {} tx {receive}",
                peer.enter,
                shell(other)
            )),
    )
}

/// Frames that XDP sends to a veth device are taken by its peer's NAPI.
fn napi(served: &Served<'_>) -> Option<Finding> {
    let device = served.device;
    if device.transmits || device.kind.as_deref() != Some("veth") {
        return None;
    }
    let name = served.name();
    let what = format!("The other end of {name} does not take frames from XDP, as it has no NAPI.");
    let finding = Finding::warning(Check::PeerWithoutNapi, what)
        .why(format!("What leaves by {name} takes the slow path, by TC."));
    Some(match &device.peer {
        Some(peer) => finding.run(format!(
            "{}ethtool -K {} gro on",
            peer.enter,
            shell(&peer.name)
        )),
        None => finding.advise("There, switch GRO on: ethtool -K DEVICE gro on."),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Channels, Facts, Peer};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, findings, found, healthy, on, veth};
    use rstest::rstest;

    fn pair(facts: &mut Facts) -> &mut Peer {
        let device = veth("eth0", 2);
        let channels = device.channels;
        facts.devices[0] = device;
        facts.devices[0].peer.insert(Peer {
            name: "gw".to_owned(),
            enter: "ip netns exec net ".to_owned(),
            mtu: 1500,
            up: true,
            channels,
            ..Peer::default()
        })
    }

    #[rstest]
    #[case::checksums(
        |facts: &mut Facts| pair(facts).features = on(&["tx-checksum-ip-generic"], false),
        (Check::ChecksumOffload, Severity::Error, "ethtool -K gw tx off")
    )]
    #[case::mtu(
        |facts: &mut Facts| pair(facts).mtu = 9000,
        (Check::MtuTooLarge, Severity::Error, "ip link set dev gw mtu 3506")
    )]
    #[case::queues(
        |facts: &mut Facts| pair(facts).channels = Some(Channels { rx: 2, tx: 2, ..Channels::default() }),
        (Check::TransmitQueues, Severity::Error, "ethtool -L gw tx 1")
    )]
    #[case::napi(
        |facts: &mut Facts| {
            pair(facts);
            facts.devices[0].transmits = false;
        },
        (Check::PeerWithoutNapi, Severity::Warning, "ethtool -K gw gro on")
    )]
    fn what_a_pair_lacks_for_xdp(
        #[case] change: fn(&mut Facts),
        #[case] (check, severity, mend): (Check, Severity, &str),
    ) {
        let config = CONFIG.replace("\"eth0\"", "\"eth0\"\nmode = \"xdp\"");
        let mend = format!("$ ip netns exec net {mend}");
        assert_eq!(found(&config, change), (check, severity, mend));
        // TC, which is what `auto` takes, needs none of it.
        let mut facts = healthy();
        change(&mut facts);
        assert_eq!(findings(CONFIG, &facts), []);
    }
}
