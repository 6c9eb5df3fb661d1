//! Why a packet was not sent on. Every such packet ends in exactly one of these, and is counted there.

/// What happens to a packet that ends in a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes to the kernel's stack untouched.
    Pass,
    /// Goes to the TC program untouched; where that is what stopped it, it is dropped.
    SlowPath,
    /// Ends here.
    Drop,
}

impl Verdict {
    /// The word that listings show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::SlowPath => "slow-path",
            Self::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $verdict:ident, $sentence:literal;)+) => {
        /// Why a packet was not sent on.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* #[doc = $sentence] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that listings and metrics show.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What happens to the packet.
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)+ }
            }

            /// What it means and what to do, for humans.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }
        }
    };
}

reasons! {
    NotIp = "not-ip", Pass,
        "Neither IPv4 nor IPv6 (ARP and the like), or more than one VLAN tag; the kernel has it.";
    ForeignVlan = "foreign-vlan", Pass,
        "Of a VLAN whose device is not a configured interface; the kernel has it.";
    NotTransport = "not-transport", Pass,
        "Neither TCP nor UDP nor an ICMP echo; the kernel has it.";
    NotUnicast = "not-unicast", Pass,
        "Sent to or from a multicast, broadcast, link-local or loopback address, or none; the kernel has it.";
    ExtensionHeaders = "extension-headers", Pass,
        "More IPv6 extension headers than are walked over, or a routing header with hops to go; the kernel has it.";
    OtherHost = "other-host", Pass,
        "Sent to another host's MAC address (the interface is promiscuous or bridged); the kernel has it.";
    Malformed = "malformed", Pass,
        "A header is cut short or contradicts itself; the kernel has it and will count it.";
    NoRule = "no-rule", Pass,
        "No flow and no rule matches; the kernel has it.";
    NoNeighbour = "no-neighbour", SlowPath,
        "The next hop's MAC address is not known yet; the slow path asks for it and sends the packet.";
    EgressWithoutXdp = "egress-without-xdp", SlowPath,
        "The egress device does not take frames from XDP; the slow path sends the packet.";
    FragmentEarly = "fragment-early", SlowPath,
        "A fragment whose datagram's first one has not come yet, or that first one; the slow path puts them in order.";
    FragmentHeld = "fragment-held", Drop,
        "A fragment put aside until its datagram's first one comes, and sent then; lost only if that never comes.";
    FragmentOverlap = "fragment-overlap", Drop,
        "A fragment that repeats or contradicts one before it, or is of a datagram that had such a one.";
    FragmentOversized = "fragment-oversized", Drop,
        "A fragment that reaches beyond the longest possible datagram, as in the \"ping of death\".";
    FragmentTiny = "fragment-tiny", Drop,
        "A first fragment too short for the ports, or one that is not a multiple of eight bytes; no sane sender makes those.";
    FragmentLimit = "fragment-limit", Drop,
        "A fragment that is too large or one too many to be put aside until its datagram's first one comes.";
    ClientRefused = "client-refused", Drop,
        "The client's address is not allowed by the rule's allow and deny lists.";
    NotPermitted = "not-permitted", Drop,
        "A client of a `[[masquerade]]` asked for what its `ports` do not name.";
    TcpNoFlow = "tcp-no-flow", Drop,
        "A TCP packet to a listener that belongs to no known flow and does not open one: mid-stream, or its flow has expired.";
    IcmpNoFlow = "icmp-no-flow", Drop,
        "An ICMP error about a packet of a rule, but of no known flow.";
    FlowEnded = "flow-ended", Drop,
        "The flow was ended from this side, for instance because the address it masqueraded as is gone; the sender is told.";
    FlowTableFull = "flow-table-full", Drop,
        "The flow table is full; raise `limits.flows`.";
    HalfOpenFull = "half-open-full", Drop,
        "Too many half-open TCP connections, most likely a SYN flood; raise `limits.half-open` if it is not.";
    PortsExhausted = "ports-exhausted", Drop,
        "No free source port towards the backend; give the rule a pool of source addresses or widen `limits.source-ports`.";
    NoSourceAddress = "no-source-address", Drop,
        "The egress interface has no address to masquerade with; give it one, or name the source address in the rule.";
    Unroutable = "unroutable", Drop,
        "The routing table refuses the backend (unreachable, blackhole or prohibit); check `ip route get BACKEND`.";
    NotForwarded = "not-forwarded", Drop,
        "The routing table has no way to the backend, or says it is this host; check `ip route get BACKEND`.";
    ForwardingDisabled = "forwarding-disabled", Drop,
        "The kernel refuses route look-ups because forwarding was switched off on `lo` while the forwarder ran; restart it.";
    TtlExpired = "ttl-expired", Drop,
        "The packet's time to live ran out here: a routing loop, or traceroute.";
    TooBig = "too-big", Drop,
        "The packet is larger than the way to its destination takes; lower the sender's MTU.";
    UnknownDevice = "unknown-device", Drop,
        "The route leaves by a device that the forwarder does not know yet; it learns of it within moments.";
    Raced = "raced", Drop,
        "Another CPU made or removed the same flow at the same moment; the sender will repeat the packet.";
    StageMissing = "stage-missing", Drop,
        "A part of the programs was not there at this moment: the daemon is just being replaced, or was stopped while it loaded.";
    SlowPathFailed = "slow-path-failed", Drop,
        "The kernel could not make the packet writable or hand it to the slow path; it is out of memory.";
    Shadow = "shadow", Pass,
        "A packet of a rule, or from an interface, whose mode is `shadow`; it was counted, and the kernel has it.";
    QueryAnswered = "query-answered", Drop,
        "A query for an original destination, which was made its answer and sent back.";
    QueryUnknown = "query-unknown", Drop,
        "A query for an original destination about a connection that is no flow of ours; answered with \"not found\".";
    QueryStranger = "query-stranger", Drop,
        "A query for an original destination from an address that `[original-destination]` does not name in `proxies`.";
    QueryMalformed = "query-malformed", Drop,
        "A datagram of a proxy's to the port for queries that is no query: length, magic, version or flags.";
    QuerySecret = "query-secret", Drop,
        "A query for an original destination with another secret than `[original-destination]` has.";
    QueryForeign = "query-foreign", Drop,
        "A query of a proxy's about a connection that is not its own: the query's destination is not its sender.";
}

impl Reason {
    /// Whether the forwarder itself, and not the packet, is at fault: something is full, missing or switched
    /// off, and an operator should know at once.
    pub const fn is_shortage(self) -> bool {
        matches!(
            self,
            Self::FlowTableFull
                | Self::HalfOpenFull
                | Self::PortsExhausted
                | Self::NoSourceAddress
                | Self::ForwardingDisabled
                | Self::SlowPathFailed
        )
    }

    /// How many there are: the length of the counter table.
    pub const COUNT: u32 = Self::ALL.len() as u32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_indexed_by_position_and_names_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(
                Reason::ALL
                    .iter()
                    .filter(|other| other.name() == reason.name())
                    .count()
                    == 1
            );
            assert!(reason.sentence().ends_with('.'));
        }
    }
}
