//! Putting the programs on devices, in a way that outlives the daemon.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, anyhow};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle},
    xdp::XdpLink,
};

use super::{
    Datapath, Link, Occupant, Pins,
    pins::unpin_link,
    programs::{EGRESS, SLOW, TC},
};
use crate::{config::Mode, report::Hook};

/// Priority and handle of our filter where links do not exist (before Linux 6.6): fixed, so that a
/// restarted daemon finds and replaces it.
const PRIORITY: u16 = 0x6677;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// How a device is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Index of the device.
    pub index: u32,
    /// What was asked for.
    pub mode: Mode,
    /// Where the program is.
    pub hook: Hook,
    /// Why there, in a few words.
    pub why: String,
    /// Whether what this host itself sends by it is looked at, too.
    pub egress: bool,
}

/// What is wanted of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the program is to be.
    pub mode: Mode,
    /// Whether the driver is known for XDP on wire frames, which is what `auto` goes by.
    pub native: bool,
    /// Whether what this host itself sends by it is to be looked at, too.
    pub egress: bool,
    /// Another's XDP program that is there.
    pub occupant: Option<Occupant>,
}

impl Datapath {
    /// Puts the programs on `link` as wanted, replacing in one step what an earlier daemon left there.
    ///
    /// # Errors
    /// The device cannot be served that way; the message says what to do.
    pub fn attach(&mut self, link: &Link, wanted: Wanted) -> anyhow::Result<Attached> {
        let Wanted {
            mode,
            native,
            egress,
            occupant,
        } = wanted;
        let occupant = occupant.as_ref();
        let (hook, why) = match mode {
            Mode::Xdp => self.fast((link, occupant), XdpMode::Driver, "as configured")?,
            Mode::XdpGeneric => self.fast((link, occupant), XdpMode::Skb, "as configured")?,
            Mode::Tc => self.slow_only(link, "as configured")?,
            // Drivers set their queues up anew for XDP, and nothing may be lost by watching.
            Mode::Shadow => {
                self.slow_only(link, "it only watches, so the device stays as it is")?
            }
            Mode::Auto if native => {
                match self.fast((link, occupant), XdpMode::Driver, "the driver has XDP") {
                    Ok(served) => served,
                    Err(error) => self.slow_only(link, &format!("XDP was refused: {error:#}"))?,
                }
            }
            Mode::Auto => self.slow_only(link, "TC is faster than XDP on this kind of device")?,
        };
        if egress {
            self.on_tc(link, EGRESS, Side::Out)?;
        } else {
            self.off_egress(link)?;
        }
        Ok(Attached {
            index: link.index,
            mode,
            hook,
            why,
            egress,
        })
    }

    /// Devices that have programs of ours, with the mode they are served in.
    ///
    /// # Errors
    /// The pins cannot be listed.
    pub fn served(&self) -> anyhow::Result<BTreeMap<u32, Mode>> {
        let mut served = BTreeMap::new();
        for (_, hook, index) in self.pinned_links()? {
            let mode = served.entry(index).or_insert(Mode::Tc);
            if hook == hook_name(XdpMode::Driver) {
                *mode = Mode::Xdp;
            } else if hook == hook_name(XdpMode::Skb) {
                *mode = Mode::XdpGeneric;
            }
        }
        Ok(served)
    }

    /// Whether a program of ours looks at what this host itself sends.
    ///
    /// # Errors
    /// The pins cannot be listed.
    pub fn has_egress(&self) -> anyhow::Result<bool> {
        let words = [Side::Out.word(), Side::Out.legacy()];
        let links = self.pinned_links()?;
        Ok(links.iter().any(|(_, hook, _)| words.contains(&&**hook)))
    }

    fn pinned_links(&self) -> anyhow::Result<Vec<(PathBuf, String, u32)>> {
        self.pins.as_ref().map_or(Ok(Vec::new()), Pins::links)
    }

