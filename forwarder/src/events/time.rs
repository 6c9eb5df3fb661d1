//! Moments as people write them.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// What is accepted, for messages and for `--help`.
pub const EXPECTED: &str = "RFC 3339 such as 2026-11-26T14:03:05+01:00, \"2026-11-26 14:03\" in the host's own time, or \"10m ago\"";

/// A moment, as exactly as it was written: all of that second or minute is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end, which is not in it.
    pub to: Timestamp,
}

/// Reads a moment; `now` is what "ago" counts from, `zone` what a time without an offset is in.
///
/// # Errors
/// One sentence about what was expected.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Moment, String> {
    let text = text.trim();
    relative(text, now)
        .or_else(|| absolute(text))
        .or_else(|| civil(text, zone))
        .ok_or_else(|| format!("expected {EXPECTED}"))
}

/// As [`parse`], from here and now.
///
/// # Errors
/// As [`parse`].
pub fn parse_here(text: &str) -> Result<Moment, String> {
    parse(text, Timestamp::now(), &TimeZone::system())
}

fn relative(text: &str, now: Timestamp) -> Option<Moment> {
    if text == "now" {
        return moment(now, Duration::from_secs(1));
    }
    let ago = humantime::parse_duration(text.strip_suffix("ago")?.trim()).ok()?;
    moment(now.checked_sub(ago).ok()?, Duration::from_secs(1))
}

fn absolute(text: &str) -> Option<Moment> {
    moment(text.parse().ok()?, precision(text))
}

fn civil(text: &str, zone: &TimeZone) -> Option<Moment> {
    let civil: DateTime = text.parse().ok()?;
    let begin = zone.to_timestamp(civil).ok()?;
    if civil.time() == jiff::civil::Time::midnight() && !text.contains(':') {
        // A date alone is all of that day, which need not have 24 hours.
        let end = civil.checked_add(1.day()).ok()?;
        return Some(Moment {
            from: begin,
            to: zone.to_timestamp(end).ok()?,
        });
    }
    moment(begin, precision(text))
}

fn moment(from: Timestamp, length: Duration) -> Option<Moment> {
    let to = from.checked_add(length).ok()?;
    Some(Moment { from, to })
}

/// How much time the shortest thing that is written stands for.
fn precision(text: &str) -> Duration {
    let time = text
        .split_once(['T', 't', ' '])
        .map_or("", |(_, time)| time);
    let time = time.split(['+', '-', 'Z', 'z']).next().unwrap_or_default();
    match time.matches(':').count() {
        0 => Duration::from_secs(3600),
        1 => Duration::from_secs(60),
        _ if time.contains(['.', ',']) => Duration::from_millis(1),
        _ => Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::offset;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-11-26T14:03:05Z", "2026-11-26T14:03:05Z", 1000)]
    #[case("2026-11-26T14:03:05.250Z", "2026-11-26T14:03:05.25Z", 1)]
    #[case("2026-11-26T14:03:05+01:00", "2026-11-26T13:03:05Z", 1000)]
    #[case("2026-11-26 14:03:05-05:00", "2026-11-26T19:03:05Z", 1000)]
    #[case("2026-11-26T14:03Z", "2026-11-26T14:03:00Z", 60_000)]
    #[case("2026-11-26 14:03", "2026-11-26T12:03:00Z", 60_000)]
    #[case(" 2026-11-26 14:03:59 ", "2026-11-26T12:03:59Z", 1000)]
    #[case("2026-11-26", "2026-11-25T22:00:00Z", 86_400_000)]
    #[case("10m ago", "2026-11-26T11:50:00Z", 1000)]
    #[case("1h 30m ago", "2026-11-26T10:30:00Z", 1000)]
    #[case("now", "2026-11-26T12:00:00Z", 1000)]
    fn moments_are_as_exact_as_they_are_written(
        #[case] text: &str,
        #[case] from: &str,
        #[case] length: i64,
    ) {
        let now = "2026-11-26T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(offset(2));
        let found = parse(text, now, &zone).unwrap();
        let begin: Timestamp = from.parse().unwrap();
        let end = found.to.as_millisecond() - found.from.as_millisecond();
        assert_eq!((found.from, end), (begin, length));
    }

    #[rstest]
    #[case("")]
    #[case("yesterday")]
    #[case("14:03")]
    #[case("10m")]
    #[case("2026-11-31 14:03")]
    #[case("2026-11-26T25:00:00Z")]
    fn what_is_no_moment_is_refused(#[case] text: &str) {
        let refused = parse(text, Timestamp::UNIX_EPOCH, &TimeZone::UTC).unwrap_err();
        assert!(refused.contains("10m ago"), "{refused}");
    }
}
