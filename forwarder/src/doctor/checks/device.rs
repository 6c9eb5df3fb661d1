//! Whether a configured device is there and alive.

use super::{Hook, Served};
use crate::config::{Config, Interface};
use crate::doctor::Case;
use crate::doctor::facts::Device;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

pub(super) fn summary(served: &Served<'_>) -> String {
    let hook = match served.hook {
        Hook::Xdp => "XDP",
        Hook::Generic => "generic XDP",
        Hook::Tc => "TC",
    };
    let device = served.device;
    let kind = device.driver.as_deref().or(device.kind.as_deref());
    let kind = kind.map_or_else(String::new, |kind| format!("{kind}, "));
    format!("{kind}{hook}, MTU {}", device.mtu)
}

pub(super) fn check(case: &Case<'_>, interface: &Interface) -> Vec<Finding> {
    let name = &interface.name;
    let Some(device) = case.facts.device(name) else {
        return vec![missing(case, interface)];
    };
    let mut found = Vec::new();
    if !device.ethernet {
        let what = format!("{name} carries no Ethernet frames.");
        found.push(
            Finding::error(Check::InterfaceKind, what)
                .why("`forwarder run` refuses it: the programs read and write Ethernet headers.")
                .advise(format!(
                    "Take it out of {}; connections by it are left to the kernel.",
                    case.file
                )),
        );
    }
    found.extend(down(device));
    if let Some(master) = &device.master {
        let what = format!("{name} is a part of {master}.");
        found.push(
            Finding::error(Check::InterfaceEnslaved, what)
                .why(format!(
                    "Addresses and routes are those of {master}, so packets that come in by {name} find none."
                ))
                .run(format!(
                    "sed -i 's/\"{name}\"/\"{master}\"/' {}",
                    shell(case.file)
                )),
        );
    }
    if device.ipv6_disabled && serves_v6(case.config, name) {
        let what = format!("IPv6 is switched off on {name}, and rules need it.");
        found.push(
            Finding::error(Check::Ipv6Disabled, what)
                .why("There are no addresses and no routes of IPv6 by it.")
                .run(format!("sysctl -w {}=0", setting(name, "disable_ipv6"))),
        );
    }
    found
}

/// The name of a setting of IPv6; a dot in a device's name is a slash to sysctl.
fn setting(device: &str, key: &str) -> String {
    shell(&format!("net.ipv6.conf.{}.{key}", device.replace('.', "/")))
}

fn missing(case: &Case<'_>, interface: &Interface) -> Finding {
    let name = &interface.name;
    let known: Vec<_> = case
        .facts
        .devices
        .iter()
        .filter(|device| device.ethernet)
        .map(|device| device.name.as_str())
        .collect();
    let what = format!("There is no device {name}.");
    if interface.optional {
        return Finding::note(Check::InterfaceMissing, what)
            .why("It is `optional`: `forwarder run` waits for it.");
    }
    let finding = Finding::error(Check::InterfaceMissing, what).why(format!(
        "`forwarder run` does not start without it. There are {}.",
        if known.is_empty() {
            "none with Ethernet frames".to_owned()
        } else {
            known.join(", ")
        }
    ));
    finding.advise(format!(
        "Correct the name in {}, or add `optional = true` to it.",
        case.file
    ))
}

fn down(device: &Device) -> Option<Finding> {
    let name = &device.name;
    if !device.up {
        let finding = Finding::error(Check::InterfaceDown, format!("{name} is down."));
        return Some(
            finding
                .why("Nothing comes in by it and nothing leaves.")
                .run(format!("ip link set dev {} up", shell(name))),
        );
    }
    if device.carrier {
        return None;
    }
    let finding = Finding::error(Check::InterfaceDown, format!("{name} has no carrier."));
    let finding = finding.why("There is nothing at the other end, or it is down.");
    Some(match &device.peer {
        Some(peer) if !peer.up => finding.run(format!(
            "{}ip link set dev {} up",
            peer.enter,
            shell(&peer.name)
        )),
        _ => finding.advise("Look at the cable and at what is at its other end."),
    })
}

/// Whether rules take or send IPv6 packets by the device.
fn serves_v6(config: &Config, name: &str) -> bool {
    let here = |interface: &Option<String>| interface.as_deref().is_none_or(|only| only == name);
    let forwards = config.rules.iter().any(|rule| {
        // A rule that would serve both is served by one.
        here(&rule.interface) && rule.serves_v6() && !rule.serves_v4()
    });
    let masquerades = config
        .masquerades
        .iter()
        .any(|rule| here(&rule.interface) && rule.from.iter().any(|from| from.addr().is_ipv6()));
    forwards || masquerades
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Facts, Peer};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, found, with_rule};
    use rstest::rstest;

    #[rstest]
    #[case::kind(
        |facts: &mut Facts| facts.devices[0].ethernet = false,
        (Check::InterfaceKind, Severity::Error, "Take it out of f.toml; connections by it are left to the kernel.")
    )]
    #[case::down(
        |facts: &mut Facts| facts.devices[0].up = false,
        (Check::InterfaceDown, Severity::Error, "$ ip link set dev eth0 up")
    )]
    #[case::no_cable(
        |facts: &mut Facts| facts.devices[0].carrier = false,
        (Check::InterfaceDown, Severity::Error, "Look at the cable and at what is at its other end.")
    )]
    #[case::peer_down(
        |facts: &mut Facts| {
            facts.devices[0].carrier = false;
            facts.devices[0].peer = Some(Peer { name: "gw".into(), enter: "ip netns exec net ".into(), ..Peer::default() });
        },
        (Check::InterfaceDown, Severity::Error, "$ ip netns exec net ip link set dev gw up")
    )]
    #[case::part_of_a_bridge(
        |facts: &mut Facts| facts.devices[0].master = Some("br0".into()),
        (Check::InterfaceEnslaved, Severity::Error, r#"$ sed -i 's/"eth0"/"br0"/' f.toml"#)
    )]
    #[case::missing(
        |facts: &mut Facts| facts.devices[0].name = "ens3".into(),
        (Check::InterfaceMissing, Severity::Error, "Correct the name in f.toml, or add `optional = true` to it.")
    )]
    fn what_is_wrong_with_a_device(
        #[case] change: fn(&mut Facts),
        #[case] (check, severity, mend): (Check, Severity, &str),
    ) {
        assert_eq!(found(CONFIG, change), (check, severity, mend.to_owned()));
    }

    #[test]
    fn an_optional_device_is_waited_for() {
        let config = CONFIG.replace("\"eth0\"", "\"eth0\"\noptional = true");
        let (check, severity, _) = found(&config, |facts| facts.devices.clear());
        assert_eq!((check, severity), (Check::InterfaceMissing, Severity::Note));
    }

    #[test]
    fn ipv6_is_needed_where_a_rule_has_it() {
        let rule = "listen = \"[2001:db8:113::5]:110\"\nto = \"2001:db8:195::1\"";
        let mend = "$ sysctl -w net.ipv6.conf.eth0.disable_ipv6=0".to_owned();
        let off = |facts: &mut Facts| facts.devices[0].ipv6_disabled = true;
        assert_eq!(
            found(&with_rule(rule), off),
            (Check::Ipv6Disabled, Severity::Error, mend)
        );
    }

    #[test]
    fn a_dot_in_a_name_is_a_slash_in_a_setting() {
        let setting = super::setting("eth0.5", "disable_ipv6");
        assert_eq!(setting, "net.ipv6.conf.eth0/5.disable_ipv6");
    }
}
