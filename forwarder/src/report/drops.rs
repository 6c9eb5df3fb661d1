//! `forwarder drops`.

use super::table::{Side, Table};
use super::{DropReport, LastPacket, Render, human};

impl Render for [DropReport] {
    fn render(&self) -> String {
        if self.is_empty() {
            return "every packet that a rule takes was sent on; `--all` lists the reasons there are\n".to_owned();
        }
        let columns = [
            ("PACKETS", Side::Right),
            ("RATE", Side::Right),
            ("VERDICT", Side::Left),
            ("REASON", Side::Left),
            ("LAST PACKET", Side::Left),
            ("MEANING, AND WHAT TO DO", Side::Left),
        ];
        let mut table = Table::new(columns);
        for one in self {
            table.row([
                human::count(one.packets),
                human::rate(one.rate),
                one.verdict.as_str().to_owned(),
                one.reason.clone(),
                one.last.as_ref().map_or_else(|| "-".to_owned(), packet),
                format!("{} {}", one.explanation, one.advice),
            ]);
        }
        table.render()
    }
}

/// `tcp 198.51.100.7:40000 -> 203.0.113.5:110 on eth0, 3s ago`.
pub(crate) fn packet(last: &LastPacket) -> String {
    format!(
        "{} {} -> {} on {}, {} ago",
        last.protocol,
        last.source,
        last.destination,
        last.interface,
        human::duration(last.seconds_ago)
    )
}

#[cfg(test)]
mod tests {
    use super::super::{DropReport, LastPacket, Render, Verdict};

    #[test]
    fn lines_are_aligned() {
        let report = |reason: &str, verdict, packets| DropReport {
            reason: reason.to_owned(),
            verdict,
            packets,
            explanation: "Something.".to_owned(),
            advice: "Do it.".to_owned(),
            ..DropReport::default()
        };
        let drops = [
            report("not-ours", Verdict::Pass, 1_234),
            DropReport {
                rate: 12.34,
                last: Some(LastPacket {
                    protocol: "udp".to_owned(),
                    source: "198.51.100.7:5".to_owned(),
                    destination: "203.0.113.5:53".to_owned(),
                    interface: "eth0".to_owned(),
                    seconds_ago: 61,
                }),
                ..report("no-port", Verdict::Drop, 7)
            },
        ];
        let expected = "\
PACKETS  RATE  VERDICT  REASON    LAST PACKET                                              MEANING, AND WHAT TO DO
  1,234   0/s  pass     not-ours  -                                                        Something. Do it.
      7  12/s  drop     no-port   udp 198.51.100.7:5 -> 203.0.113.5:53 on eth0, 1m 1s ago  Something. Do it.
";
        assert_eq!(drops.render(), expected);
    }

    #[test]
    fn nothing_is_said_in_a_sentence() {
        assert_eq!(<[DropReport]>::render(&[]).lines().count(), 1);
    }
}
