//! Targets with dates, in the config and in a file of their own.

use super::*;
use crate::time::{UnixTime, parse_time};

/// The second target of `web`.
const SECOND: &str = "\"198.51.100.9:8443\"";

/// The config whose second target of `web` is these entries.
fn entries(entries: &[&str]) -> String {
    let entries: Vec<_> =
        entries.iter().map(|keys| format!("{{ address = \"198.51.100.9:8443\"{keys} }}")).collect();
    edit(&GOOD, SECOND, &entries.join(", "))
}

fn web(text: &str) -> TargetList {
    Config::parse("pop.toml", text).unwrap().relays[0].targets.clone()
}

#[test]
fn dates_and_their_bounds_are_read() {
    let list = web(&entries(&[
        ", until = 2026-12-01T10:00:00Z, gone = 2026-12-01T10:00:06Z",
        ", weight = 3, since = 2026-12-02T11:00:00+01:00",
    ]));
    let at = |text| parse_time(text).unwrap();
    let of_second: Vec<_> = list
        .entries
        .iter()
        .filter(|entry| entry.address.ip().to_string().ends_with(".9"))
        .collect();
    let [first, second] = of_second[..] else { panic!("{list:?}") };
    assert_eq!(first.since, UnixTime::default());
    assert_eq!(first.until, at("2026-12-01T10:00:00Z"));
    assert_eq!(first.gone, at("2026-12-01T10:00:06Z"));
    assert_eq!(second.since, at("2026-12-02T10:00:00Z"));
    assert_eq!((second.until, second.gone), (UnixTime::NEVER, UnixTime::NEVER));
    assert_eq!((first.weight, second.weight), (1, 3));
    assert_eq!((list.memory_ms, list.skew_ms), (86_400_000, 3000));
    assert_eq!(list.addresses().count(), 2);
    assert_eq!(list.events().len(), 2);
    let members: Vec<_> = list.epochs().iter().map(|epoch| epoch.members.len()).collect();
    assert_eq!(members, [2, 1, 2]);
    let times = edit(&GOOD, "mss = 1400", "mss = 1400\nmemory = \"90m\"\nskew = \"500ms\"");
    assert_eq!((web(&times).memory_ms, web(&times).skew_ms), (5_400_000, 500));
}

#[test]
fn mistakes_of_dates_are_reported() {
    for (keys, key, reason) in [
        (
            &[", since = 2026-12-01T10:00:00"][..],
            "relay[0].targets[1].since",
            "no time with an offset; write 2026-12-01T10:00:00Z",
        ),
        (&[", until = \"soon\""], "relay[0].targets[1].until", "expected a TOML datetime"),
        (
            &[", since = 2026-12-02T10:00:00Z, until = 2026-12-01T10:00:00Z"],
            "relay[0].targets[1].until",
            "not after since",
        ),
        (
            &[", gone = 2026-12-01T10:00:00Z"],
            "relay[0].targets[1].gone",
            "before until, or without one",
        ),
        (
            &["", ", since = 2026-12-01T10:00:00Z"],
            "relay[0].targets[2]",
            "the same target as relay[0].targets[1], at the same time",
        ),
    ] {
        let problems = Config::parse("pop.toml", &entries(keys)).unwrap_err();
        let is_it = |problem: &Problem| problem.key == key && problem.reason.contains(reason);
        assert!(problems.0.iter().any(is_it), "{keys:?} {problems}");
    }
    for (line, key, reason) in [
        ("memory = \"24\"", "relay[0].memory", "no length of time; write it as \"24h\""),
        ("memory = \"31d\"", "relay[0].memory", "out of range: it must be 1s to 30d"),
        ("skew = \"61s\"", "relay[0].skew", "out of range: it must be 0s to 1m"),
        ("memory = \"2s\"", "relay[0].skew", "not less than the memory"),
        ("targets_file = \"t.toml\"", "relay[0].targets", "leave it out here, or the file"),
    ] {
        let text = edit(&GOOD, "mss = 1400", &format!("mss = 1400\n{line}"));
        let problems = Config::parse("pop.toml", &text).unwrap_err();
        let is_it = |problem: &Problem| problem.key == key && problem.reason.contains(reason);
        assert!(problems.0.iter().any(is_it), "{line} {problems}");
    }
}

