//! The file of `iptables-restore`.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::config::{MssClamp, PortRange};

use super::Family;
use super::plan::{Act, Line, Plan, Port, When};

/// As many ports as `-m multiport` takes; a range counts twice.
const MULTIPORT: usize = 15;
/// More rules than this are not written for one rule of the configuration.
const MOST_PORTS: u32 = 1024;

/// All tables that the plan needs.
pub(super) fn tables(plan: &Plan) -> String {
    let writer = Writer {
        family: plan.family,
    };
    let mut text = String::new();
    let nat = [
        ("PREROUTING", "forwarder-in", &plan.arriving),
        ("OUTPUT", "forwarder-own", &plan.own),
        ("POSTROUTING", "forwarder-out", &plan.leaving),
    ];
    let mangle = [
        (
            "PREROUTING -m conntrack --ctstate NEW",
            "forwarder-clients",
            &plan.clients,
        ),
        ("FORWARD", "forwarder-mss", &plan.clamps),
    ];
    // What is forwarded is the business of the rule that forwards it.
    let filter = [(
        "FORWARD -m conntrack ! --ctstate ESTABLISHED,RELATED,DNAT",
        "forwarder-pass",
        &plan.passing,
    )];
    writer.table(&mut text, "mangle", &mangle);
    writer.table(&mut text, "nat", &nat);
    writer.table(&mut text, "filter", &filter);
    text
}

struct Writer {
    family: Family,
}

