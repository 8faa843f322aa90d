//! `anyrelay health`, with real servers, each test in a network namespace of its own: targets files
//! have no loopback addresses.
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::common::health::{HTTP, Lab, Server, alone, last, now, replace, takes, target};
use crate::common::{Folder, anyrelay, stderr, stdout};
use anyrelay_core::config::TargetList;

#[test]
fn a_target_goes_out_and_comes_back() {
    alone("a_target_goes_out_and_comes_back", || {
        let mut lab = Lab::new(3, "kind = \"http\"\npath = \"/up\"\nhost = \"example.org\"");
        let servers = [1, 2, 3].map(Server::start);
        lab.start(&[]);
        lab.wait_for_checks(&[1, 2, 3], 3);
        assert_eq!(lab.list().serial, 1);
        assert!(servers.iter().all(|server| server.asked.load(Ordering::Relaxed) >= 3));
        // A page that fails, not a port.
        servers[1].answer(500);
        let before = now();
        lab.wait_for("the second to go out", |lab| !takes(&lab.list(), 2));
        let (list, after) = (lab.list(), now());
        let out = last(&list, 2);
        // The lead, and twice the skew, up to a whole second.
        assert!(out.until >= before.plus_millis(300), "{out:?}");
        assert!(out.until <= after.plus_millis(300 + 1000), "{out:?}");
        assert!(out.until.as_millis().is_multiple_of(1000));
        assert_eq!(out.gone, out.until.plus_millis(100));
        assert_eq!(list.serial, 2);
        assert!(takes(&list, 1) && takes(&list, 3));
        // The file stays as readable as it was.
        let mode = |name: &str| fs::metadata(lab.folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode("web.toml") & 0o777, 0o644);
        // Before its date, it would only be taken back.
        lab.wait_for("its end", |_| now() > out.until);
        servers[1].answer(204);
        lab.wait_for("the second to come back", |lab| takes(&lab.list(), 2));
        let (list, back) = (lab.list(), last(&lab.list(), 2));
        assert!(back.since > out.until && list.serial == 3, "{list:?}");
        assert_eq!(back.weight, 2);
        let file = [("file", "web.toml")];
        lab.wait_for("events", |lab| lab.count("events_total", &file) == 2);
        let metrics = lab.metrics();
        assert_eq!(metrics.sum("anyrelay_health_up", &file), 3);
        assert_eq!(metrics.sum("anyrelay_health_takes_connections", &file), 3);
        let written = metrics.sum("anyrelay_health_last_write_timestamp_seconds", &file);
        assert!(written >= before.as_millis() / 1000 && written <= now().as_millis() / 1000);
        let failed = [("target", "198.51.100.2:8080"), ("result", "failure")];
        assert!(metrics.sum("anyrelay_health_checks_total", &failed) >= 3);
        lab.stop();
        let log = lab.log();
        assert!(log.contains("taken out") && log.contains("brought back"), "{log}");
        assert!(log.contains("status 500"), "{log}");
    });
}

