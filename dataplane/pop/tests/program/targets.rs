//! `targets`, through the binary: what it writes, refuses and says, and that no change is lost.
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::SystemTime;

use crate::common::{Folder, anyrelay, stderr, stdout};
use anyrelay_core::config::{Target, TargetList, harm};
use anyrelay_core::time::{UnixTime, format_time, parse_time};
use serde_json::{Value, json};

const A: &str = "198.51.100.1:8443";
const B: &str = "198.51.100.2:8443";
const C: &str = "198.51.100.3:8443";
const MINUTE: u64 = 60_000;
const DAY: u64 = 86_400_000;

struct Test {
    folder: Folder,
    file: PathBuf,
}

impl Test {
    /// A targets file with A and B, written by hand.
    fn new() -> Test {
        let test = Test::empty();
        fs::write(&test.file, two()).unwrap();
        test
    }

    /// No file yet.
    fn empty() -> Test {
        let folder = Folder::new();
        Test { file: folder.path("targets.toml"), folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        anyrelay(&[&["targets", self.name()], arguments].concat())
    }

    /// The output of a command that succeeds without a warning.
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{arguments:?}");
        stdout(&output)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// The message of a command that fails with the code, and leaves the file as it is.
    fn bad(&self, arguments: &[&str], code: i32) -> String {
        let before = self.text();
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stdout(&output));
        assert_eq!(self.text(), before, "{arguments:?}");
        stderr(&output)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap_or_default()
    }

    fn read(&self) -> TargetList {
        TargetList::parse("targets.toml", &self.text()).unwrap()
    }

    fn name(&self) -> &str {
        self.file.to_str().unwrap()
    }
}

fn two() -> String {
    format!("serial = 4\n[[target]]\naddress = \"{A}\"\n[[target]]\naddress = \"{B}\"\n")
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime::from_millis(since.as_millis() as u64)
}

fn at(time: UnixTime) -> String {
    format_time(UnixTime::from_millis(time.as_millis().next_multiple_of(1000)))
}

fn entries<'a>(list: &'a TargetList, address: &str) -> Vec<&'a Target> {
    list.entries.iter().filter(|target| target.address.to_string() == address).collect()
}

