//! What is looked for. Each check is a function of configuration and facts.

mod addresses;
mod backends;
mod device;
mod driver;
mod firewall;
mod kernel;
mod memory;
mod offloads;
mod ports;
mod privileges;
mod programs;
mod reverse_path;
mod routes;
mod services;
mod tracked;
mod veth;

#[cfg(test)]
mod testing;

use super::Case;
use super::facts::Device;
use super::finding::{Finding, Group};
use super::report::Examined;
use crate::config::{Config, Interface, Mode, PortRange, Protocol, Rule, Target};
use crate::network;

/// Everything, by what it is about.
pub(super) fn examine(case: &Case<'_>) -> Vec<Examined> {
    let mut groups = vec![
        Examined::new(Group::Kernel, kernel::summary(case), kernel::check(case)),
        Examined::new(
            Group::Privileges,
            privileges::summary(case),
            privileges::check(case),
        ),
        Examined::new(Group::Memory, memory::summary(case), memory::check(case)),
    ];
    for interface in &case.config.interfaces {
        groups.push(examine_interface(case, interface));
    }
    groups.push(Examined::new(
        Group::Ports,
        ports::summary(case),
        all(case, &[ports::check, services::check]),
    ));
    groups.push(Examined::new(
        Group::Firewall,
        firewall::summary(case),
        all(
            case,
            &[firewall::check, tracked::check, reverse_path::check],
        ),
    ));
    groups.push(Examined::new(
        Group::Backends,
        backends::summary(case),
        all(case, &[addresses::check, routes::check, backends::check]),
    ));
    groups
}

fn all(case: &Case<'_>, checks: &[fn(&Case<'_>) -> Vec<Finding>]) -> Vec<Finding> {
    checks.iter().flat_map(|check| check(case)).collect()
}

fn examine_interface(case: &Case<'_>, interface: &Interface) -> Examined {
    let group = Group::Interface(interface.name.clone());
    let mut findings = device::check(case, interface);
    let Some(device) = case.facts.device(&interface.name) else {
        return Examined::new(group, String::new(), findings);
    };
    let served = Served {
        interface,
        device,
        hook: hook(interface.mode, device),
    };
    for check in [driver::check, offloads::check, veth::check, programs::check] {
        findings.extend(check(case, &served));
    }
    Examined::new(group, device::summary(&served), findings)
}

/// A configured device that is there.
struct Served<'a> {
    interface: &'a Interface,
    device: &'a Device,
    hook: Hook,
}

impl Served<'_> {
    fn name(&self) -> &str {
        &self.interface.name
    }

    /// Whether `run` fails if XDP is refused; with `auto` it then takes TC.
    fn must_be_xdp(&self) -> bool {
        self.interface.mode == Mode::Xdp
    }

    /// A finding that is an error where XDP is demanded and a warning where TC does instead.
    fn refused(&self, check: super::Check, what: String) -> Finding {
        if self.must_be_xdp() {
            Finding::error(check, what)
        } else {
            Finding::warning(check, what)
        }
    }

    /// What a refusal of XDP leads to.
    fn consequence(&self) -> &'static str {
        if self.must_be_xdp() {
            "`forwarder run` will not start with `mode = \"xdp\"` here."
        } else {
            "The slower TC hook will be used here."
        }
    }
}

/// Where on a device the program is going to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Xdp,
    Generic,
    Tc,
}

fn hook(mode: Mode, device: &Device) -> Hook {
    match mode {
        Mode::Xdp => Hook::Xdp,
        Mode::XdpGeneric => Hook::Generic,
        Mode::Tc | Mode::Shadow => Hook::Tc,
        Mode::Auto => match device.driver.as_deref() {
            Some(driver) if network::has_native_xdp(driver) => Hook::Xdp,
            _ => Hook::Tc,
        },
    }
}

/// A rule's protocols.
fn protocols(tcp: bool, udp: bool) -> impl Iterator<Item = Protocol> {
    let both = [(tcp, Protocol::Tcp), (udp, Protocol::Udp)];
    both.into_iter()
        .filter_map(|(wanted, protocol)| wanted.then_some(protocol))
}

/// Ports of this host that `rule` delivers to.
fn local_ports(rule: &Rule) -> Option<PortRange> {
    let Target::Local(port) = rule.target else {
        return None;
    };
    let listen = rule.listen.ports;
    let of = |asked| match port {
        crate::config::BackendPort::Same => asked,
        crate::config::BackendPort::Single(single) => single,
        crate::config::BackendPort::First(first) => first.saturating_add(asked - listen.first),
    };
    Some(PortRange {
        first: of(listen.first),
        last: of(listen.last),
    })
}

/// The devices on which a rule takes packets.
fn devices<'a>(config: &'a Config, interface: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let names = config.interfaces.iter().map(|one| one.name.as_str());
    names.filter(move |name| interface.is_none_or(|only| only == *name))
}
