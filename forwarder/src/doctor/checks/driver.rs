//! What the driver can do with XDP. Limits are those of the kernel's drivers for programs that want every frame in one
//! piece, as ours do, with pages of 4096 bytes.

use super::{Hook, Served};
use crate::doctor::Case;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;
use crate::network;

/// The largest MTU with XDP: a page, or a buffer of 3 KiB, less headroom, headers and what follows the frame.
const LARGEST: &[(&str, u32)] = &[
    ("bnxt_en", 3502),
    ("ena", 3498),
    ("gve", 2032),
    ("hv_netvsc", 3506),
    ("i40e", 3046),
    ("ice", 3046),
    ("igb", 3050),
    ("igc", 1500),
    ("ixgbe", 3050),
    ("mana", 3506),
    ("mlx4_en", 3498),
    ("mlx5_core", 3498),
    ("virtio_net", 3506),
];

/// Drivers that send what XDP sends by queues of its own, as many as there are for the rest.
const DOUBLE: [&str; 2] = ["ena", "gve"];

pub(super) fn check(case: &Case<'_>, served: &Served<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(native(served));
    found.extend(mtu(case, served));
    found.extend(channels(case, served));
    found.extend(transmit_queues(case, served));
    found
}

fn native(served: &Served<'_>) -> Option<Finding> {
    let driver = served.device.driver.as_deref()?;
    let virtual_device = ["veth", "tun", "netkit", "netdevsim"].contains(&driver);
    if !served.must_be_xdp() || virtual_device || network::has_native_xdp(driver) {
        return None;
    }
    let name = served.name();
    let what = format!("The driver of {name}, {driver}, is not known to have native XDP.");
    Some(
        Finding::warning(Check::DriverWithoutXdp, what)
            .why("If it has none, `forwarder run` will not start with `mode = \"xdp\"` here.")
            .advise(format!(
                "Set `mode = \"auto\"` for {name}, which takes XDP where it is known to work and TC elsewhere."
            )),
    )
}

fn mtu(case: &Case<'_>, served: &Served<'_>) -> Option<Finding> {
    let device = served.device;
    let driver = device.driver.as_deref()?;
    let (_, largest) = LARGEST.iter().find(|(name, _)| *name == driver)?;
    if served.hook != Hook::Xdp || case.facts.host.page != 4096 || device.mtu <= *largest {
        return None;
    }
    let name = served.name();
    let what = format!("{name} has an MTU of {}.", device.mtu);
    let why = format!(
        "With XDP, {driver} takes at most {largest}. {}",
        served.consequence()
    );
    Some(
        served
            .refused(Check::MtuTooLarge, what)
            .why(why)
            .run(format!("ip link set dev {} mtu {largest}", shell(name)))
            .advise("Or set `mode = \"tc\"`, which has no such limit."),
    )
}

/// Packets of one queue are one CPU's work.
fn channels(case: &Case<'_>, served: &Served<'_>) -> Option<Finding> {
    // A virtual device is fed by whoever sends, on as many CPUs.
    if served.device.kind.is_some() {
        return None;
    }
    let cpus = case.facts.host.cpus;
    let channels = served.device.channels?;
    let (now, most, word) = match channels.max_combined {
        0 => (channels.rx, channels.max_rx, "rx"),
        most => (channels.combined, most, "combined"),
    };
    let best = cpus.min(most);
    if now == 0 || now == best || (now > cpus && most <= cpus) {
        return None;
    }
    let name = served.name();
    let queues = |count: u32| crate::report::counted(count as usize, "receive queue");
    let what = format!("{name} has {} for {cpus} CPUs.", queues(now));
    let why = if now < best {
        format!("Packets are the work of {now} of them; the others cannot help.")
    } else {
        "Several queues share a CPU and its interrupts, which costs time and gains nothing."
            .to_owned()
    };
    Some(
        Finding::note(Check::Channels, what)
            .why(why)
            .run(format!("ethtool -L {} {word} {best}", shell(name))),
    )
}