#[test]
fn add_makes_the_file_and_then_dates_what_it_adds() {
    let test = Test::empty();
    assert!(test.bad(&["list"], 1).contains("no such file; `anyrelay targets FILE add"));
    assert!(test.bad(&["drain", A], 1).contains("no such file; `anyrelay targets FILE add"));
    let text = test.good(&["add", A, B, "--weight", "10", "--dry-run"]);
    assert!(text.contains(&format!("not made; it would have {A}, {B}")), "{text}");
    assert!(!test.file.exists());

    test.good(&["add", A, B, "--weight", "10"]);
    let first = test.read();
    assert_eq!((first.serial, first.entries.len(), first.events().len()), (1, 2, 0));
    assert_eq!(fs::metadata(&test.file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(test.text().matches("weight = 10").count(), 2);

    // The weights are in the numbers of the file.
    let before = now();
    let text = test.good(&["add", C, "--weight", "10"]);
    assert!(text.contains("new connections of 33.3% of clients go to another target"), "{text}");
    assert!(text.contains("now put this same file on every POP, before 2"), "{text}");
    let second = test.read();
    assert_eq!(test.text().matches("weight = 10").count(), 3);
    assert_eq!(second.serial, 2);
    assert_eq!(harm(&first, &second, now()), None);
    let since = entries(&second, C)[0].since;
    let earliest = before.plus_millis(MINUTE + 6000);
    assert!(since >= earliest && since <= earliest.plus_millis(10_000), "{}", test.text());
    assert!(test.bad(&["add", A], 1).contains(&format!("{A} takes connections already")));
}

#[test]
fn drain_remove_and_weight_set_dates() {
    let test = Test::new();
    let soon = now().plus_millis(3_600_000);
    let soon = (at(soon), at(soon.plus_millis(DAY)), at(soon.plus_millis(6000)));
    let text = test.good(&["drain", B, "--at", &soon.0]);
    let expected = format!("no new connections from {} on; those that it has go on, until", soon.0);
    assert!(text.contains(&expected) && text.contains(&soon.1), "{text}");
    assert_eq!(entries(&test.read(), B)[0].until, parse_time(&soon.0).unwrap());

    // A second change before the first one comes into force.
    let text = test.good(&["add", B]);
    assert!(text.contains(&format!("{}: no change any more", soon.0)), "{text}");
    assert_eq!(test.read().entries, TargetList::parse("t", &two()).unwrap().entries);

    test.good(&["weight", B, "3", "--at", &soon.0]);
    let list = test.read();
    let weights: Vec<_> = entries(&list, B).iter().map(|target| target.weight).collect();
    assert_eq!(weights, [1, 3]);
    let text = test.good(&["weight", B, "3", "--at", &soon.0]);
    assert!(text.contains(&format!("nothing to do: {B}: takes new connections, weight 1")));

    let text = test.good(&["remove", B, "--gone", "--at", &soon.0]);
    assert!(text.contains(&format!("those that it has are given up at {}", soon.2)), "{text}");
    let list = test.read();
    assert_eq!(entries(&list, B).len(), 1);
    assert_eq!(entries(&list, B)[0].gone, parse_time(&soon.2).unwrap());
    assert_eq!(list.serial, 8);
}

#[test]
fn what_is_over_leaves_the_file() {
    let test = Test::empty();
    let ended = |ms: u64| at(now().minus_millis(ms));
    let (young, old) = (ended(DAY - MINUTE), ended(2 * DAY));
    let entry = |address, rest: &str| format!("[[target]]\naddress = \"{address}\"\n{rest}\n");
    let text = [
        entry(A, ""),
        entry(B, &format!("until = {young}")),
        entry(C, &format!("until = {}\ngone = {}", ended(2 * MINUTE), ended(MINUTE))),
    ];
    fs::write(&test.file, text.concat()).unwrap();
    assert!(test.good(&["drain", B]).contains("nothing to do"));
    assert!(test.good(&["remove", B]).contains(&format!("nothing to do: {B}: draining")));
    assert_eq!(test.text(), text.concat());
    let said = test.good(&["remove", C]);
    assert!(said.contains(&format!("{C}: not in the file")), "{said}");
    let list = test.read();
    assert_eq!((list.serial, list.addresses().count()), (1, 2));

    let over = text.concat().replace(&young, &old);
    fs::write(&test.file, over).unwrap();
    let said = test.good(&["weight", A, "2"]);
    assert!(said.contains(&format!("{B}: not in the file any more")), "{said}");
}

#[test]
fn changes_that_break_connections_are_refused() {
    let test = Test::new();
    let past = at(now().minus_millis(MINUTE));
    let reason = test.bad(&["drain", B, "--at", &past], 2);
    let earliest = reason.split("write --at ").nth(1).unwrap().split(' ').next().unwrap();
    let earliest = parse_time(earliest).unwrap();
    assert!(earliest > now() && earliest < now().plus_millis(10_000), "{reason}");
    // Sooner than the lead is at one's own risk.
    let soon = at(now().plus_millis(20_000));
    let output = test.run(&["drain", B, "--at", &soon, "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("is sooner than the lead permits"), "{}", stderr(&output));
    assert_eq!(stderr(&test.run(&["drain", B, "--at", &soon, "--lead", "5s", "--dry-run"])), "");

    assert!(test.bad(&["drain", C], 1).contains(&format!("{C} is no target of this list")));
    assert!(test.bad(&["weight", C, "2"], 1).contains("`anyrelay targets"));
    assert!(test.bad(&["drain", A, B], 1).contains("no target would take connections from 2"));
    let text = test.good(&["drain", A, B, "--last", "--dry-run"]);
    assert!(text.contains("no target takes connections, new ones are dropped"), "{text}");
    assert!(test.bad(&["add", "[2001:db8::1]:80"], 1).contains("another family"));
    assert!(test.bad(&["add", "224.0.0.1:80"], 1).contains("224.0.0.1 cannot be a target"));
    for wrong in [
        &["add", "198.51.100.9"][..],
        &["add", C, "--weight", "0"],
        &["weight", A, "1001"],
        &["drain", A, "--lead", "1"],
        &["drain", A, "--at", "tomorrow"],
        &["add"],
    ] {
        assert!(!test.bad(wrong, 2).is_empty());
    }
}

#[test]
fn too_many_changes_say_when_there_is_room() {
    let test = Test::new();
    for (n, lead) in [(3, "1m"), (4, "2m"), (5, "3m")] {
        test.good(&["add", &format!("198.51.100.{n}:80"), "--lead", lead]);
    }
    let reason = test.bad(&["add", "198.51.100.6:80", "--lead", "150s"], 1);
    assert!(reason.contains("5 targets to be asked, and 4 are supported"), "{reason}");
    let last = test.read().events()[2];
    assert!(reason.contains(&format!("the first date that is possible is --at {}", at(last))));
    // Together with the last one it is no more.
    test.good(&["add", "198.51.100.6:80", "198.51.100.7:80", "--at", &at(last)]);
    assert_eq!(test.read().events().len(), 3);
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    let test = Test::new();
    let when = at(now().plus_millis(3_600_000));
    let dry = test.good(&["drain", B, "--at", &when, "--dry-run"]);
    assert_eq!(test.text(), two());
    assert!(dry.contains("not written; it would have serial 5"), "{dry}");
    let value = test.json(&["drain", B, "--at", &when, "--dry-run"]);
    assert_eq!((&value["changed"], &value["written"]), (&json!(true), &json!(false)));
    assert_eq!(test.text(), two());
    let wet = test.good(&["drain", B, "--at", &when]);
    let lines = |text: &str| -> Vec<String> { text.lines().skip(1).map(str::to_owned).collect() };
    assert_eq!(lines(&wet)[..lines(&dry).len()], lines(&dry));
}

#[test]
fn json_has_states_dates_and_shares() {
    let test = Test::new();
    let date = now().plus_millis(3_600_000);
    let value = test.json(&["weight", B, "3", "--at", &at(date)]);
    assert_eq!((&value["changed"], &value["written"]), (&json!(true), &json!(true)));
    assert_eq!((&value["at"], &value["file"]), (&json!(at(date)), &json!(test.name())));
    let distribute_by = parse_time(&at(date)).unwrap().minus_millis(3000);
    assert_eq!(value["distribute_by"], json!(format_time(distribute_by)));
    assert_eq!(value["list"]["serial"], json!(5));
    let value = test.json(&["weight", B, "3", "--at", &at(date)]);
    assert_eq!((&value["changed"], &value["at"]), (&json!(false), &Value::Null));

    let value = test.json(&["list"]);
    assert_eq!((&value["memory_ms"], &value["skew_ms"]), (&json!(DAY), &json!(3000)));
    assert_eq!(value["most_candidates"], json!(2));
    assert_eq!(
        value["events"],
        json!([{
            "date": at(date), "moved_share": 0.25, "targets": 2, "begin": [], "end": [],
            "weight": [{ "address": B, "weight": 3 }],
        }])
    );
    let entry = |weight, since, until| {
        json!({
            "weight": weight, "since": since, "until": until, "gone": null,
        })
    };
    assert_eq!(
        value["targets"][1],
        json!({
            "address": B, "state": "takes", "state_date": null,
            "entries": [
                entry(1, Value::Null, json!(at(date))),
                entry(3, json!(at(date)), Value::Null)
            ],
        })
    );
    test.good(&["drain", A, "--at", &at(date)]);
    let later = at(date.plus_millis(MINUTE));
    let value = test.json(&["list", "--at", &later]);
    let target = &value["targets"][0];
    assert_eq!((&value["time"], &target["state"]), (&json!(later), &json!("draining")));
    assert_eq!(target["state_date"], json!(at(date.plus_millis(DAY))));
    let text = test.good(&["list", "--at", &later]);
    assert!(text.contains(&format!("{A}: draining: no new connections, asked until ")), "{text}");
}

#[test]
fn of_two_commands_at_once_none_is_lost() {
    let test = Test::new();
    let when = at(now().plus_millis(3_600_000));
    thread::scope(|scope| {
        for n in 10..22 {
            let (test, when) = (&test, &when);
            scope.spawn(move || {
                test.good(&["add", &format!("198.51.100.{n}:80"), "--at", when]);
            });
        }
    });
    let list = test.read();
    assert_eq!((list.serial, list.entries.len()), (4 + 12, 2 + 12));
    let left: Vec<_> = fs::read_dir(test.folder.path("")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_broken_file_is_left_as_it_is() {
    let test = Test::empty();
    for (text, key) in [
        ("serial = \"x\"\n", "serial"),
        (&two().replace(B, A), "target[1]"),
        (&two().replace(B, "nowhere"), "target[1].address"),
    ] {
        fs::write(&test.file, text).unwrap();
        for arguments in [&["list"][..], &["add", C], &["drain", A], &["weight", A, "2"]] {
            let reason = test.bad(arguments, 2);
            assert!(reason.starts_with(&format!("{}: {key}: ", test.name())), "{reason}");
        }
    }
}

#[test]
fn the_file_keeps_its_mode() {
    let test = Test::new();
    for mode in [0o640, 0o600, 0o664] {
        fs::set_permissions(&test.file, Permissions::from_mode(mode)).unwrap();
        let is_heavy = test.read().entries.iter().any(|target| target.weight == 2);
        test.good(&["weight", B, if is_heavy { "1" } else { "2" }]);
        assert_eq!(fs::metadata(&test.file).unwrap().permissions().mode() & 0o777, mode);
    }
    assert_eq!(test.read().serial, 7);
}