#[test]
fn targets_that_die_together_go_out_together_down_to_the_floor() {
    alone("targets_that_die_together_go_out_together_down_to_the_floor", || {
        let mut lab = Lab::new(4, "kind = \"tcp\"\nfloor = \"50%\"");
        let [first, second, third, _fourth] = [1, 2, 3, 4].map(Server::start);
        lab.start(&[]);
        lab.wait_for_checks(&[1, 2, 3, 4], 2);
        first.stop();
        second.stop();
        lab.wait_for("both to go out", |lab| !takes(&lab.list(), 1) && !takes(&lab.list(), 2));
        let until = |n| last(&lab.list(), n).until;
        // Two dates where the machine was so busy that one was decided long before the other.
        assert!(lab.list().serial <= 3);
        assert_eq!(lab.list().serial == 2, until(1) == until(2));
        third.stop();
        let floor = [("reason", "floor")];
        lab.wait_for("the floor", |lab| lab.count("withheld_total", &floor) == 1);
        let serial = lab.list().serial;
        lab.wait_for_checks(&[1, 2, 3, 4], 4);
        assert_eq!(lab.list().serial, serial);
        assert!(takes(&lab.list(), 3));
        let third = ("target", "198.51.100.3:8080");
        let metrics = lab.metrics();
        assert_eq!(metrics.sum("anyrelay_health_up", &[third]), 0);
        assert_eq!(metrics.sum("anyrelay_health_takes_connections", &[third]), 1);
        assert_eq!(metrics.sum("anyrelay_health_withheld_total", &floor), 1);
        let text = lab.get("/status/text").unwrap();
        let line = text.lines().find(|line| line.contains("198.51.100.3")).unwrap();
        assert!(
            line.contains("down") && line.contains("takes") && line.contains("floor"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&lab.get("/status").unwrap()).unwrap();
        assert_eq!(json[0]["targets"][2]["is_up"], false);
        assert_eq!(json[0]["targets"][0]["connections"], "out");
        assert_eq!(json[0]["downs"], 2);
        // One is back, and makes room.
        let _first = Server::start(1);
        lab.wait_for("the third to go out", |lab| !takes(&lab.list(), 3));
        assert!(takes(&lab.list(), 1));
        lab.stop();
    });
}

#[test]
fn a_target_that_flaps_does_not_fill_the_file() {
    alone("a_target_that_flaps_does_not_fill_the_file", || {
        let mut lab = Lab::new(3, "kind = \"http\"\nrise = 1\nfall = 2");
        let servers = [1, 2, 3].map(Server::start);
        lab.start(&[]);
        for _ in 0..5 {
            servers[0].answer(500);
            lab.wait_for("it to go out", |lab| !takes(&lab.list(), 1));
            // Until it is gone, as a target that is back for moments alone.
            let gone = last(&lab.list(), 1).gone;
            lab.wait_for("it to be gone", |_| now() > gone);
            servers[0].answer(200);
            lab.wait_for("it to come back", |lab| takes(&lab.list(), 1));
        }
        let list = lab.list();
        assert!(list.serial >= 11 && list.events().len() < 6, "{list:?}");
        assert_eq!(last(&list, 1).weight, 1);
        lab.stop();
    });
}

#[test]
fn what_an_operator_drained_stays_out() {
    alone("what_an_operator_drained_stays_out", || {
        let mut lab = Lab::new(4, "kind = \"tcp\"");
        let [_first, _second, third, _fourth] = [1, 2, 3, 4].map(Server::start);
        lab.targets(&["drain", "198.51.100.1:8080", "--lead", "0s"]);
        lab.targets(&["remove", "--gone", "198.51.100.2:8080", "--lead", "0s"]);
        lab.start(&[]);
        lab.wait_for_checks(&[3, 4], 2);
        third.stop();
        lab.wait_for("the third to go out", |lab| !takes(&lab.list(), 3));
        // The operator does not want it back.
        lab.wait_for("it to be gone", |lab| now() > last(&lab.list(), 3).gone.plus_millis(1000));
        lab.targets(&["remove", "198.51.100.3:8080", "--lead", "0s"]);
        let list = lab.list();
        assert!(!list.addresses().any(|address| address == target(3)), "{list:?}");
        let _third = Server::start(3);
        lab.wait_for_checks(&[4], 5);
        assert_eq!(lab.list(), list);
        assert_eq!(
            fs::read_to_string(lab.folder.path("web.toml.health"))
                .unwrap()
                .matches("[[out]]")
                .count(),
            0
        );
        assert_eq!(lab.metrics().by("anyrelay_health_up", "target").len(), 1);
        // It does: it is checked again.
        lab.targets(&["add", "198.51.100.3:8080", "--lead", "0s"]);
        lab.wait_for("two checked targets", |lab| {
            lab.metrics().by("anyrelay_health_up", "target").len() == 2
        });
        lab.stop();
    });
}

#[test]
fn what_health_took_out_comes_back_after_a_restart() {
    alone("what_health_took_out_comes_back_after_a_restart", || {
        let mut lab = Lab::new(2, "kind = \"tcp\"");
        let [first, _second] = [1, 2].map(Server::start);
        lab.start(&[]);
        lab.wait_for_checks(&[1, 2], 1);
        first.stop();
        lab.wait_for("the first to go out", |lab| !takes(&lab.list(), 1));
        lab.stop();
        let _first = Server::start(1);
        let serial = lab.list().serial;
        lab.start(&[]);
        lab.wait_for("the first to come back", |lab| takes(&lab.list(), 1));
        assert_eq!(lab.list().serial, serial + 1);
        lab.stop();
    });
}

#[test]
fn commands_check_and_are_killed_with_their_children() {
    alone("commands_check_and_are_killed_with_their_children", || {
        let mut lab = Lab::new(2, "kind = \"command\"");
        let check = lab.folder.write(
            "check",
            "#!/bin/sh\ntest \"$1:$2\" != 198.51.100.1:8080 || { sleep 3599 & wait; }\n",
        );
        fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).unwrap();
        let (check, copy) = (check.display(), lab.folder.path("copy.toml"));
        let new = lab.folder.path("copy.new");
        let more = format!(
            "command = [\"{check}\", \"{{address}}\", \"{{port}}\"]\nfall = 2\n\
             after = 'cp \"$ANYRELAY_TARGETS_FILE\" {} && mv {} {}'\n",
            new.display(),
            new.display(),
            copy.display()
        );
        let text = fs::read_to_string(lab.config()).unwrap();
        let slow = "timeout = \"1s\"\ninterval = \"1s\"\nlead = \"30s\"\n";
        let fast = "timeout = \"500ms\"\ninterval = \"500ms\"\nlead = \"200ms\"\n";
        assert!(text.contains(fast));
        lab.folder.write("health.toml", text.replace(fast, slow) + &more);
        lab.start(&[]);
        lab.wait_for("the first to go out", |lab| !takes(&lab.list(), 1));
        assert!(lab.log().contains("not done in time"), "{}", lab.log());
        let done = [("result", "done")];
        lab.wait_for("the copy", |lab| lab.count("after_total", &done) == 1);
        assert_eq!(fs::read_to_string(&copy).unwrap(), fs::read_to_string(lab.file()).unwrap());
        lab.stop();
        // No child is left: in this namespace no one else has such a command.
        let left = Command::new("pgrep")
            .args([
                "--ns",
                &std::process::id().to_string(),
                "--nslist",
                "net",
                "-f",
                "^sleep 3599$",
            ])
            .output()
            .unwrap();
        assert_eq!(stdout(&left), "");
    });
}