    /// Takes the programs off devices that are not in `keep`.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach_others(&mut self, keep: &[u32]) -> anyhow::Result<()> {
        for (path, hook, index) in self.pinned_links()? {
            if !keep.contains(&index) {
                if let Some(side) = Side::of_legacy(&hook) {
                    detach_legacy(index, side);
                }
                unpin_link(&path)?;
            }
        }
        Ok(())
    }

    fn fast(
        &mut self,
        (link, occupant): (&Link, Option<&Occupant>),
        mode: XdpMode,
        why: &str,
    ) -> anyhow::Result<(Hook, String)> {
        let path = |pins: &Pins| pins.link(hook_name(mode), link.index);
        let pin = self.pins.as_ref().map(path);
        let other = match mode {
            XdpMode::Skb => XdpMode::Driver,
            _ => XdpMode::Skb,
        };
        self.unpin(hook_name(other), link.index)?;
        let xdp = self.programs.xdp()?;
        if !replace_xdp(xdp, pin.as_ref()) {
            let id = xdp
                .attach_to_if_index(link.index, mode)
                .map_err(|error| xdp_refused(link, occupant, error))?;
            keep(xdp.take_link(id)?, pin)?;
        }
        self.on_tc(link, SLOW, Side::In)?;
        let hook = match mode {
            XdpMode::Skb => Hook::XdpGeneric,
            _ => Hook::Xdp,
        };
        Ok((hook, why.to_owned()))
    }

    fn slow_only(&mut self, link: &Link, why: &str) -> anyhow::Result<(Hook, String)> {
        self.on_tc(link, TC, Side::In)?;
        self.unpin(hook_name(XdpMode::Driver), link.index)?;
        self.unpin(hook_name(XdpMode::Skb), link.index)?;
        Ok((Hook::Tc, why.to_owned()))
    }

    fn unpin(&self, hook: &str, index: u32) -> anyhow::Result<()> {
        if let Some(pins) = &self.pins {
            let path = pins.link(hook, index);
            if path.exists() {
                unpin_link(&path)?;
            }
        }
        Ok(())
    }

    fn off_egress(&self, link: &Link) -> anyhow::Result<()> {
        self.unpin(Side::Out.word(), link.index)?;
        if let Some(pins) = &self.pins
            && pins.link(Side::Out.legacy(), link.index).exists()
        {
            detach_legacy(link.index, Side::Out);
            self.unpin(Side::Out.legacy(), link.index)?;
        }
        Ok(())
    }

    /// Puts the program `name` on TC: as a link where the kernel has them, else as a filter.
    fn on_tc(&mut self, link: &Link, name: &str, side: Side) -> anyhow::Result<()> {
        let path = |word| self.pins.as_ref().map(|pins| pins.link(word, link.index));
        let (pin, legacy) = (path(side.word()), path(side.legacy()));
        let program = self.programs.tc(name)?;
        if replace_tc(program, pin.as_ref()) {
            return Ok(());
        }
        let order = TcAttachOptions::TcxOrder(match side {
            Side::In => LinkOrder::first(),
            // What leaves is looked at last, as it will be on the wire.
            Side::Out => LinkOrder::last(),
        });
        match program.attach_with_options(&link.name, side.kind(), order) {
            Ok(id) => keep(program.take_link(id)?, pin),
            // Before 6.6 the kernel knows no such attach type.
            Err(_) => on_filter(program, link, side, legacy)
                .with_context(|| format!("cannot attach to TC {} of {}", side.name(), link.name)),
        }
    }
}

/// Which side of a device a TC program is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    In,
    Out,
}

impl Side {
    const fn kind(self) -> TcAttachType {
        match self {
            Self::In => TcAttachType::Ingress,
            Self::Out => TcAttachType::Egress,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::In => "ingress",
            Self::Out => "egress",
        }
    }

    /// Hook word of a link.
    const fn word(self) -> &'static str {
        match self {
            Self::In => "tc",
            Self::Out => "egress",
        }
    }

    /// Hook word of a filter that is not a link; its pin is the program, as a mark that the filter is ours.
    const fn legacy(self) -> &'static str {
        match self {
            Self::In => "filter",
            Self::Out => "egressfilter",
        }
    }

    /// The side of a filter with this hook word.
    pub(super) fn of_legacy(word: &str) -> Option<Self> {
        [Self::In, Self::Out]
            .into_iter()
            .find(|side| side.legacy() == word)
    }
}

fn hook_name(mode: XdpMode) -> &'static str {
    match mode {
        XdpMode::Skb => "xdp-generic",
        _ => "xdp",
    }
}

