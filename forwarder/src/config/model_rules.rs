//! The validated rules, of all three kinds.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::model::{Backend, BackendPort, Listen, PortRange, ProtocolPorts, Source};
use super::span::Span;

/// What becomes of a flow that the rules of a new configuration would not make as it is.
///
/// In order of sternness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnChange {
    /// It lives to its end.
    Keep,
    /// It lives to its end, but not longer than [`Timeouts::drain`](super::Timeouts::drain).
    Drain,
    /// It ends now, and both ends of a TCP connection are told.
    Kill,
}

impl OnChange {
    pub(super) const WORDS: [(&'static str, Self); 3] = [
        ("keep", Self::Keep),
        ("drain", Self::Drain),
        ("kill", Self::Kill),
    ];
}

/// One `[[forward]]`. Its listener and backends are of one family, and so is everything else in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique; `forward-N` for the Nth rule without one.
    pub name: String,
    /// Whether it takes TCP. At least one of the two protocols is set.
    pub tcp: bool,
    /// Whether it takes UDP.
    pub udp: bool,
    /// Only what arrives here, one of [`Config::interfaces`](super::Config::interfaces); `None`: whatever arrives
    /// on any of them.
    pub interface: Option<String>,
    /// What it matches.
    pub listen: Listen,
    /// Where it sends.
    pub target: Target,
    /// Where the backend sees the packets come from; always [`Source::Preserve`] with [`Target::Local`].
    pub source: Source,
    /// Client prefixes without host bits; empty: everybody. Of both families at most where the rule serves both.
    pub allow: Vec<IpNet>,
    /// Client prefixes without host bits.
    pub deny: Vec<IpNet>,
    /// What to lower the maximum segment size in handshakes to; never set without TCP.
    pub mss_clamp: Option<MssClamp>,
    /// Whether a TCP segment of no known flow is answered with a reset; never set without TCP.
    pub reset_unknown: bool,
    /// Whether it only watches: what it would translate is counted and left to the kernel.
    pub shadow: bool,
    /// What becomes of its flows when it changes; `None`: what is usual for the change.
    pub on_change: Option<OnChange>,
    /// Where the listener stands.
    pub span: Span,
}

impl Rule {
    /// The servers it sends to; none if that is this host.
    pub fn backends(&self) -> &[Backend] {
        match &self.target {
            Target::Backends(backends) => backends,
            Target::Local(_) => &[],
        }
    }

    /// Whether it takes IPv4 packets.
    pub fn serves_v4(&self) -> bool {
        self.families().v4
    }

    /// Whether it takes IPv6 packets. A rule that listens on `*` and sends to a local port may serve both.
    pub fn serves_v6(&self) -> bool {
        self.families().v6
    }

    fn families(&self) -> Families {
        let backend = self.backends().first().map(|backend| backend.address);
        match self.listen.address.or(backend).or(self.source.address()) {
            Some(address) => Families::of(address),
            None => Families::of_clients(self.allow.iter().map(IpNet::addr)),
        }
    }
}

/// The families of the packets that a rule takes, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub v4: bool,
    pub v6: bool,
}

impl Families {
    pub fn of(address: IpAddr) -> Self {
        Self {
            v4: address.is_ipv4(),
            v6: address.is_ipv6(),
        }
    }

    /// Those of the clients that are let in, where nothing but `allow` tells.
    pub fn of_clients(mut allow: impl Iterator<Item = IpAddr> + Clone) -> Self {
        let all = allow.clone().next().is_none();
        Self {
            v4: all || allow.clone().any(|address| address.is_ipv4()),
            v6: all || allow.any(|address| address.is_ipv6()),
        }
    }
}

/// Where a rule sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To these servers, at least one; all of one family.
    Backends(Vec<Backend>),
    /// To this port of this host, at the address the client asked for; never [`BackendPort::Same`] or what comes to
    /// the same.
    Local(BackendPort),
}

/// What the maximum segment size that TCP peers tell each other is lowered to. It is never raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MssClamp {
    /// What fits the way.
    Auto,
    /// This many bytes, from [`MssClamp::LEAST`] to [`MssClamp::MOST`].
    Bytes(u16),
}

impl MssClamp {
    /// The largest headers of IPv4 and TCP and the 8 bytes that are the least a fragment carries, less the two
    /// headers without options: `(60 + 60 + 8) - (20 + 20)`, the MTU of 68 of RFC 791 section 3.2 with the options
    /// of TCP. Linux calls it `TCP_MIN_MSS` and takes nothing below it for `TCP_MAXSEG`.
    pub const LEAST: u16 = 88;
    /// The largest IPv4 packet less the two headers without options (RFC 6691 section 2).
    pub const MOST: u16 = 65_495;
}

impl fmt::Display for MssClamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => out.write_str("auto"),
            Self::Bytes(bytes) => write!(out, "{bytes}"),
        }
    }
}

/// One `[[masquerade]]`: clients behind this host that reach servers outside as this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Unique; `masquerade-N` for the Nth rule without one.
    pub name: String,
    /// Prefixes of the clients without host bits, at least one. Of both families only with
    /// [`Source::Masquerade`].
    pub from: Vec<IpNet>,
    /// Where the clients are, one of [`Config::interfaces`](super::Config::interfaces); `None`: on any of them.
    pub interface: Option<String>,
    /// The servers' ports that clients may reach, no two of them overlapping; empty: all of TCP and UDP.
    pub ports: Vec<ProtocolPorts>,
    /// Where the servers see the packets come from; never [`Source::Preserve`].
    pub source: Source,
    /// Who may answer.
    pub filtering: Filtering,
    /// Whether it only watches, see [`Rule::shadow`].
    pub shadow: bool,
    /// What to lower the maximum segment size in handshakes to; never set without TCP.
    pub mss_clamp: Option<MssClamp>,
    /// As [`Rule::on_change`].
    pub on_change: Option<OnChange>,
    /// Where the first prefix stands.
    pub span: Span,
}

/// Who may send to a client by the translated address and port that the client has (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    /// Only the address and port the client has sent to.
    #[default]
    AddressAndPort,
    /// Whoever knows them.
    EndpointIndependent,
}

impl Filtering {
    pub(super) const WORDS: [(&'static str, Self); 2] = [
        ("address-and-port", Self::AddressAndPort),
        ("endpoint-independent", Self::EndpointIndependent),
    ];
}

impl fmt::Display for Filtering {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS
            .iter()
            .find(|(_, filtering)| filtering == self)
            .map_or("", |(word, _)| word);
        out.write_str(word)
    }
}

/// One `[[output]]`: connections that this host itself opens and that leave for elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Unique; `output-N` for the Nth rule without one.
    pub name: String,
    /// Whether it takes TCP. At least one of the two protocols is set.
    pub tcp: bool,
    /// Whether it takes UDP.
    pub udp: bool,
    /// The destination address.
    pub address: IpAddr,
    /// The destination ports.
    pub ports: PortRange,
    /// Where they go instead: an address of the same family, and another address or other ports.
    pub backend: Backend,
    /// As [`Rule::on_change`].
    pub on_change: Option<OnChange>,
    /// Where the destination stands.
    pub span: Span,
}