#[test]
fn a_broken_file_is_left_alone_until_it_is_mended() {
    alone("a_broken_file_is_left_alone_until_it_is_mended", || {
        let mut lab = Lab::new(2, "kind = \"tcp\"\nafter = \"exit 3\"");
        let [first, _second] = [1, 2].map(Server::start);
        lab.start(&[]);
        lab.wait_for_checks(&[1, 2], 1);
        let good = lab.list();
        replace(&lab.file(), "serial = broken\n");
        lab.wait_for("the problem", |lab| lab.count("file_usable", &[]) == 0);
        first.stop();
        lab.wait_for("a write that fails", |lab| lab.count("write_failures_total", &[]) >= 1);
        assert_eq!(fs::read_to_string(lab.file()).unwrap(), "serial = broken\n");
        let status = lab.get("/status/text").unwrap();
        assert!(status.contains("problem: ") && status.contains("web.toml"), "{status}");
        lab.write(&TargetList { serial: 40, ..good });
        lab.wait_for("the first to go out", |lab| lab.list().serial == 41);
        assert!(!takes(&lab.list(), 1));
        assert_eq!(lab.count("file_usable", &[]), 1);
        let failed = [("result", "failed")];
        lab.wait_for("a distribution that fails", |lab| lab.count("after_total", &failed) >= 1);
        lab.stop();
    });
}

