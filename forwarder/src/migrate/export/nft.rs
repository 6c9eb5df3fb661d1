//! The file of `nft -f`.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{MssClamp, PortRange};

use super::Family;
use super::plan::{Act, Line, Plan, Port, When};

/// The table of one family.
pub(super) fn table(plan: &Plan) -> String {
    let writer = Writer {
        ip: match plan.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        },
    };
    let name = format!("table {} forwarder", writer.ip);
    // Named first, so that there is one to be deleted.
    let mut text = format!("{name}\ndelete {name}\n{name} {{\n");
    let chains = [
        (
            "clients",
            "filter hook prerouting priority mangle",
            "ct state != new return",
            &plan.clients,
        ),
        (
            "mss",
            "filter hook forward priority mangle",
            "",
            &plan.clamps,
        ),
        (
            "in",
            "nat hook prerouting priority dstnat",
            "",
            &plan.arriving,
        ),
        ("own", "nat hook output priority -100", "", &plan.own),
        // What is forwarded is the business of the rule that forwards it.
        (
            "pass",
            "filter hook forward priority filter",
            "ct state established,related return\n\t\tct status dnat return",
            &plan.passing,
        ),
        (
            "out",
            "nat hook postrouting priority srcnat",
            "",
            &plan.leaving,
        ),
    ];
    for (chain, base, first, lines) in chains {
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\tchain {chain} {{\n\t\ttype {base}; policy accept;");
        if !first.is_empty() {
            let _ = writeln!(text, "\t\t{first}");
        }
        for line in lines {
            let _ = writeln!(text, "\t\t{}", writer.rule(line));
        }
        text.push_str("\t}\n");
    }
    text + "}\n"
}

struct Writer {
    /// The word for the family.
    ip: &'static str,
}

impl Writer {
    fn rule(&self, line: &Line) -> String {
        let name: String = line.name.chars().filter(|one| *one != '"').collect();
        format!(
            "{}{} comment \"{name}\"",
            self.conditions(&line.when),
            self.act(line)
        )
    }

    fn conditions(&self, when: &When) -> String {
        let ip = self.ip;
        let mut text = String::new();
        let mut add = |part: String| {
            text.push_str(&part);
            text.push(' ');
        };
        when.input
            .iter()
            .for_each(|name| add(format!("iifname \"{name}\"")));
        when.not_output
            .iter()
            .for_each(|name| add(format!("oifname != \"{name}\"")));
        when.source
            .iter()
            .for_each(|prefix| add(format!("{ip} saddr {}", short(prefix))));
        when.destination
            .iter()
            .for_each(|prefix| add(format!("{ip} daddr {}", short(prefix))));
        if when.echo {
            add(match ip {
                "ip" => "icmp type echo-request".to_owned(),
                _ => "icmpv6 type echo-request".to_owned(),
            });
        }
        if let Some(protocol) = when.protocol {
            let name = protocol.name();
            match when.ports.as_slice() {
                [] if when.source_ports.is_none() => add(format!("meta l4proto {name}")),
                [] => {}
                [one] => add(format!("{name} dport {one}")),
                all => {
                    let all: Vec<String> = all.iter().map(PortRange::to_string).collect();
                    add(format!("{name} dport {{ {} }}", all.join(", ")));
                }
            }
            when.source_ports
                .iter()
                .for_each(|ports| add(format!("{name} sport {ports}")));
        }
        if when.handshake {
            add("tcp flags & (syn | rst) == syn".to_owned());
        }
        match when.translated {
            Some(true) => add("ct status dnat".to_owned()),
            Some(false) => add("ct status & dnat == 0".to_owned()),
            None => {}
        }
        if let Some((address, ports)) = when.original {
            address
                .iter()
                .for_each(|address| add(format!("ct original {ip} daddr {address}")));
            add(format!("ct original proto-dst {ports}"));
        }
        text
    }

    fn act(&self, line: &Line) -> String {
        let protocol = line.when.protocol.map_or("th", |protocol| protocol.name());
        let colon = |ports: &Option<PortRange>| ports.map(|ports| format!(":{ports}"));
        match &line.act {
            Act::Send(addresses, port) => self.send(addresses, *port, protocol),
            Act::Redirect(Port::Single(port)) => format!("redirect to :{port}"),
            Act::Redirect(Port::Same) => "redirect".to_owned(),
            Act::Redirect(Port::Shift(from, to)) => {
                let pairs = pairs(*from, *to).map(|(from, to)| format!("{from} : {to}"));
                let pairs: Vec<String> = pairs.collect();
                format!(
                    "redirect to :{protocol} dport map {{ {} }}",
                    pairs.join(", ")
                )
            }
            Act::Masquerade(ports) => {
                let ports = colon(ports).map(|ports| format!(" to {ports}"));
                format!("masquerade{}", ports.unwrap_or_default())
            }
            Act::From([first, last], ports) => {
                let ports = colon(ports);
                let (range, persistent) = match first == last {
                    true => (first.to_string(), ""),
                    // One client is always one address.
                    false => (format!("{first}-{last}"), " persistent"),
                };
                let range = match (&ports, self.ip) {
                    (Some(_), "ip6") => format!("[{}]", range.replace('-', "]-[")),
                    _ => range,
                };
                format!("snat to {range}{}{persistent}", ports.unwrap_or_default())
            }
            Act::Return => "return".to_owned(),
            Act::Drop => "drop".to_owned(),
            Act::Clamp(MssClamp::Auto) => "tcp option maxseg size set rt mtu".to_owned(),
            Act::Clamp(MssClamp::Bytes(bytes)) => format!("tcp option maxseg size set {bytes}"),
        }
    }

    fn send(&self, addresses: &[IpAddr], port: Port, protocol: &str) -> String {
        let ip = self.ip;
        match (addresses, port) {
            ([one], Port::Same) => format!("dnat to {one}"),
            ([one], Port::Single(port)) => format!("dnat to {}:{port}", bracketed(one)),
            ([one], Port::Shift(from, to)) => {
                let pairs = pairs(from, to).map(|(from, to)| format!("{from} : {one} . {to}"));
                let pairs: Vec<String> = pairs.collect();
                format!(
                    "dnat {ip} addr . port to {protocol} dport map {{ {} }}",
                    pairs.join(", ")
                )
            }
            (several, port) => {
                // As the forwarder does it: by the client's address and port, so that a repeated SYN goes the same way.
                let key = format!("jhash {ip} saddr . {protocol} sport mod {}", several.len());
                let numbered = several.iter().enumerate();
                match port {
                    Port::Single(port) => {
                        let all =
                            numbered.map(|(number, one)| format!("{number} : {one} . {port}"));
                        let all: Vec<String> = all.collect();
                        format!(
                            "dnat {ip} addr . port to {key} map {{ {} }}",
                            all.join(", ")
                        )
                    }
                    _ => {
                        let all: Vec<String> = numbered
                            .map(|(number, one)| format!("{number} : {one}"))
                            .collect();
                        format!("dnat to {key} map {{ {} }}", all.join(", "))
                    }
                }
            }
        }
    }
}

fn pairs(from: PortRange, to: PortRange) -> impl Iterator<Item = (u16, u16)> {
    (from.first..=from.last).zip(to.first..=to.last)
}

/// An address alone is written so.
fn short(prefix: &IpNet) -> String {
    match prefix.prefix_len() == prefix.max_prefix_len() {
        true => prefix.addr().to_string(),
        false => prefix.to_string(),
    }
}

fn bracketed(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
