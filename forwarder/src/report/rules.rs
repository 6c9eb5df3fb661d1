//! `forwarder rules`.

use super::table::{Side, Table};
use super::{Render, RuleReport, Traffic, human};

impl Render for [RuleReport] {
    fn render(&self) -> String {
        if self.is_empty() {
            return "no rules\n".to_owned();
        }
        let mut table = Table::new([
            ("RULE", Side::Left),
            ("PROTOCOL", Side::Left),
            ("INTERFACE", Side::Left),
            ("LISTEN", Side::Left),
            ("TO", Side::Left),
            ("SOURCE", Side::Left),
            ("FLOWS", Side::Right),
            ("OPENED", Side::Right),
            ("ORIGINAL", Side::Right),
            ("REPLY", Side::Right),
            ("XDP", Side::Right),
            ("TC", Side::Right),
        ]);
        for rule in self {
            table.row([
                rule.name.clone(),
                rule.protocol.clone(),
                rule.interface.clone().unwrap_or_else(|| "any".to_owned()),
                rule.listen.clone(),
                rule.to.join(", "),
                rule.source.clone(),
                human::count(rule.flows_active),
                human::count(rule.flows_opened),
                traffic(rule.original),
                traffic(rule.reply),
                human::count(rule.xdp_packets),
                human::count(rule.tc_packets),
            ]);
        }
        let shadows = self
            .iter()
            .filter(|rule| rule.is_shadow || rule.shadow.is_some());
        let shadows: Vec<String> = shadows.map(RuleReport::shadow_lines).collect();
        let gap = if shadows.is_empty() { "" } else { "\n" };
        format!("{}{gap}{}", table.render(), shadows.concat())
    }
}

fn traffic(traffic: Traffic) -> String {
    format!(
        "{} / {}",
        human::count(traffic.packets),
        human::bytes(traffic.bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Render, RuleReport, Traffic};

    #[test]
    fn a_rule_is_a_line() {
        let rule = RuleReport {
            kind: Kind::Forward,
            name: "pop3".to_owned(),
            protocol: "tcp".to_owned(),
            interface: None,
            listen: "*:110".to_owned(),
            to: vec!["192.0.2.1:110".to_owned(), "192.0.2.2:110".to_owned()],
            source: "masquerade".to_owned(),
            xdp_packets: 20,
            tc_packets: 3,
            original: Traffic {
                packets: 12,
                bytes: 1536,
            },
            reply: Traffic {
                packets: 11,
                bytes: 10,
            },
            flows_opened: 1000,
            flows_active: 2,
            ..RuleReport::default()
        };
        let expected = "\
RULE  PROTOCOL  INTERFACE  LISTEN  TO                            SOURCE      FLOWS  OPENED      ORIGINAL      REPLY  XDP  TC
pop3  tcp       any        *:110   192.0.2.1:110, 192.0.2.2:110  masquerade      2   1,000  12 / 1.5 KiB  11 / 10 B   20   3
";
        assert_eq!([rule].render(), expected);
    }
}
