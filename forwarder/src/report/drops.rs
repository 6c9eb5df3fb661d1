//! `forwarder drops`.

use super::table::{Side, Table};
use super::{DropReport, Render, human};

impl Render for [DropReport] {
    fn render(&self) -> String {
        if self.is_empty() {
            return "every packet that a rule takes was sent on; `--all` lists the reasons there are\n".to_owned();
        }
        let columns = [
            ("PACKETS", Side::Right),
            ("VERDICT", Side::Left),
            ("REASON", Side::Left),
            ("MEANING", Side::Left),
        ];
        let mut table = Table::new(columns);
        for one in self {
            let verdict = one.verdict.as_str().to_owned();
            table.row([
                human::count(one.packets),
                verdict,
                one.reason.clone(),
                one.explanation.clone(),
            ]);
        }
        table.render()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DropReport, Render, Verdict};

    #[test]
    fn lines_are_aligned() {
        let report = |reason: &str, verdict, packets| DropReport {
            reason: reason.to_owned(),
            verdict,
            packets,
            explanation: "something".to_owned(),
        };
        let drops = [
            report("not-ours", Verdict::Pass, 1_234),
            report("no-port", Verdict::Drop, 7),
        ];
        let expected = "PACKETS  VERDICT  REASON    MEANING\n  1,234  pass     not-ours  something\n      \
                        7  drop     no-port   something\n";
        assert_eq!(drops.render(), expected);
    }

    #[test]
    fn nothing_is_said_in_a_sentence() {
        assert_eq!(<[DropReport]>::render(&[]).lines().count(), 1);
    }
}
