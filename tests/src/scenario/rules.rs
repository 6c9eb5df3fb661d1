//! What a gateway is to do, independent of who does it.

use std::fmt::Write as _;
use std::path::Path;

/// How the forwarder attaches to its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native XDP.
    Xdp,
    /// XDP in the kernel's generic implementation.
    XdpGeneric,
    /// TC ingress.
    Tc,
    /// Whatever the daemon finds best.
    Auto,
}

impl Mode {
    /// The word in the configuration file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
            Self::Auto => "auto",
        }
    }
}

/// Transport protocol of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The word both configuration languages use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What becomes of the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The backend sees it.
    Preserve,
    /// The backend sees the address of the device the packet leaves by.
    Masquerade,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Preserve => "preserve",
            Self::Masquerade => "masquerade",
        }
    }
}

/// One forward.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Unique name.
    pub name: &'static str,
    /// Transport protocol.
    pub protocol: Protocol,
    /// `ADDR:PORT` or `ADDR:PORT-PORT`.
    pub listen: &'static str,
    /// `ADDR:PORT` or `ADDR:PORT-PORT`, the same number of ports.
    pub to: &'static str,
    /// What becomes of the client's address.
    pub source: Source,
    /// Client prefixes that may; everybody if empty.
    pub allow: &'static [&'static str],
    /// Client prefixes that may not.
    pub deny: &'static [&'static str],
}

impl Rule {
    /// A TCP forward that hides the client, as S0 needs.
    #[must_use]
    pub const fn masquerade(name: &'static str, listen: &'static str, to: &'static str) -> Self {
        Self {
            name,
            protocol: Protocol::Tcp,
            listen,
            to,
            source: Source::Masquerade,
            allow: &[],
            deny: &[],
        }
    }

    /// A TCP forward that shows the client, as S3 needs.
    #[must_use]
    pub const fn preserve(name: &'static str, listen: &'static str, to: &'static str) -> Self {
        Self {
            source: Source::Preserve,
            ..Self::masquerade(name, listen, to)
        }
    }

    /// The same for UDP.
    #[must_use]
    pub const fn udp(self) -> Self {
        Self {
            protocol: Protocol::Udp,
            ..self
        }
    }
}

/// A device that leads to the outside, and the router there. iptables needs to be told; the forwarder has to find
/// the way back by itself.
#[derive(Clone, Copy, Debug)]
pub struct Uplink {
    /// Device of the gateway.
    pub device: &'static str,
    /// Next hop behind it.
    pub router: &'static str,
}

/// Everything a gateway is told.
#[derive(Clone, Debug, Default)]
pub struct GatewayConfig {
    /// Devices the forwarder attaches to.
    pub interfaces: Vec<&'static str>,
    /// The forwards.
    pub rules: Vec<Rule>,
    /// Ways to the outside, where there are several.
    pub uplinks: Vec<Uplink>,
}

impl GatewayConfig {
    /// The forwarder's configuration file.
    #[must_use]
    pub fn to_toml(&self, mode: Mode, socket: &Path) -> String {
        let mut text = String::new();
        for interface in &self.interfaces {
            let mode = mode.as_str();
            let _ = writeln!(
                text,
                "[[interface]]\nname = \"{interface}\"\nmode = \"{mode}\"\n"
            );
        }
        for rule in &self.rules {
            text += &rule.to_toml();
        }
        let _ = writeln!(text, "[control]\nsocket = \"{}\"", socket.display());
        text
    }
}

impl Rule {
    fn to_toml(self) -> String {
        let mut text = format!(
            "[[forward]]\nname = \"{}\"\nprotocol = \"{}\"\nlisten = \"{}\"\nto = \"{}\"\nsource = \"{}\"\n",
            self.name,
            self.protocol.as_str(),
            self.listen,
            self.to,
            self.source.as_str(),
        );
        for (key, prefixes) in [("allow", self.allow), ("deny", self.deny)] {
            if !prefixes.is_empty() {
                // Debug formatting of a list of plain strings is a TOML array.
                let _ = writeln!(text, "{key} = {prefixes:?}");
            }
        }
        text + "\n"
    }
}
