//! Times in files and on the command line: RFC 3339, as in TOML's offset date-times.

use super::UnixTime;

/// The time of `text`, such as `2026-11-22T10:00:00Z` or `2026-11-22 11:00:00+01:00`.
/// `None` when it is not RFC 3339, has no offset from UTC, or is before 1970.
pub fn parse_time(text: &str) -> Option<UnixTime> {
    from_toml(&text.parse().ok()?)
}

/// The time of a TOML date-time that has a date, a time and an offset.
pub fn from_toml(datetime: &toml::value::Datetime) -> Option<UnixTime> {
    let (date, time) = (datetime.date?, datetime.time?);
    let offset_minutes = match datetime.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let minutes = (days * 24 + i64::from(time.hour)) * 60 + i64::from(time.minute) - offset_minutes;
    let seconds = minutes * 60 + i64::from(time.second.unwrap_or(0));
    let millis = seconds * 1000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    u64::try_from(millis).ok().map(UnixTime::from_millis)
}

/// The RFC 3339 form of `time` in UTC, in whole seconds unless there is a fraction.
pub fn format_time(time: UnixTime) -> String {
    let (seconds, millis) = (time.as_millis() / 1000, time.as_millis() % 1000);
    let (year, month, day) = civil_from_days((seconds / 86400) as i64);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
///
/// Years begin in March here, so that a leap day is the last day of its year (Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * DAYS_OF_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
        - DAYS_TO_1970
}

/// Year, month and day of the day `days` after 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let (era, day_of_era) = (days.div_euclid(DAYS_OF_ERA), days.rem_euclid(DAYS_OF_ERA));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = (shifted + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Days of 400 years.
const DAYS_OF_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // From `date -u -d TEXT +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2026-11-22T10:06:28Z", 1_795_341_988),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            let time = UnixTime::from_millis(seconds * 1000);
            assert_eq!(parse_time(text), Some(time), "{text}");
            assert_eq!(format_time(time), text);
        }
        assert_eq!(parse_time("2026-11-22 11:06:28+01:00"), parse_time("2026-11-22T10:06:28Z"));
        let with_millis = UnixTime::from_millis(1_795_341_988_025);
        assert_eq!(format_time(with_millis), "2026-11-22T10:06:28.025Z");
        assert_eq!(parse_time("2026-11-22T10:06:28.025Z"), Some(with_millis));
    }

    #[test]
    fn every_day_comes_after_the_one_before() {
        let mut before = (1969, 12, 31);
        for days in 0..100_000 {
            let civil = civil_from_days(days);
            assert!(civil > before);
            assert_eq!(days_from_civil(civil.0, civil.1, civil.2), days);
            before = civil;
        }
    }

    #[test]
    fn texts_without_a_full_time_are_refused() {
        for text in
            ["", "2026-11-22", "10:00:00", "2026-11-22T10:00:00", "1969-12-31T23:59:59Z", "soon"]
        {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
