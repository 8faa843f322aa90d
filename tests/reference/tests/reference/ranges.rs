//! Ranges against the checks: the ends of each are accepted, and what is beyond them is not.

use anyrelay_core::time::parse_duration;
use anyrelay_reference::Key;
use toml::Value;

use super::bases::{BASES, Base};
use super::{keys, tables};

#[test]
fn ranges_are_those_of_the_checks() {
    let mut tested = 0;
    for base in &BASES {
        for (path, key) in keys(base.file) {
            for (value, is_good) in values(&key) {
                let mistakes = base.mistakes(&path, &base.with(&path, Some(value.clone())));
                // A queue more than the base has a worker for.
                let mistakes: Vec<_> =
                    mistakes.iter().filter(|reason| !reason.contains("no worker polls")).collect();
                let (range, value) = (&key.range, format!("{value:.40}"));
                assert_eq!(
                    mistakes.is_empty(),
                    is_good,
                    "{path}: {range}, and {value}: {mistakes:?}"
                );
                tested += 1;
            }
        }
    }
    assert!(tested > 150, "only {tested} values");
}

#[test]
fn numbers_of_tables_are_those_of_the_checks() {
    let mut tested = 0;
    for base in &BASES {
        for table in tables(base.file) {
            let Some((_, range)) = table.text.split_once("How many: ") else { continue };
            let (_, most) = range.split_once(" to ").expect(range);
            let (most, _) = number(most).expect(range);
            let most = usize::try_from(most).unwrap();
            // The base has one of the others.
            let others = usize::from(range.contains("together with"));
            let name = table.heading.trim_matches(['[', ']']);
            for (count, is_good) in [(most, true), (most + 1, false)] {
                let problems = (base.read)(&base.repeated(name, count - others)).err();
                let problems = problems.map_or_else(String::new, |problems| problems.to_string());
                let beyond = problems.contains(&format!("more than the {most} "));
                assert_eq!(beyond, !is_good, "{name}: {count}");
                tested += 1;
            }
        }
    }
    assert!(tested > 12, "only {tested} numbers");
}

/// Values at the ends of a key's range and beyond them, each with whether it is permitted.
fn values(key: &Key) -> Vec<(Value, bool)> {
    let range = key.range.as_str();
    if range == "at least one" {
        return vec![(Value::Array(Vec::new()), false)];
    }
    let Some((low, high)) = range.split_once(" to ") else { return Vec::new() };
    let unit = number(low.trim_matches('`')).map(|(_, unit)| unit);
    if key.form == "text" && matches!(unit, Some("ms" | "s")) {
        return times(low, high);
    }
    let Some((low, _)) = number(low) else { return Vec::new() };
    let high = number(high).map(|(high, _)| high);
    let of_number = |number: i64| -> Value {
        let length = usize::try_from(number).unwrap_or_default();
        match key.form.as_str() {
            "text" => "a".repeat(length).into(),
            "list of integers" => vec![number, number.max(100)].into(),
            form if form.starts_with("list") => vec!["x"; length].into(),
            _ => number.into(),
        }
    };
    let is_list_of_texts = key.form.starts_with("list of text");
    let mut ends = Vec::new();
    if !is_list_of_texts {
        ends.push((of_number(low), true));
    }
    if low > 0 || key.form == "integer" {
        ends.extend(low.checked_sub(1).map(|number| (of_number(number), false)));
    }
    if let Some(high) = high {
        ends.push((of_number(high), true));
        ends.extend(high.checked_add(1).map(|number| (of_number(number), false)));
    }
    ends
}

/// As [`values`], of a range of lengths of time such as `` `1s` to `30d` ``.
fn times(low: &str, high: &str) -> Vec<(Value, bool)> {
    let ms = |text: &str| {
        let text = text.split('`').nth(1).expect(text);
        parse_duration(text).expect(text)
    };
    let value = |ms: u64| Value::from(format!("{ms}ms"));
    let (low, high) = (ms(low), ms(high));
    let below = low.checked_sub(1).map(|ms| (value(ms), false));
    let ends = [(value(low), true), (value(high), true), (value(high + 1), false)];
    ends.into_iter().chain(below).collect()
}

/// The number at the start of a text, and the rest.
pub fn number(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    Some((text.get(..end)?.parse().ok()?, text.get(end..)?))
}

/// A base is without mistakes, or its tests would say nothing.
#[test]
fn bases_have_no_mistakes() {
    for Base { file, text, read } in &BASES {
        assert!(read(text).is_ok(), "{}: {}", file.title, read(text).unwrap_err());
    }
}
