//! One thing that is not as it should be.

use std::fmt;

use serde::Serialize;

macro_rules! checks {
    ($($(#[$meta:meta])* $name:ident = $word:literal,)+) => {
        /// What is looked for, by the names that the documentation has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Check {
            $($(#[$meta])* $name,)+
        }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As in the documentation and in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

checks! {
    /// Older than anything this was made for.
    KernelTooOld = "kernel-too-old",
    /// Not built with what the programs need.
    KernelLacks = "kernel-lacks",
    /// Done without, in another way.
    KernelFeatures = "kernel-features",
    /// Programs are interpreted.
    JitOff = "jit-off",
    /// The kernel is locked down.
    Lockdown = "lockdown",
    /// Something the daemon may not do.
    Capabilities = "capabilities",
    /// No BPF file system.
    Bpffs = "bpffs",
    /// A setting that the daemon must change and cannot.
    ReadOnlySettings = "read-only-settings",
    /// No place for the control socket.
    ControlSocket = "control-socket",
    /// The tables need more than there is.
    Memory = "memory",
    /// The same, by a limit of the process.
    LockedMemory = "locked-memory",
    /// A configured device is not there.
    InterfaceMissing = "interface-missing",
    /// It carries something else than Ethernet frames.
    InterfaceKind = "interface-kind",
    /// It is down, or its cable is.
    InterfaceDown = "interface-down",
    /// Another device has its addresses and routes.
    InterfaceEnslaved = "interface-enslaved",
    /// IPv6 is off and a rule needs it.
    Ipv6Disabled = "ipv6-disabled",
    /// No native XDP.
    DriverWithoutXdp = "driver-without-xdp",
    /// Frames that the driver does not take with XDP.
    MtuTooLarge = "mtu-too-large",
    /// How receive queues and CPUs relate.
    Channels = "channels",
    /// No queues left for what XDP sends.
    TransmitQueues = "transmit-queues",
    /// Received packets are merged by the device.
    Lro = "lro",
    /// The device takes VLAN tags off before XDP sees them.
    VlanOffload = "vlan-offload",
    /// Checksums are left to a device that never fills them in.
    ChecksumOffload = "checksum-offload",
    /// Generic XDP behind GRO.
    GenericGro = "generic-gro",
    /// The other end of a veth pair does not take what XDP sends.
    PeerWithoutNapi = "peer-without-napi",
    /// Another XDP program on the device.
    OtherXdp = "other-xdp",
    /// Another TC program in front.
    OtherTc = "other-tc",
    /// An address in the configuration that this host does not have.
    ForeignAddress = "foreign-address",
    /// Masquerade by a device without an address.
    NoOwnAddress = "no-own-address",
    /// No way to a backend.
    NoRoute = "no-route",
    /// A backend that is this host.
    RouteToSelf = "route-to-self",
    /// Replies come in where nobody looks.
    EgressNotConfigured = "egress-not-configured",
    /// The next hop does not answer.
    Neighbour = "neighbour",
    /// The backend refuses.
    BackendClosed = "backend-closed",
    /// The backend says nothing.
    BackendSilent = "backend-silent",
    /// Strict reverse-path filtering of what is delivered here.
    ReversePath = "reverse-path",
    /// Listeners on ports that the host gives away.
    EphemeralPorts = "ephemeral-ports",
    /// A service of this host behind a listener.
    PortTaken = "port-taken",
    /// No service behind `local:`.
    LocalPortClosed = "local-port-closed",
    /// A forwarder runs here.
    ForwarderRunning = "forwarder-running",
    /// An earlier one has left its programs.
    ForwarderLeft = "forwarder-left",
    /// Netfilter drops what is delivered here.
    FirewallDrops = "firewall-drops",
    /// Netfilter rewrites what an `[[output]]` is for.
    FirewallRewrites = "firewall-rewrites",
    /// Netfilter translates what a listener takes.
    FirewallDuplicates = "firewall-duplicates",
    /// Connections that would break.
    TrackedConnections = "tracked-connections",
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Something works worse than it could, or only sometimes.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// Version, features, settings of all.
    Kernel,
    /// What this process and the daemon may do.
    Privileges,
    /// Memory for the tables.
    Memory,
    /// One configured device.
    Interface(String),
    /// Ports, sockets and services of this host.
    Ports,
    /// Netfilter.
    Firewall,
    /// The way to backends, and whether they answer.
    Backends,
}

impl fmt::Display for Group {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => out.write_str("kernel"),
            Self::Privileges => out.write_str("privileges"),
            Self::Memory => out.write_str("memory"),
            Self::Interface(name) => write!(out, "interface {name}"),
            Self::Ports => out.write_str("ports"),
            Self::Firewall => out.write_str("firewall"),
            Self::Backends => out.write_str("backends"),
        }
    }
}

impl Serialize for Group {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How it is mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mend {
    /// A command for a shell on this host.
    Run(String),
    /// What to do where no command of this host does it, in a few words.
    Do(String),
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// What is the case, in one sentence.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What mends it; where there are several, the first is the usual one.
    pub mend: Vec<Mend>,
}

impl Finding {
    /// One that keeps something from working.
    pub(super) fn error(check: Check, what: impl Into<String>) -> Self {
        Self::new(Severity::Error, check, what.into())
    }

    /// One that makes something work worse.
    pub(super) fn warning(check: Check, what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, check, what.into())
    }

    /// One that is only said.
    pub(super) fn note(check: Check, what: impl Into<String>) -> Self {
        Self::new(Severity::Note, check, what.into())
    }

    pub(super) fn new(severity: Severity, check: Check, what: String) -> Self {
        Self {
            check,
            severity,
            what,
            why: String::new(),
            mend: Vec::new(),
        }
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub(super) fn run(mut self, command: impl Into<String>) -> Self {
        self.mend.push(Mend::Run(command.into()));
        self
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.mend.push(Mend::Do(advice.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Check;

    const DOCUMENTATION: &str = include_str!("../../../docs/doctor.md");

    #[test]
    fn every_check_is_documented_and_nothing_else() {
        let rows = DOCUMENTATION.lines().filter(|line| line.starts_with("| `"));
        let documented: Vec<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        let checks: Vec<_> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(documented, checks);
    }
}
