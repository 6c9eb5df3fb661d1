//! What to do about packets that were not sent on, where the reason's own sentence does not say it.

use forwarder_common::reason::Reason;

/// One sentence for an operator.
pub fn advice(reason: Reason) -> &'static str {
    use Reason as R;
    match reason {
        R::NotIp | R::NotUnicast | R::NotTransport => "Nothing; that is normal on any network.",
        R::NoRule => {
            "Nothing, if these are none of your rules' packets; otherwise compare `forwarder rules` with their address, port and interface."
        }
        R::OtherHost => {
            "Nothing on a bridge or a mirrored port; otherwise see whether a switch or a router has a wrong MAC address for this host."
        }
        R::ForeignVlan => {
            "If they are meant for a rule, add an `[[interface]]` with the name of the VLAN device."
        }
        R::ExtensionHeaders => "Nothing; hardly anybody sends these but for tests.",
        R::Malformed => {
            "Look at one with `tcpdump -e -vv`; few are noise, many are a broken device or an attack."
        }
        R::NoNeighbour => {
            "A few are normal; many mean that a next hop does not answer: see `ip neigh`."
        }
        R::EgressWithoutXdp => {
            "It works, but slowly; `forwarder status` shows which interface has no XDP."
        }
        R::FragmentEarly | R::FragmentHeld => {
            "Nothing; many mean that packets overtake each other on their way here."
        }
        R::FragmentOverlap | R::FragmentOversized | R::FragmentTiny => {
            "Nothing; if there are many, find the sender by the last packet and stop it upstream."
        }
        R::FragmentLimit => {
            "Have the sender use smaller packets, with path MTU discovery or a smaller MTU."
        }
        R::ClientRefused => {
            "Nothing, if that is whom the rule is to refuse; otherwise put the client's prefix into `allow`."
        }
        R::NotPermitted => {
            "Nothing, if clients are not to do that; otherwise add the port to the rule's `ports`."
        }
        R::TcpNoFlow => {
            "A few come after every restart of either end; if connections break when they are idle, raise `timeouts.tcp-established`."
        }
        R::IcmpNoFlow => "Nothing; such errors come late, or are forged.",
        R::FlowEnded => "Nothing; the client makes a new connection.",
        R::FlowTableFull => {
            "`forwarder flows --sort idle --limit 20` shows what fills it; sizes change with `forwarder detach` and a new start."
        }
        R::HalfOpenFull => {
            "`forwarder flows --state syn_sent --limit 20` shows from where; a shorter `timeouts.tcp-half-open` frees them sooner."
        }
        R::PortsExhausted => {
            "The log names the backend; a shorter `timeouts.tcp-transitory` frees ports sooner."
        }
        R::NoSourceAddress => {
            "See `ip addr show` of the interface by which the backend is reached."
        }
        R::Unroutable | R::NotForwarded => {
            "`ip route get ADDRESS` for the last packet's destination, or its rule's backend, says what is missing."
        }
        R::ForwardingDisabled => {
            "Find what sets `net.ipv4.conf.lo.forwarding` or `net.ipv6.conf.lo.forwarding` to 0, and take `lo` out of it."
        }
        R::TtlExpired => {
            "A few are traceroute; many are a loop: see whether the backend routes the packets back here."
        }
        R::TooBig => {
            "The sender is told; if it does not listen, let ICMP through on its way, or set `mss-clamp = \"auto\"` in the rule."
        }
        R::UnknownDevice => {
            "Nothing, if it stops by itself; otherwise restart the daemon and report it."
        }
        R::Raced => "Nothing.",
        R::StageMissing => "See with `forwarder status` whether the daemon runs; start it again.",
        R::SlowPathFailed => "See `free -m` and `dmesg`.",
        R::QueryAnswered => "Nothing; it works.",
        R::QueryUnknown => {
            "A few are connections that have just ended; many come from a proxy that other hosts reach past this one."
        }
        R::QueryStranger => {
            "Add the last packet's source to `proxies` if it is a proxy of yours; else let no one else reach that port."
        }
        R::QueryMalformed => "See what sends them; smtp-gated asks with `mode remote-udp`.",
        R::QuerySecret => {
            "Set `remote_udp_secret` of smtp-gated and `secret` here to the same number."
        }
        R::QueryForeign => {
            "The proxy asks by another address than the one that its connections come in by; give it one of them."
        }
        R::Shadow => {
            "See `forwarder rules` for what would have become of them; take `mode = \"shadow\"` out to have it so."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_sentence_of_advice() {
        for reason in Reason::ALL {
            let advice = advice(*reason);
            assert!(advice.ends_with('.') && !advice.contains('\n'), "{advice}");
            assert_ne!(advice, reason.sentence());
        }
    }
}
