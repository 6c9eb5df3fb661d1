//! From a configuration to a running datapath.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
};

use anyhow::Context as _;
use forwarder_common::settings::{FORWARDING_V4, FORWARDING_V6};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket},
};
use rtnetlink::Handle;
use tracing::{info, warn};

use super::{RunOptions, running::Running};
use crate::{
    config::{Config, Limits, Mode, Rule},
    control::Listener,
    datapath::{Datapath, Handover, Link, Needs, Pins, RuleSet, Sizes, detach_all},
    fault::{self, Step},
    metrics,
    network::{self, Network},
    report::counted,
};

/// Makes this process the one forwarder of its network namespace: a name in the abstract namespace of Unix
/// sockets, which belongs to the network namespace and goes away with the process.
///
/// # Errors
/// Another one is running here.
pub(super) fn claim() -> anyhow::Result<OwnedFd> {
    let claim = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    match bind(claim.as_raw_fd(), &UnixAddr::new_abstract(b"forwarder")?) {
        Ok(()) => Ok(claim),
        Err(Errno::EADDRINUSE) => {
            anyhow::bail!("a forwarder is already running in this network namespace: stop it first")
        }
        Err(error) => Err(error).context("cannot claim this network namespace"),
    }
}

/// A daemon that forwards but does not answer yet.
pub(super) struct Started {
    pub control: Listener,
    /// Where metrics are to be served, if they are.
    pub metrics: Option<metrics::Listener>,
    pub running: Arc<Running>,
}

/// Loads, fills and attaches everything. What a first start cannot finish, it takes back; what an earlier
/// daemon left running is left running.
///
/// # Errors
/// Whatever is missing, in one sentence.
pub(super) async fn start(
    config: Config,
    options: RunOptions,
    handle: &Handle,
) -> anyhow::Result<Started> {
    let network = Network::read(handle).await?;
    check_interfaces(&config, &network)?;
    let control = Listener::bind(&config.control)?;
    let metrics = config
        .metrics
        .map(|metrics| metrics::Listener::bind(metrics.listen));
    let metrics = metrics.transpose()?;
    let pins = Pins::here()?;
    let handover = Handover::begin(&pins, options.replace)?;
    let adopted = pins.exist();
    pins.create()?;
    match pins.sweep() {
        Ok(0) => {}
        Ok(count) => info!(
            "removed what {} left behind",
            counted(count, "ended namespace")
        ),
        Err(error) => warn!("cannot look for pins of namespaces that are gone: {error:#}"),
    }
    match fill(config, options, network, (pins.clone(), handover)) {
        Ok(running) => {
            let how = if adopted {
                "adopted what was running"
            } else {
                "started"
            };
            info!("{how}; pins are under {}", pins.directory().display());
            Ok(Started {
                control,
                metrics,
                running: Arc::new(running),
            })
        }
        Err(error) => {
            if !adopted && let Err(left) = take_back(&pins) {
                warn!("cannot take back a start that failed: {left:#}");
            }
            Err(error)
        }
    }
}

/// Takes the programs off, removes every pin, and switches off what was switched on for `lo`. Returns how
/// many pins there were.
///
/// # Errors
/// Something could not be removed.
pub(super) fn take_back(pins: &Pins) -> anyhow::Result<usize> {
    let detached = detach_all(pins)?;
    network::set_loopback_forwarding(false, detached.loopback_forwarding)
        .context("cannot switch off forwarding for lo")?;
    Ok(detached.pins)
}

fn fill(
    config: Config,
    options: RunOptions,
    network: Network,
    (pins, handover): (Pins, Handover),
) -> anyhow::Result<Running> {
    let wanted = Sizes::from(&config.limits);
    let needs = Needs::of(RuleSet::from(&config))?;
    let mut datapath = Datapath::open(wanted, needs, Some(pins))?;
    if datapath.sizes() != wanted {
        warn!(
            "the tables keep the sizes an earlier daemon made them with ({} flows, {} half-open, {} rules); `forwarder detach` and a new start change them",
            datapath.sizes().flows,
            datapath.sizes().half_open,
            datapath.sizes().rules
        );
    }
    fault::at(Step::Load)?;
    handover.take_links()?;
    let clock = datapath.calibrate()?;
    let mut settings = datapath.settings()?;
    settings.loopback_forwarding |=
        network::set_loopback_forwarding(true, FORWARDING_V4 | FORWARDING_V6)
            .context("cannot switch on forwarding for lo, which route look-ups need")?;
    datapath.set_settings(settings)?;
    let running = Running::new(config, options, datapath, clock);
    warn_of_local_ports(&running.state().config.rules);
    running.state().handover = Some(handover);
    running.apply_first(network)?;
    Ok(running)
}

/// Tells the programs which source ports they may give: the configured range as it is, by default every
/// unprivileged port but those that the host gives its own connections, so that the two never meet.
pub(super) fn set_source_ports(datapath: &mut Datapath, limits: &Limits) -> anyhow::Result<()> {
    let mut settings = datapath.settings()?;
    let (range, hole) = match limits.ports {
        Some(ports) => ((ports.first, ports.last), (1, 0)),
        None => ((1024, u16::MAX), network::local_ports()),
    };
    (settings.port_first, settings.port_last) = range;
    (settings.local_first, settings.local_last) = hole;
    datapath.set_settings(settings)
}

/// A rule for ports that the host gives its own connections takes the replies to some of those as well.
pub(super) fn warn_of_local_ports(rules: &[Rule]) {
    let (first, last) = network::local_ports();
    for rule in rules {
        let ports = rule.listen.ports;
        if ports.first <= last && ports.last >= first {
            warn!(
                "rule `{}` listens on ports that this host gives its own connections ({first}-{last}): replies to those are taken for the rule's; see net.ipv4.ip_local_port_range",
                rule.name
            );
        }
    }
}

/// Every interface must exist unless it is optional, and carry Ethernet frames.
/// The devices, with what the configuration says of them.
pub(super) fn links(config: &Config, network: &Network) -> Vec<Link> {
    let watched = |link: &Link| {
        let mut interfaces = config.interfaces.iter();
        interfaces.any(|one| one.name == link.name && one.mode == Mode::Shadow)
    };
    let links = network.links.iter();
    links
        .map(|link| Link {
            shadow: watched(link),
            ..link.clone()
        })
        .collect()
}

pub(super) fn check_interfaces(config: &Config, network: &Network) -> anyhow::Result<()> {
    for interface in &config.interfaces {
        let name = &interface.name;
        match network.link(name) {
            Some(link) if link.ethernet => {}
            Some(_) => {
                let message = format!(
                    "interface `{name}` has no Ethernet frames; expected an Ethernet-like device"
                );
                return Err(config.error_at(interface.span, message, None).into());
            }
            None if interface.optional => {}
            None => {
                let known: Vec<_> = network
                    .links
                    .iter()
                    .filter(|link| link.ethernet)
                    .map(|link| link.name.as_str())
                    .collect();
                let others = match known.as_slice() {
                    [] => "this host has none that can be served".to_owned(),
                    known => format!("expected one of {}", known.join(", ")),
                };
                let message = format!("interface `{name}` does not exist; {others}");
                let help = "to wait for it, add `optional = true`".to_owned();
                return Err(config.error_at(interface.span, message, Some(help)).into());
            }
        }
    }
    Ok(())
}