#[test]
fn too_many_dates_and_candidates_are_refused_and_times_without_a_target_named() {
    // Day by day, and with half an hour between.
    let restarts = |step: u64| -> Vec<String> {
        let at = |n: u64| crate::time::format_time(UnixTime::from_millis(n * step * 60_000));
        let entry = |n: u64| format!(", since = {}, until = {}", at(10 + 2 * n), at(11 + 2 * n));
        (0..9).map(entry).collect()
    };
    let problems = |step| {
        let restarts = restarts(step);
        let keys: Vec<_> = restarts.iter().map(String::as_str).collect();
        Config::parse("pop.toml", &entries(&keys)).err().map(|problems| problems.to_string())
    };
    assert_eq!(problems(24 * 60), None);
    let text = problems(30).unwrap();
    assert!(text.contains("more than 16 dates within the memory of 1d, from "), "{text}");
    let many: Vec<_> = (0..5)
        .map(|n| format!("{{ address = \"198.51.100.1{n}1:80\", since = 2026-12-01T1{n}:00:00Z }}"))
        .collect();
    let text = edit(&GOOD, SECOND, &format!("{SECOND}, {}", many.join(", ")));
    let problems = Config::parse("pop.toml", &text).unwrap_err().to_string();
    let reason = "at 2026-12-01T14:00:00Z a client may have 6 targets to be asked, and 4 are";
    assert!(problems.contains(reason), "{problems}");

    let only = "\"198.51.100.10:25\"";
    for (keys, warning) in [
        ("until = 2026-12-01T10:00:00Z", "from 2026-12-01T10:00:00Z on no target takes"),
        ("since = 2026-12-01T10:00:00Z", "until 2026-12-01T10:00:00Z no target takes"),
    ] {
        let entry = format!("{{ address = {only}, {keys} }}");
        let config = Config::parse("pop.toml", &edit(&GOOD, only, &entry)).unwrap();
        let [found] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
        assert!(found.key == "relay[1].targets" && found.reason.contains(warning), "{found}");
    }
}

const FILE: &str = r#"
serial = 7
memory = "2h"
skew = "1s"
[[target]]
address = "198.51.100.10:8443"
until = 2026-12-01T10:00:00Z
gone = 2026-12-01T10:00:04Z
[[target]]
address = "198.51.100.9:8443"
weight = 3
"#;

fn with_file(text: &str) -> Result<Config, crate::problem::Problems> {
    let config = edit(
        &GOOD,
        "targets = [\"198.51.100.10:8443\", \"198.51.100.9:8443\"]",
        "targets_file = \"web.toml\"",
    );
    let files = |name: &str| {
        assert_eq!(name, "web.toml");
        Ok(NamedFile { name: "dir/web.toml".to_owned(), text: text.to_owned() })
    };
    Config::parse_with("pop.toml", &config, &files)
}

#[test]
fn a_targets_file_is_read_and_written() {
    let config = with_file(FILE).unwrap();
    let relay = &config.relays[0];
    assert_eq!(relay.targets_file.as_deref(), Some("web.toml"));
    let list = &relay.targets;
    assert_eq!((list.serial, list.memory_ms, list.skew_ms), (7, 7_200_000, 1000));
    assert_eq!(list.entries.len(), 2);
    let again = TargetList::parse("again", &list.to_text()).unwrap();
    assert_eq!(&again, list);
    assert_eq!(again.to_text(), list.to_text());
}

#[test]
fn mistakes_of_a_targets_file_name_it() {
    for (from, to, key, reason) in [
        ("weight = 3", "weight = 0", "target[1].weight", "0 is out of range"),
        ("serial = 7", "serial = -1", "serial", "-1 is out of range"),
        ("198.51.100.9:8443", "here", "target[1].address", "is not ADDRESS:PORT"),
        ("weight = 3", "wait = 3", "target[1].wait", "unknown field `wait`"),
        ("memory = \"2h\"", "memory = 2", "memory", "invalid type"),
    ] {
        let problems = with_file(&edit(FILE, from, to)).unwrap_err();
        let is_it = |problem: &Problem| {
            problem.file == "dir/web.toml" && problem.key == key && problem.reason.contains(reason)
        };
        assert!(problems.0.iter().any(is_it), "{to} {problems}");
    }
    // What only the config knows is reported as its own.
    let problems = with_file(&edit(FILE, "198.51.100.9:8443", "100.64.8.9:8443")).unwrap_err();
    assert_eq!(problems.0[0].file, "pop.toml");
    assert_eq!(problems.0[0].key, "relay[0].targets");
    let files = |_: &str| Err("web.toml: cannot be read".to_owned());
    let config = GOOD.replace(
        "targets = [\"198.51.100.10:8443\", \"198.51.100.9:8443\"]",
        "targets_file = \"web.toml\"",
    );
    let problems = Config::parse_with("pop.toml", &config, &files).unwrap_err();
    assert_eq!(problems.0[0].key, "relay[0].targets_file");
}