#[test]
fn it_waits_for_the_lock_and_reads_the_file_under_it() {
    alone("it_waits_for_the_lock_and_reads_the_file_under_it", || {
        let mut lab = Lab::new(3, "kind = \"tcp\"");
        let [first, _second, _third] = [1, 2, 3].map(Server::start);
        lab.start(&[]);
        lab.wait_for_checks(&[1, 2, 3], 1);
        // As a command that changes the file.
        let folder = lab.file().parent().unwrap().to_owned();
        let mut holder = Command::new("flock")
            .args([folder.to_str().unwrap(), "-c", "echo held; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut held = [0; 5];
        holder.stdout.as_mut().unwrap().read_exact(&mut held).unwrap();
        first.stop();
        lab.wait_for("it to be down", |lab| lab.count("up", &[]) == 2);
        // The lock is waited for up to 10 s.
        thread::sleep(Duration::from_secs(1));
        assert_eq!(lab.list().serial, 1);
        // What the other command wrote stays.
        let list = TargetList { serial: 77, ..lab.list() };
        lab.write(&list);
        drop(holder.stdin.take());
        holder.wait().unwrap();
        lab.wait_for("the first to go out", |lab| lab.list().serial == 78);
        assert!(!takes(&lab.list(), 1));
        lab.stop();
    });
}

#[test]
fn a_dry_run_writes_nothing_and_once_prints_a_table() {
    alone("a_dry_run_writes_nothing_and_once_prints_a_table", || {
        let mut lab = Lab::new(3, "kind = \"tcp\"");
        let [first, second] = [1, 2].map(Server::start);
        let before = fs::read_to_string(lab.file()).unwrap();
        let config = lab.config();
        let once = |more: &[&str]| {
            anyrelay(&[&["health", "--once", "--config", config.to_str().unwrap()], more].concat())
        };
        let output = once(&[]);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{text}{}", stderr(&output));
        let line = |n: u8| text.lines().find(|line| line.contains(&target(n).to_string())).unwrap();
        assert!(line(1).contains(" up ") && line(3).contains(" down "), "{text}");
        assert!(line(3).contains("connection refused"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&stdout(&once(&["--json"]))).unwrap();
        assert_eq!(json[0]["targets"][0]["is_up"], true);
        assert_eq!(json[0]["targets"][2]["last_failure"], "connection refused");
        let third = Server::start(3);
        assert_eq!(once(&[]).status.code(), Some(0));

        lab.start(&["--dry-run"]);
        lab.wait_for_checks(&[1, 2, 3], 1);
        third.stop();
        lab.wait_for("the log", |lab| lab.log().contains("dry run, nothing is written: out"));
        lab.wait_for_checks(&[1, 2, 3], 4);
        assert_eq!(fs::read_to_string(lab.file()).unwrap(), before);
        assert!(!lab.folder.path("web.toml.health").exists());
        assert_eq!(lab.count("dry_run", &[]), 1);
        assert_eq!(lab.log().matches("nothing is written: out").count(), 1, "{}", lab.log());
        lab.stop();
        drop((first, second));
    });
}

#[test]
fn a_reload_takes_the_new_config_or_keeps_the_old_one() {
    alone("a_reload_takes_the_new_config_or_keeps_the_old_one", || {
        let mut lab = Lab::new(2, "kind = \"http\"");
        let servers = [1, 2].map(Server::start);
        lab.start(&[]);
        lab.wait_for_checks(&[1, 2], 1);
        let good = fs::read_to_string(lab.config()).unwrap();
        lab.folder.write("health.toml", format!("{good}rise = 0\n"));
        lab.signal("-HUP");
        let refused = [("result", "refused")];
        lab.wait_for("the refusal", |lab| lab.count("reloads_total", &refused) == 1);
        assert!(lab.log().contains("check[0].rise: 0 is out of range"), "{}", lab.log());
        lab.folder.write("health.toml", good.replace(HTTP, "127.0.0.1:9102"));
        lab.signal("-HUP");
        lab.wait_for("the refusal", |lab| lab.count("reloads_total", &refused) == 2);
        servers[0].answer(404);
        lab.wait_for("the first to go out", |lab| !takes(&lab.list(), 1));
        // Now 404 is good.
        lab.folder.write("health.toml", format!("{good}status = [404, 404]\nfloor = 1\n"));
        servers[1].answer(404);
        lab.signal("-HUP");
        let done = [("result", "done")];
        lab.wait_for("the reload", |lab| lab.count("reloads_total", &done) == 1);
        lab.wait_for("the first to come back", |lab| takes(&lab.list(), 1));
        assert!(takes(&lab.list(), 2));
        lab.stop();
    });
}

#[test]
fn mistakes_are_printed_with_exit_code_2() {
    let folder = Folder::new();
    let config =
        folder.write("health.toml", "[[check]]\ntargets_file = \"a.toml\"\nkind = \"udp\"\n");
    let output = anyrelay(&["health", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("health.toml: check[0].kind: unknown variant"),
        "{}",
        stderr(&output)
    );
    let config =
        folder.write("health.toml", "[[check]]\ntargets_file = \"a.toml\"\nkind = \"tcp\"\n");
    let output = anyrelay(&["health", "--once", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("check[0].targets_file: "), "{}", stderr(&output));
    let output = anyrelay(&["health", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
}
