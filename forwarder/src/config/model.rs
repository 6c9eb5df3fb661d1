//! The validated configuration: whatever is in here can be used without another check.

use std::fmt;
use std::net::IpAddr;

use super::errors::ConfigErrors;
use super::model_rules::{Masquerade, Output, Rule};
use super::model_settings::{
    Control, FlowLog, History, Limits, Log, Metrics, OriginalDestination, Timeouts,
};
use super::span::{Origin, Span};

/// One configuration, without contradictions.
#[derive(Clone, Debug)]
pub struct Config {
    /// At least one, names unique, in the file's order.
    pub interfaces: Vec<Interface>,
    /// The `[[forward]]` rules, no two with overlapping listeners, in the file's order. There is at least one rule
    /// of any of the three kinds, and names are unique over all of them.
    pub rules: Vec<Rule>,
    /// The `[[masquerade]]` rules, no two with the same prefix of clients on one interface, in the file's order.
    pub masquerades: Vec<Masquerade>,
    /// The `[[output]]` rules, no two with overlapping destinations, in the file's order.
    pub outputs: Vec<Output>,
    /// Sizes of the tables.
    pub limits: Limits,
    /// How long flows live without a packet.
    pub timeouts: Timeouts,
    /// How the daemon is asked.
    pub control: Control,
    /// Where metrics are to be had; `None`: nowhere.
    pub metrics: Option<Metrics>,
    /// Who may ask where a connection was going; `None`: nobody.
    pub original_destination: Option<OriginalDestination>,
    /// What the daemon writes.
    pub log: Log,
    /// Where flows are written down; `None`: nowhere.
    pub flow_log: Option<FlowLog>,
    /// Where flows that are gone are kept; `None`: nowhere.
    pub history: Option<History>,
    /// What this was made from, for [`Config::error_at`].
    pub origin: Origin,
}

impl Config {
    /// How many rules there are of all three kinds.
    pub fn rule_count(&self) -> usize {
        self.rules.len() + self.masquerades.len() + self.outputs.len()
    }

    /// A problem that shows only at run time, reported like those found in the file.
    ///
    /// `message` says what is wrong and what was expected in one line, `help` what to do about it.
    pub fn error_at(
        &self,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) -> ConfigErrors {
        ConfigErrors::from_runtime(&self.origin, span, message.into(), help)
    }
}

/// One device on which packets are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, fit for the kernel: 1 to 15 bytes without blanks or slashes. It need not exist.
    pub name: String,
    /// Where on the device the program goes.
    pub mode: Mode,
    /// Whether to wait for the device instead of refusing to start without it.
    pub optional: bool,
    /// Where the name stands.
    pub span: Span,
}

/// Where on a device the program goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whatever serves the device best.
    #[default]
    Auto,
    /// The driver's XDP hook.
    Xdp,
    /// The kernel's own XDP hook, which every device has.
    XdpGeneric,
    /// TC ingress.
    Tc,
    /// Flows that begin here are watched and not translated.
    Shadow,
}

impl Mode {
    /// All of them, as written in a file.
    pub(super) const WORDS: [(&'static str, Self); 5] = [
        ("auto", Self::Auto),
        ("xdp", Self::Xdp),
        ("xdp-generic", Self::XdpGeneric),
        ("tc", Self::Tc),
        ("shadow", Self::Shadow),
    ];
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS
            .iter()
            .find(|(_, mode)| mode == self)
            .map_or("", |(word, _)| word);
        out.write_str(word)
    }
}

/// What a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// The destination address; `None` for `*`.
    pub address: Option<IpAddr>,
    /// The destination ports.
    pub ports: PortRange,
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(out, "*:{}", self.ports),
            Some(IpAddr::V4(address)) => write!(out, "{address}:{}", self.ports),
            Some(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.ports),
        }
    }
}

/// Ports from `first` to `last`, both included; `1 <= first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest port, host byte order.
    pub first: u16,
    /// The highest port, host byte order.
    pub last: u16,
}

impl PortRange {
    /// Every port there is.
    pub const ALL: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// `None` for port 0 and for a reversed range.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (1 <= first && first <= last).then_some(Self { first, last })
    }

    /// How many ports, 1 to 65535.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a range of no ports cannot be made"
    )]
    pub fn len(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// Whether `port` is one of them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(out, "{}", self.first),
            false => write!(out, "{}-{}", self.first, self.last),
        }
    }
}

/// A protocol that rules take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the usual two")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];
    pub(super) const WORDS: [(&'static str, Self); 2] = [("tcp", Self::Tcp), ("udp", Self::Udp)];

    /// As written in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Ports of one protocol, written `tcp/25` or `udp/1024-2000`, or `tcp` for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProtocolPorts {
    /// Whose ports.
    pub protocol: Protocol,
    /// Which of them.
    pub ports: PortRange,
}

impl fmt::Display for ProtocolPorts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports {
            PortRange::ALL => out.write_str(self.protocol.name()),
            ports => write!(out, "{}/{ports}", self.protocol.name()),
        }
    }
}

/// One server a rule sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Its address: unicast and not of this host's loopback.
    pub address: IpAddr,
    /// Its port, as a function of the port the client asked for.
    pub port: BackendPort,
}

impl Backend {
    /// The port a client that asked for `port` of `listen` is sent to.
    pub fn port_for(&self, listen: PortRange, port: u16) -> u16 {
        match self.port {
            BackendPort::Same => port,
            BackendPort::Single(single) => single,
            BackendPort::First(first) => first.saturating_add(port.saturating_sub(listen.first)),
        }
    }

    /// `ADDR`, `ADDR:PORT` or `ADDR:PORT-PORT`, as a file has it for a rule with these `listen` ports.
    pub fn display(&self, listen: PortRange) -> String {
        let host = match self.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        match self.port {
            BackendPort::Same => self.address.to_string(),
            BackendPort::Single(port) => format!("{host}:{port}"),
            BackendPort::First(first) => {
                let last = self.port_for(listen, listen.last);
                format!("{host}:{}", PortRange { first, last })
            }
        }
    }
}

/// Which port of the backend a packet goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendPort {
    /// The one the client asked for.
    Same,
    /// The listener's first port becomes this one, its nth port the nth after this one; never beyond 65535.
    First(u16),
    /// This one, whichever port the client asked for.
    Single(u16),
}

/// Where the backend sees the packets come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// From the client; the backend's way back must lead through this host.
    #[default]
    Preserve,
    /// From the address of the device the packet leaves by.
    Masquerade,
    /// From one of these addresses.
    Pool {
        /// The lowest address; of the same family as the last, and not above it.
        first: IpAddr,
        /// The highest address, included.
        last: IpAddr,
    },
}

impl Source {
    /// An address of the pool, for its family.
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Preserve | Self::Masquerade => None,
            Self::Pool { first, .. } => Some(first),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preserve => out.write_str("preserve"),
            Self::Masquerade => out.write_str("masquerade"),
            Self::Pool { first, last } if first == last => write!(out, "{first}"),
            Self::Pool { first, last } => write!(out, "{first}-{last}"),
        }
    }
}
