//! `forwarder flows`: one line a flow, both directions as they look on the wire before translation, which is
//! how conntrack shows them: the reply's destination is what the client became.

use super::table::{Side, Table};
use super::{Direction, FlowReport, Render, human};

impl Render for [FlowReport] {
    fn render(&self) -> String {
        if self.is_empty() {
            return "no flows\n".to_owned();
        }
        let mut table = Table::plain([Side::Left; 6]);
        for flow in self {
            let times = format!(
                "age {}, idle {}, expires in {}",
                human::duration(flow.age_seconds),
                human::duration(flow.idle_seconds),
                human::duration(flow.expires_seconds),
            );
            table.row([
                flow.protocol.clone(),
                flow.state.clone(),
                format!(
                    "rule {}{}",
                    flow.rule,
                    if flow.shadow { " (shadow)" } else { "" }
                ),
                format!("original {}", direction(&flow.original)),
                format!("reply {}", direction(&flow.reply)),
                times,
            ]);
        }
        table.render()
    }
}

fn direction(direction: &Direction) -> String {
    let Direction {
        source,
        destination,
        interface,
        ..
    } = direction;
    let (packets, bytes) = (
        human::count(direction.packets),
        human::bytes(direction.bytes),
    );
    let unit = if direction.packets == 1 {
        "packet"
    } else {
        "packets"
    };
    format!("{source} -> {destination} on {interface} ({packets} {unit}, {bytes})")
}

#[cfg(test)]
mod tests {
    use super::super::{Direction, FlowReport, Render};

    #[test]
    fn a_flow_is_a_line_with_both_directions() {
        let direction = |source: &str, destination: &str, packets| Direction {
            source: source.to_owned(),
            destination: destination.to_owned(),
            packets,
            bytes: packets * 100,
            interface: "eth0".to_owned(),
        };
        let flow = FlowReport {
            rule: "pop3".to_owned(),
            protocol: "tcp".to_owned(),
            state: "established".to_owned(),
            shadow: false,
            original: direction("198.51.100.7:40000", "203.0.113.5:110", 12),
            reply: direction("195.228.245.1:110", "203.0.113.5:40000", 1),
            age_seconds: 61,
            idle_seconds: 1,
            expires_seconds: 431_999,
        };
        let expected = "tcp  established  rule pop3  \
            original 198.51.100.7:40000 -> 203.0.113.5:110 on eth0 (12 packets, 1.2 KiB)  \
            reply 195.228.245.1:110 -> 203.0.113.5:40000 on eth0 (1 packet, 100 B)  \
            age 1m 1s, idle 1s, expires in 4d 23h\n";
        assert_eq!([flow].render(), expected);
        assert_eq!(<[FlowReport]>::render(&[]), "no flows\n");
    }
}
