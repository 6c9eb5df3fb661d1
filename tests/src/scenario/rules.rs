//! What a gateway is to do, independent of who does it.

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
    /// The backend sees this address.
    Address(&'static str),
    /// The backend sees one of `FIRST-LAST`, always the same for one client.
    Pool(&'static str),
}

impl Source {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Preserve => "preserve",
            Self::Masquerade => "masquerade",
            Self::Address(text) | Self::Pool(text) => text,
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
    /// `ADDR:PORT` or `ADDR:PORT-PORT`; an IPv6 address is in brackets, `*` is any.
    pub listen: &'static str,
    /// `ADDR:PORT` or `ADDR:PORT-PORT`, the same number of ports; or `local:PORT`.
    pub to: &'static str,
    /// What becomes of the client's address.
    pub source: Source,
    /// Client prefixes that may; everybody if empty.
    pub allow: &'static [&'static str],
    /// Client prefixes that may not.
    pub deny: &'static [&'static str],
    /// The backend's subnet, whose hosts use the listener too. iptables needs to be told that their replies must come
    /// back here; the forwarder has to see it by itself.
    pub hairpin: Option<&'static str>,
    /// More lines of the forwarder's rule, for what iptables has no word for.
    pub extra: &'static [&'static str],
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
            hairpin: None,
            extra: &[],
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

    /// The same under another name.
    #[must_use]
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The same with more lines of the forwarder's rule.
    #[must_use]
    pub const fn with(self, extra: &'static [&'static str]) -> Self {
        Self { extra, ..self }
    }

    /// The same with another source.
    #[must_use]
    pub const fn from(self, source: Source) -> Self {
        Self { source, ..self }
    }
}

/// What clients behind the gateway may reach outside, and as whom (S2).
#[derive(Clone, Copy, Debug)]
pub struct Masquerade {
    /// Unique name.
    pub name: &'static str,
    /// The clients' prefixes, of one family.
    pub from: &'static [&'static str],
    /// The device they are behind.
    pub interface: &'static str,
    /// `tcp/25`, `udp/53`; everything if empty.
    pub ports: &'static [&'static str],
    /// As whom they appear.
    pub source: Source,
    /// Whether anybody may send to a port that stands for a client's. The forwarder's only: netfilter asks for
    /// the full tuple.
    pub unfiltered: bool,
}

/// Where connections of the gateway itself go instead (S4).
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Unique name.
    pub name: &'static str,
    /// Transport protocol.
    pub protocol: Protocol,
    /// `ADDR:PORT` that programs connect to.
    pub to_address: &'static str,
    /// `ADDR:PORT` that they get.
    pub to: &'static str,
}

/// A device that leads to the outside, and the routers there. iptables needs to be told; the forwarder has to find
/// the way back by itself.
#[derive(Clone, Copy, Debug)]
pub struct Uplink {
    /// Device of the gateway.
    pub device: &'static str,
    /// Next hops behind it: of IPv4 and of IPv6.
    pub routers: [&'static str; 2],
}