fn transmit_queues(case: &Case<'_>, served: &Served<'_>) -> Option<Finding> {
    let driver = served.device.driver.as_deref()?;
    let channels = served.device.channels?;
    if served.hook != Hook::Xdp || channels.max_combined == 0 {
        return None;
    }
    let (name, now, most) = (served.name(), channels.combined, channels.max_combined);
    let cpus = case.facts.host.cpus;
    if DOUBLE.contains(&driver) && now * 2 > most {
        let what = format!("{name} uses {now} of {most} pairs of queues.");
        let why = format!(
            "With XDP, {driver} needs as many again for what XDP sends. {}",
            served.consequence()
        );
        return Some(
            served
                .refused(Check::TransmitQueues, what)
                .why(why)
                .run(format!(
                    "ethtool -L {} combined {}",
                    shell(name),
                    (most / 2).max(1)
                )),
        );
    }
    if driver != "virtio_net" || now + cpus <= most {
        return None;
    }
    let what = format!("{name} uses {now} of {most} pairs of queues, and there are {cpus} CPUs.");
    // Commit 97c2c69e1926; before it, XDP was refused.
    if case.facts.host.version < (5, 13) {
        return Some(
            served
                .refused(Check::TransmitQueues, what)
                .why(format!(
                    "With XDP, virtio_net needs a queue for each CPU besides. {}",
                    served.consequence()
                ))
                .advise("Give the virtual machine more queues (`queues=` of its network device)."),
        );
    }
    Some(
        Finding::note(Check::TransmitQueues, what)
            .why("XDP has no queues of its own then and takes a lock for every packet it sends.")
            .advise(format!(
                "Give the virtual machine {} queues (`queues=` of its network device), or fewer to the rest: ethtool -L.",
                now + cpus
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Channels, Facts};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, findings, found, healthy};
    use rstest::rstest;

    fn channels(combined: u32, max_combined: u32) -> Option<Channels> {
        Some(Channels {
            combined,
            max_combined,
            ..Channels::default()
        })
    }

    /// With `mode = "auto"`, then with `mode = "xdp"`.
    #[rstest]
    #[case::mtu(
        |facts: &mut Facts| facts.devices[0].mtu = 9000,
        Check::MtuTooLarge, "$ ip link set dev eth0 mtu 3506"
    )]
    #[case::queues(
        |facts: &mut Facts| {
            facts.devices[0].driver = Some("ena".into());
            facts.devices[0].channels = channels(4, 4);
        },
        Check::TransmitQueues, "$ ethtool -L eth0 combined 2"
    )]
    fn what_keeps_xdp_out(
        #[values(("auto", Severity::Warning), ("xdp", Severity::Error))] (mode, severity): (
            &str,
            Severity,
        ),
        #[case] change: fn(&mut Facts),
        #[case] check: Check,
        #[case] mend: &str,
    ) {
        let config = CONFIG.replace("\"eth0\"", &format!("\"eth0\"\nmode = \"{mode}\""));
        assert_eq!(found(&config, change), (check, severity, mend.to_owned()));
    }

    #[rstest]
    #[case::mtu(|facts: &mut Facts| facts.devices[0].mtu = 9000)]
    #[case::queues(|facts: &mut Facts| facts.devices[0].channels = channels(4, 4))]
    fn tc_has_no_such_limits(#[case] change: fn(&mut Facts)) {
        let config = CONFIG.replace("\"eth0\"", "\"eth0\"\nmode = \"tc\"");
        let mut facts = healthy();
        change(&mut facts);
        assert_eq!(findings(&config, &facts), []);
    }

    #[rstest]
    #[case::few(1, 8, "$ ethtool -L eth0 combined 4")]
    #[case::many(8, 16, "$ ethtool -L eth0 combined 4")]
    #[case::limited(1, 2, "$ ethtool -L eth0 combined 2")]
    fn queues_should_fit_the_cpus(#[case] now: u32, #[case] most: u32, #[case] mend: &str) {
        let config = CONFIG.replace("\"eth0\"", "\"eth0\"\nmode = \"tc\"");
        let change = |facts: &mut Facts| facts.devices[0].channels = channels(now, most);
        let expected = (Check::Channels, Severity::Note, mend.to_owned());
        assert_eq!(found(&config, change), expected);
    }

    #[test]
    fn virtio_shares_queues_where_it_has_too_few() {
        let (check, severity, mend) = found(CONFIG, |facts| {
            facts.devices[0].channels = channels(4, 4);
        });
        assert_eq!((check, severity), (Check::TransmitQueues, Severity::Note));
        assert!(mend.contains("8 queues"), "{mend}");
    }

    #[test]
    fn a_driver_without_xdp() {
        let config = CONFIG.replace("\"eth0\"", "\"eth0\"\nmode = \"xdp\"");
        let (check, severity, _) = found(&config, |facts| {
            facts.devices[0].driver = Some("r8169".into());
        });
        assert_eq!(
            (check, severity),
            (Check::DriverWithoutXdp, Severity::Warning)
        );
    }
}
