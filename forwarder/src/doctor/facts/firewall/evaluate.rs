//! What becomes of the first packet of a connection.
//!
//! Conditions are true, false, or not known. What is not known never makes an alarm.

use std::net::IpAddr;

use super::{About, Action, Base, Chain, Hook, Rule, Ruleset, Test};
use crate::config::Protocol;

/// The first packet of a connection, as netfilter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Packet<'a> {
    /// Where it came in; none for this host's own.
    pub device: Option<&'a str>,
    pub protocol: Protocol,
    /// None: any address of this family.
    pub destination: Option<IpAddr>,
    pub v6: bool,
    pub port: u16,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Fate<'a> {
    /// It goes on, as far as can be told.
    Passes,
    /// It ends in this chain, by this rule or by the chain's policy.
    Dropped(&'a Chain, Option<&'a Rule>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unknown,
}

/// How a walk through a chain ends.
enum End<'a> {
    Accepted,
    Dropped(Option<&'a Rule>),
    /// No rule has decided it.
    Returned,
    /// It cannot be told.
    Unclear,
}

/// Chains jump at most this deep (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

impl Ruleset {
    /// What becomes of `packet` at `hook`.
    pub fn fate(&self, hook: Hook, packet: Packet<'_>) -> Fate<'_> {
        for (chain, base) in self.at(hook, packet.v6) {
            match self.walk(chain, packet, 0) {
                End::Dropped(rule) => return Fate::Dropped(chain, rule),
                End::Returned if base.drops => return Fate::Dropped(chain, None),
                _ => {}
            }
        }
        Fate::Passes
    }

    /// Rules that give `packet` another destination at `hook`, or may do so.
    pub fn translations(&self, hook: Hook, packet: Packet<'_>) -> Vec<&Rule> {
        let mut found = Vec::new();
        for (chain, _) in self.at(hook, packet.v6) {
            self.collect(chain, packet, 0, &mut found);
        }
        found
    }

    fn at(&self, hook: Hook, v6: bool) -> Vec<(&Chain, Base)> {
        let mut chains: Vec<_> = self
            .chains
            .iter()
            .filter(|chain| if v6 { chain.v6 } else { chain.v4 })
            .filter_map(|chain| Some((chain, chain.base?)))
            .filter(|(_, base)| base.hook == hook)
            .collect();
        chains.sort_by_key(|(_, base)| base.priority);
        chains
    }

    /// The chain `name` in the table of `beside`.
    fn chain(&self, beside: &Chain, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| {
            chain.tool == beside.tool && chain.table == beside.table && chain.name == name
        })
    }

    fn walk<'a>(&'a self, chain: &'a Chain, packet: Packet<'_>, depth: usize) -> End<'a> {
        let mut doubt = false;
        for rule in &chain.rules {
            let truth = rule.matches(packet);
            if truth == Truth::No {
                continue;
            }
            let end = match &rule.action {
                Action::Continue | Action::Translate => continue,
                Action::Accept => End::Accepted,
                Action::Drop => End::Dropped(Some(rule)),
                Action::Return => End::Returned,
                Action::Unknown => End::Unclear,
                Action::Jump(name) | Action::Goto(name) => {
                    let goto = matches!(rule.action, Action::Goto(_));
                    let next = self.chain(chain, name).filter(|_| depth < DEEPEST);
                    match next.map_or(End::Unclear, |next| self.walk(next, packet, depth + 1)) {
                        End::Returned if !goto => continue,
                        end => end,
                    }
                }
            };
            if truth == Truth::Yes && !doubt && !matches!(end, End::Unclear) {
                return end;
            }
            doubt = true;
            if truth == Truth::Yes && !matches!(end, End::Unclear) {
                break;
            }
        }
        if doubt { End::Unclear } else { End::Returned }
    }

    fn collect<'a>(
        &'a self,
        chain: &'a Chain,
        packet: Packet<'_>,
        depth: usize,
        found: &mut Vec<&'a Rule>,
    ) {
        for rule in &chain.rules {
            let truth = rule.matches(packet);
            match &rule.action {
                _ if truth == Truth::No => {}
                Action::Translate => found.push(rule),
                Action::Jump(name) | Action::Goto(name) if depth < DEEPEST => {
                    if let Some(next) = self.chain(chain, name) {
                        self.collect(next, packet, depth + 1, found);
                    }
                }
                Action::Accept | Action::Drop | Action::Return if truth == Truth::Yes => return,
                _ => {}
            }
        }
    }
}

impl Rule {
    fn matches(&self, packet: Packet<'_>) -> Truth {
        let mut all = Truth::Yes;
        for test in &self.tests {
            match test.holds(packet) {
                Truth::No => return Truth::No,
                Truth::Unknown => all = Truth::Unknown,
                Truth::Yes => {}
            }
        }
        all
    }
}