impl Writer {
    fn table(&self, text: &mut String, name: &str, chains: &[(&str, &str, &Vec<Line>)]) {
        let used: Vec<_> = chains
            .iter()
            .filter(|(_, _, lines)| !lines.is_empty())
            .collect();
        if used.is_empty() {
            return;
        }
        let _ = writeln!(text, "*{name}");
        for (_, chain, _) in &used {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for (from, chain, _) in &used {
            let _ = writeln!(text, "-A {from} -j {chain}");
        }
        for (_, chain, lines) in used {
            for line in *lines {
                for rule in self.rules(line) {
                    let _ = writeln!(text, "{}", rule.replacen("-A", &format!("-A {chain}"), 1));
                }
            }
        }
        text.push_str("COMMIT\n");
    }

    /// One rule, or several where one cannot say it.
    fn rules(&self, line: &Line) -> Vec<String> {
        let comment = format!(" -m comment --comment {}", quoted(&line.name));
        let mut rules = Vec::new();
        let lists = multiports(&line.when.ports);
        for ports in lists {
            let when = When {
                ports,
                ..line.when.clone()
            };
            if let Act::Redirect(Port::Shift(from, to)) = line.act {
                rules.extend(redirects(self, &when, (from, to), &comment));
                continue;
            }
            let share = |position: usize, count: usize| match count - position {
                1 => String::new(),
                left => format!(
                    " -m statistic --mode random --probability {:.11}",
                    1.0 / left as f64
                ),
            };
            let conditions = self.conditions(&when);
            match &line.act {
                Act::Send(addresses, port) if !is_range(addresses) => {
                    for (position, address) in addresses.iter().enumerate() {
                        let target = self.send(&[*address], *port);
                        let share = share(position, addresses.len());
                        rules.push(format!("-A{conditions}{share}{comment} -j {target}"));
                    }
                }
                act => rules.push(format!("-A{conditions}{comment} -j {}", self.target(act))),
            }
        }
        rules
    }

    fn conditions(&self, when: &When) -> String {
        let mut text = String::new();
        let mut add = |part: String| {
            text.push(' ');
            text.push_str(&part);
        };
        when.input.iter().for_each(|name| add(format!("-i {name}")));
        when.not_output
            .iter()
            .for_each(|name| add(format!("! -o {name}")));
        when.source
            .iter()
            .for_each(|prefix| add(format!("-s {prefix}")));
        when.destination
            .iter()
            .for_each(|prefix| add(format!("-d {prefix}")));
        when.protocol
            .iter()
            .for_each(|one| add(format!("-p {}", one.name())));
        if when.echo {
            add(match self.family {
                Family::V4 => "-p icmp --icmp-type echo-request".to_owned(),
                Family::V6 => "-p ipv6-icmp --icmpv6-type echo-request".to_owned(),
            });
        }
        match when.ports.as_slice() {
            [] => {}
            [one] => add(format!("--dport {}", colon(*one))),
            all => {
                let all: Vec<String> = all.iter().map(|one| colon(*one)).collect();
                add(format!("-m multiport --dports {}", all.join(",")));
            }
        }
        when.source_ports
            .iter()
            .for_each(|ports| add(format!("--sport {}", colon(*ports))));
        if when.handshake {
            add("--tcp-flags SYN,RST SYN".to_owned());
        }
        if let Some(translated) = when.translated {
            let not = if translated { "" } else { "! " };
            add(format!("-m conntrack {not}--ctstate DNAT"));
        }
        if let Some((address, ports)) = when.original {
            address
                .iter()
                .for_each(|address| add(format!("--ctorigdst {address}")));
            add(format!("--ctorigdstport {}", colon(ports)));
        }
        text
    }

    fn target(&self, act: &Act) -> String {
        let to_ports = |ports: &Option<PortRange>| {
            ports
                .map(|ports| format!(" --to-ports {ports}"))
                .unwrap_or_default()
        };
        match act {
            Act::Send(addresses, port) => self.send(addresses, *port),
            Act::Redirect(Port::Single(port)) => format!("REDIRECT --to-ports {port}"),
            Act::Redirect(_) => "REDIRECT".to_owned(),
            Act::Masquerade(ports) => format!("MASQUERADE{}", to_ports(ports)),
            Act::From([first, last], ports) => {
                let (addresses, persistent) = match first == last {
                    true => (first.to_string(), ""),
                    // One client is always one address.
                    false => (format!("{first}-{last}"), " --persistent"),
                };
                format!(
                    "SNAT --to-source {}{persistent}",
                    self.with_ports(&addresses, *ports)
                )
            }
            Act::Return => "RETURN".to_owned(),
            Act::Drop => "DROP".to_owned(),
            Act::Clamp(MssClamp::Auto) => "TCPMSS --clamp-mss-to-pmtu".to_owned(),
            Act::Clamp(MssClamp::Bytes(bytes)) => format!("TCPMSS --set-mss {bytes}"),
        }
    }

    fn with_ports(&self, addresses: &str, ports: Option<PortRange>) -> String {
        match (ports, self.family) {
            (None, _) => addresses.to_owned(),
            (Some(ports), Family::V4) => format!("{addresses}:{ports}"),
            (Some(ports), Family::V6) => format!("[{addresses}]:{ports}"),
        }
    }

    fn send(&self, addresses: &[IpAddr], port: Port) -> String {
        let hosts = match addresses {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        };
        let to = match port {
            Port::Same => hosts,
            Port::Single(port) => self.with_ports(&hosts, PortRange::new(port, port)),
            Port::Shift(from, to) => {
                format!("{}/{}", self.with_ports(&hosts, Some(to)), from.first)
            }
        };
        format!("DNAT --to-destination {to}")
    }
}

/// `REDIRECT` takes any of several ports: each needs a rule of its own.
fn redirects(
    writer: &Writer,
    when: &When,
    (from, to): (PortRange, PortRange),
    comment: &str,
) -> Vec<String> {
    if from.len() > MOST_PORTS {
        return vec![format!(
            "# {from} to {to} of this host would take {} rules: -A",
            from.len()
        )];
    }
    let rule = |(from, to): (u16, u16)| {
        let when = When {
            ports: PortRange::new(from, from).into_iter().collect(),
            ..when.clone()
        };
        format!(
            "-A{}{comment} -j REDIRECT --to-ports {to}",
            writer.conditions(&when)
        )
    };
    (from.first..=from.last)
        .zip(to.first..=to.last)
        .map(rule)
        .collect()
}

/// Whether these are neighbours, one after the other.
fn is_range(addresses: &[IpAddr]) -> bool {
    let bits = |address: &IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    addresses
        .windows(2)
        .all(|two| bits(&two[0]).checked_add(1) == Some(bits(&two[1])))
}

/// In parts that one rule takes.
fn multiports(ports: &[PortRange]) -> Vec<Vec<PortRange>> {
    if ports.is_empty() {
        return vec![Vec::new()];
    }
    let mut lists: Vec<Vec<PortRange>> = Vec::new();
    let mut room = 0;
    for range in ports {
        let size = if range.first == range.last { 1 } else { 2 };
        match lists.last_mut().filter(|_| size <= room) {
            Some(last) => last.push(*range),
            None => {
                lists.push(vec![*range]);
                room = MULTIPORT;
            }
        }
        room -= size;
    }
    lists
}

fn colon(ports: PortRange) -> String {
    ports.to_string().replace('-', ":")
}

/// As `iptables-restore` reads it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