/// Replaces the program behind a pinned link. False if there is none, or its device is gone.
fn replace_xdp(xdp: &mut Xdp, pin: Option<&PathBuf>) -> bool {
    let Some(link) = pinned(pin) else {
        return false;
    };
    let Ok(link) = XdpLink::try_from(link) else {
        return settled(false, pin);
    };
    let replaced = xdp.attach_to_link(link).and_then(|id| xdp.take_link(id));
    settled(replaced.is_ok(), pin)
}

/// As [`replace_xdp`].
fn replace_tc(program: &mut SchedClassifier, pin: Option<&PathBuf>) -> bool {
    let Some(link) = pinned(pin) else {
        return false;
    };
    let Ok(link) = SchedClassifierLink::try_from(link) else {
        return settled(false, pin);
    };
    let replaced = program
        .attach_to_link(link)
        .and_then(|id| program.take_link(id));
    settled(replaced.is_ok(), pin)
}

fn pinned(pin: Option<&PathBuf>) -> Option<FdLink> {
    PinnedLink::from_pin(pin?).ok().map(FdLink::from)
}

/// A link that could not be replaced belongs to a device that is gone: its pin goes, too.
fn settled(replaced: bool, pin: Option<&PathBuf>) -> bool {
    if let (false, Some(pin)) = (replaced, pin) {
        let _absent = fs::remove_file(pin);
    }
    replaced
}

/// Pins a fresh link; without pins it is kept for as long as the process lives.
fn keep<L>(link: L, pin: Option<PathBuf>) -> anyhow::Result<()>
where
    L: TryInto<FdLink, Error = LinkError>,
{
    let link: FdLink = link.try_into()?;
    match pin {
        Some(path) => {
            link.pin(&path)
                .with_context(|| format!("cannot pin {}", path.display()))?;
        }
        None => std::mem::forget(link),
    }
    Ok(())
}

/// The way before Linux 6.6: a filter on the clsact qdisc.
fn on_filter(
    program: &mut SchedClassifier,
    link: &Link,
    side: Side,
    mark: Option<PathBuf>,
) -> anyhow::Result<()> {
    // It exists already where somebody else uses it.
    let _exists = tc::qdisc_add_clsact(&link.name);
    let options = || NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        ..NlOptions::default()
    };
    let ours = mark.as_ref().is_some_and(|mark| mark.exists());
    let id: SchedClassifierLinkId = if ours {
        let old = SchedClassifierLink::attached(&link.name, side.kind(), PRIORITY, HANDLE, None)?;
        program.attach_to_link(old)?
    } else {
        let options = TcAttachOptions::Netlink(options());
        program.attach_with_options(&link.name, side.kind(), options)?
    };
    // Dropping it would take the filter off.
    std::mem::forget(program.take_link(id)?);
    if let Some(mark) = mark {
        if ours {
            fs::remove_file(&mark)?;
        }
        program.pin(mark)?;
    }
    Ok(())
}

/// Takes our filter off the device with `index`.
pub(super) fn detach_legacy(index: u32, side: Side) {
    let Ok(name) = nix::net::if_::if_indextoname(index) else {
        return; // The device is gone, and the filter with it.
    };
    let name = name.to_string_lossy();
    if let Ok(link) = SchedClassifierLink::attached(&name, side.kind(), PRIORITY, HANDLE, None) {
        drop(link);
    }
}

fn xdp_refused(link: &Link, occupant: Option<&Occupant>, error: ProgramError) -> anyhow::Error {
    let errno = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    let name = &link.name;
    match errno {
        // Of another mode: EEXIST (dev_xdp_attach in net/core/dev.c).
        Some(libc::EBUSY | libc::EEXIST) => {
            let (which, off) = match occupant {
                Some(one) => (format!(": {one}"), one.off(name)),
                None => (String::new(), format!("ip link set dev {name} xdp off")),
            };
            anyhow!(
                "another XDP program is on {name}{which}; take it off with `{off}`, have it replaced with `forwarder run --replace`, or set `mode = \"tc\"`"
            )
        }
        Some(libc::EOPNOTSUPP) => {
            anyhow!("the driver of {name} has no XDP: set `mode = \"auto\"` or `\"xdp-generic\"`")
        }
        _ => anyhow!(error).context(format!("XDP cannot be attached to {name}")),
    }
}