impl Test {
    fn holds(&self, packet: Packet<'_>) -> Truth {
        let holds = match &self.about {
            About::Device(names) => names
                .iter()
                .any(|name| is_device(name, packet.device.unwrap_or_default())),
            About::Protocol(names) => names.iter().any(|name| name == packet.protocol.name()),
            About::Destination(prefixes) => match packet.destination {
                Some(address) => prefixes.iter().any(|prefix| prefix.contains(&address)),
                None if prefixes
                    .iter()
                    .any(|prefix| prefix.addr().is_ipv6() == packet.v6) =>
                {
                    return Truth::Unknown;
                }
                None => false,
            },
            About::Ports(ranges) => ranges
                .iter()
                .any(|(first, last)| (first..=last).contains(&&packet.port)),
            About::State(states) => states.iter().any(|state| state.eq_ignore_ascii_case("new")),
            About::Unknown => return Truth::Unknown,
        };
        match holds == self.negated {
            true => Truth::No,
            false => Truth::Yes,
        }
    }
}

fn is_device(pattern: &str, device: &str) -> bool {
    match pattern.strip_suffix(['+', '*']) {
        Some(start) => device.starts_with(start),
        None => pattern == device,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{iptables, nft};
    use super::*;
    use rstest::rstest;

    const NFT: &str = include_str!("ruleset.json");

    const SAVED: &str = "\
*filter
:INPUT DROP [0:0]
:services - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 2222 -j ACCEPT
-A INPUT ! -i eth1 -j services
-A services -p tcp -m multiport --dports 986,2525:2526 -j ACCEPT
-A services -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable
-A services -j RETURN
COMMIT
";

    fn packet(protocol: Protocol, port: u16) -> Packet<'static> {
        Packet {
            device: Some("eth0"),
            protocol,
            destination: Some("203.0.113.5".parse().unwrap()),
            v6: false,
            port,
        }
    }

    fn passes(chains: Vec<Chain>, packet: Packet<'_>) -> bool {
        Ruleset { chains }.fate(Hook::Input, packet) == Fate::Passes
    }

    #[rstest]
    #[case::in_a_list(packet(Protocol::Tcp, 986), true)]
    #[case::in_a_range(packet(Protocol::Tcp, 2526), true)]
    #[case::in_none(packet(Protocol::Tcp, 25), false)]
    #[case::other_protocol(packet(Protocol::Udp, 986), false)]
    #[case::rejected(packet(Protocol::Udp, 53), false)]
    #[case::for_some_clients(packet(Protocol::Tcp, 2222), true)]
    #[case::other_device(Packet { device: Some("eth1"), ..packet(Protocol::Tcp, 986) }, false)]
    #[case::other_family(Packet { v6: true, ..packet(Protocol::Tcp, 25) }, true)]
    fn of_iptables(#[case] packet: Packet<'_>, #[case] expected: bool) {
        let chains = iptables::parse(SAVED, "iptables-legacy", false);
        assert_eq!(passes(chains, packet), expected);
    }

    #[rstest]
    #[case::in_a_set(packet(Protocol::Tcp, 22), true)]
    #[case::in_a_range(packet(Protocol::Tcp, 85), true)]
    #[case::in_a_named_set(packet(Protocol::Tcp, 1500), true)]
    #[case::in_none(packet(Protocol::Tcp, 986), false)]
    #[case::udp(packet(Protocol::Udp, 53), true)]
    #[case::udp_in_none(packet(Protocol::Udp, 54), false)]
    #[case::other_address(Packet { destination: Some("10.1.2.3".parse().unwrap()), ..packet(Protocol::Tcp, 1500) }, false)]
    #[case::loopback(Packet { device: Some("lo"), ..packet(Protocol::Tcp, 9) }, true)]
    #[case::ipv6(Packet { destination: None, v6: true, ..packet(Protocol::Tcp, 986) }, false)]
    fn of_nft(#[case] packet: Packet<'_>, #[case] expected: bool) {
        assert_eq!(passes(nft::parse(NFT).unwrap(), packet), expected);
    }

    #[test]
    fn what_is_not_known_is_no_alarm() {
        let text = NFT.replace("\"vmap\"", "\"something\"");
        let mut chains = nft::parse(&text).unwrap();
        assert!(!passes(chains.clone(), packet(Protocol::Tcp, 9)));
        for chain in &mut chains {
            chain.rules.insert(
                0,
                Rule {
                    action: Action::Unknown,
                    ..Rule::default()
                },
            );
        }
        assert!(passes(chains, packet(Protocol::Tcp, 9)));
    }

    #[test]
    fn translations_are_found_by_way_of_jumps() {
        const NAT: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 110 -m comment --comment \"to the mail host\" -j DNAT --to-destination 10.0.0.1:110
COMMIT
";
        let ruleset = Ruleset {
            chains: iptables::parse(NAT, "iptables", false),
        };
        let found = ruleset.translations(Hook::Prerouting, packet(Protocol::Tcp, 110));
        assert_eq!(
            found[0].remove,
            "iptables -t nat -D DOCKER ! -i docker0 -p tcp -m tcp --dport 110 -m comment \
             --comment \"to the mail host\" -j DNAT --to-destination 10.0.0.1:110"
        );
        let none = ruleset.translations(Hook::Prerouting, packet(Protocol::Tcp, 111));
        assert!(none.is_empty());
    }
}
