//! Numbers for people.

/// `999 B`, `1.5 KiB`, `12 MiB`: at most three digits.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // A number that would round to 1000 goes to the next unit.
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `0 b/s`, `1.5 kb/s`, `12 Mb/s`: at most three digits.
pub(crate) fn bits(rate: f64) -> String {
    const UNITS: [&str; 6] = ["b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s", "Pb/s"];
    let mut value = rate.max(0.0);
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit > 0 && value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `0/s`, `0.3/s`, `12/s`, `1,234/s`.
pub(crate) fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 {
        // What is hardly ever is not never.
        return format!("{:.1}/s", rate.max(0.1));
    }
    format!("{}/s", count(rate.max(0.0).round() as u64))
}

/// `1,234,567`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The two largest units: `5d`, `1h 5m`, `42s`.
pub(crate) fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let largest = UNITS
        .iter()
        .position(|(length, _)| seconds >= *length)
        .unwrap_or(UNITS.len() - 1);
    let (length, name) = UNITS[largest];
    let rest = UNITS
        .get(largest + 1)
        .map(|(next, name)| (seconds % length / next, name));
    match rest {
        Some((rest, next)) if rest > 0 => format!("{}{name} {rest}{next}", seconds / length),
        _ => format!("{}{name}", seconds / length),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    #[rstest]
    #[case(0, "0 B")]
    #[case(999, "999 B")]
    #[case(1000, "1.0 KiB")]
    #[case(1536, "1.5 KiB")]
    #[case(10_188, "9.9 KiB")]
    #[case(10_240, "10 KiB")]
    #[case(1_023_487, "999 KiB")]
    #[case(1_023_488, "1.0 MiB")]
    #[case(5 << 30, "5.0 GiB")]
    #[case(u64::MAX, "16 EiB")]
    fn bytes(#[case] number: u64, #[case] expected: &str) {
        assert_eq!(super::bytes(number), expected);
    }

    #[rstest]
    #[case(0.0, "0 b/s")]
    #[case(999.4, "999 b/s")]
    #[case(1536.0, "1.5 kb/s")]
    #[case(12_345_678.0, "12 Mb/s")]
    #[case(999_500.0, "1.0 Mb/s")]
    fn bits(#[case] number: f64, #[case] expected: &str) {
        assert_eq!(super::bits(number), expected);
    }

    #[rstest]
    #[case(0.0, "0/s")]
    #[case(-1.0, "0/s")]
    #[case(0.001, "0.1/s")]
    #[case(9.94, "9.9/s")]
    #[case(9.96, "10/s")]
    #[case(1234.5, "1,235/s")]
    fn rate(#[case] number: f64, #[case] expected: &str) {
        assert_eq!(super::rate(number), expected);
    }

    #[rstest]
    #[case(0, "0")]
    #[case(999, "999")]
    #[case(1000, "1,000")]
    #[case(1_234_567, "1,234,567")]
    fn count(#[case] number: u64, #[case] expected: &str) {
        assert_eq!(super::count(number), expected);
    }

    #[rstest]
    #[case(0, "0s")]
    #[case(59, "59s")]
    #[case(60, "1m")]
    #[case(61, "1m 1s")]
    #[case(3_600, "1h")]
    #[case(3_659, "1h")]
    #[case(432_000, "5d")]
    #[case(439_999, "5d 2h")]
    fn duration(#[case] seconds: u64, #[case] expected: &str) {
        assert_eq!(super::duration(seconds), expected);
    }
}
