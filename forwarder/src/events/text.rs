//! Events as people read them.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};

use super::FlowEvent;
use crate::report::human;

/// Shows the moment as RFC 3339 in the host's own time, to the millisecond.
pub fn local(moment: Timestamp) -> String {
    let zoned = moment.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

impl fmt::Display for FlowEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            listener,
            translated,
            backend,
            ..
        } = self;
        write!(
            out,
            "{}  {:<11}  {}  {}  rule {}  original {client} -> {listener}  translated {translated} -> {backend}",
            local(self.time),
            self.event.name(),
            self.protocol.name(),
            self.state,
            self.rule,
        )?;
        let Some(closed) = &self.closed else {
            return Ok(());
        };
        let lasted = closed.end.duration_since(self.start);
        let carried = |counts: super::Counts| {
            let packets = crate::report::counted(counts.packets as usize, "packet");
            format!("{packets}, {}", human::bytes(counts.bytes))
        };
        write!(
            out,
            "  original {}  reply {}  start {}, end {}, lasted {}  {}",
            carried(closed.original),
            carried(closed.reply),
            local(self.start),
            local(closed.end),
            human::duration(lasted.as_secs().max(0).unsigned_abs()),
            closed.cause.name(),
        )
    }
}
