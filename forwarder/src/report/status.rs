//! `forwarder status`.

use super::table::{Side, Table};
use super::{Fill, InterfaceStatus, Render, Status, human};

impl Render for Status {
    fn render(&self) -> String {
        let mut facts = Table::plain([Side::Left; 2]);
        let mut fact = |name: &str, value: String| facts.row([name.to_owned(), value]);
        let up = human::duration(self.uptime_seconds);
        fact(
            "forwarder",
            format!("{}, process {}, up {up}", self.version, self.pid),
        );
        fact("configuration", self.config.clone());
        fact("flows", fill(self.flows));
        fact("half-open", fill(self.half_open));
        fact("rules", fill(self.rules));
        fact("forwarded", forwarded(self));
        fact(
            "dropped",
            format!("{} packets", human::count(self.dropped_packets)),
        );
        if let Some(shadow) = &self.shadow {
            fact("shadow", shadow.line());
        }
        fact("generation", self.generation.to_string());
        format!("{}\n{}", facts.render(), interfaces(&self.interfaces))
    }
}

fn fill(fill: Fill) -> String {
    let percent = if fill.limit == 0 {
        0.0
    } else {
        fill.used as f64 * 100.0 / fill.limit as f64
    };
    format!(
        "{} of {} ({percent:.0} %)",
        human::count(fill.used),
        human::count(fill.limit)
    )
}

fn forwarded(status: &Status) -> String {
    let forwarded = &status.forwarded;
    let packets = forwarded.xdp_packets.saturating_add(forwarded.tc_packets);
    let (xdp, tc) = (
        human::count(forwarded.xdp_packets),
        human::count(forwarded.tc_packets),
    );
    format!(
        "{} packets (xdp {xdp}, tc {tc}), {}",
        human::count(packets),
        human::bytes(forwarded.bytes)
    )
}

fn interfaces(interfaces: &[InterfaceStatus]) -> String {
    let columns = ["INTERFACE", "INDEX", "MODE", "HOOK", "DRIVER", "WHY"];
    let mut table = Table::new(columns.map(|name| (name, Side::Left)));
    for one in interfaces {
        table.row([
            one.name.clone(),
            one.index
                .map_or_else(|| "-".to_owned(), |index| index.to_string()),
            one.wanted.clone(),
            one.hook.as_str().to_owned(),
            one.driver.clone().unwrap_or_else(|| "-".to_owned()),
            one.why.clone(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::super::{Fill, Forwarded, Hook, InterfaceStatus, Render, Status};

    #[test]
    fn a_status_is_facts_and_interfaces() {
        let status = Status {
            version: "0.1.0".to_owned(),
            pid: 42,
            uptime_seconds: 3_700,
            config: "/etc/forwarder/forwarder.toml".to_owned(),
            interfaces: vec![
                InterfaceStatus {
                    name: "eth0".to_owned(),
                    index: Some(2),
                    wanted: "auto".to_owned(),
                    hook: Hook::Xdp,
                    why: "the driver has native XDP".to_owned(),
                    driver: Some("virtio_net".to_owned()),
                },
                InterfaceStatus {
                    name: "wg0".to_owned(),
                    wanted: "tc".to_owned(),
                    ..InterfaceStatus::default()
                },
            ],
            flows: Fill {
                used: 1_311,
                limit: 262_144,
            },
            half_open: Fill { used: 0, limit: 0 },
            rules: Fill {
                used: 2,
                limit: 65_536,
            },
            forwarded: Forwarded {
                xdp_packets: 1_000,
                tc_packets: 24,
                bytes: 1 << 20,
            },
            dropped_packets: 3,
            shadow: None,
            generation: 7,
        };
        let expected = "\
forwarder      0.1.0, process 42, up 1h 1m
configuration  /etc/forwarder/forwarder.toml
flows          1,311 of 262,144 (1 %)
half-open      0 of 0 (0 %)
rules          2 of 65,536 (0 %)
forwarded      1,024 packets (xdp 1,000, tc 24), 1.0 MiB
dropped        3 packets
generation     7

INTERFACE  INDEX  MODE  HOOK    DRIVER      WHY
eth0       2      auto  xdp     virtio_net  the driver has native XDP
wg0        -      tc    absent  -
";
        assert_eq!(status.render(), expected);
    }

    #[test]
    fn names_in_json_are_those_of_the_documentation() {
        let interface = InterfaceStatus {
            hook: Hook::XdpGeneric,
            ..InterfaceStatus::default()
        };
        let json = serde_json::to_value(interface).unwrap();
        assert_eq!(json["hook"], "xdp-generic");
        assert_eq!(json["index"], serde_json::Value::Null);
    }
}
