//! Lengths of time in files and on the command line: a number and a unit, such as `24h`.

/// The milliseconds of `text`, a whole number with `ms`, `s`, `m`, `h` or `d`; `None` for any other
/// text, and for what does not fit 64 bits.
pub fn parse_duration(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*ms)
}

/// `ms` milliseconds in the largest unit that gives a whole number.
pub fn format_duration(ms: u64) -> String {
    let whole = UNITS.iter().rfind(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit));
    let (name, unit) = whole.unwrap_or(&("s", 1000));
    format!("{}{name}", ms / unit)
}

/// Units and their milliseconds, ascending.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_a_number_and_a_unit() {
        for (text, ms) in [
            ("0s", 0),
            ("1ms", 1),
            ("1500ms", 1500),
            ("3s", 3000),
            ("90m", 5_400_000),
            ("1d", 86_400_000),
            ("25h", 90_000_000),
        ] {
            assert_eq!(parse_duration(text), Some(ms), "{text}");
            assert_eq!(format_duration(ms), text);
        }
        assert_eq!(format_duration(86_400_000 * 2), "2d");
        assert_eq!(parse_duration("24h").map(format_duration).as_deref(), Some("1d"));
    }

    #[test]
    fn other_texts_are_no_lengths() {
        for text in ["", "s", "3", "3 s", "-3s", "1.5h", "3S", "1w", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration(&format!("{}d", u64::MAX)), None);
    }
}
