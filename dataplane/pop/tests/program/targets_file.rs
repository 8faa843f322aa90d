//! A POP with a targets file: it reads the file again when it changes, and says what it thinks of
//! the change.
use std::fs;
use std::path::Path;

use crate::common::{Config, Folder, Pop, anyrelay, stderr, stdout};

/// Replaces the file as the commands do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

fn reloads(pop: &Pop, result: &str) -> u64 {
    pop.metrics().sum("anyrelay_reloads_total", &[("result", result)])
}

fn digest(pop: &Pop, name: &str) -> String {
    pop.metrics().label(name, "digest").unwrap().to_owned()
}

#[test]
fn a_pop_follows_its_targets_file() {
    let folder = Folder::new();
    let mut config = Config::new();
    let inline = "targets = [\"198.51.100.10:8443\"]";
    assert!(config.services.contains(inline));
    config.services = config.services.replace(inline, "targets_file = \"web.toml\"");
    let (path, file) = (folder.pop(&config), folder.path("web.toml"));
    let run = |arguments: &[&str]| {
        let output = anyrelay(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    let missing = anyrelay(&["check", "--config", path.to_str().unwrap()]);
    assert!(stderr(&missing).contains("relay[0].targets_file: "), "{}", stderr(&missing));
    let name = file.to_str().unwrap();
    run(&["targets", name, "add", "198.51.100.10:8443"]);
    let mut pop = Pop::start(&path, config.metrics, &[]);
    let (written, force) = ("anyrelay_targets_info", "anyrelay_targets_in_force_info");
    let (first, in_force) = (digest(&pop, written), digest(&pop, force));

    // A change that comes later: known at once, and in force then.
    run(&["targets", name, "add", "198.51.100.11:8443", "--lead", "1h"]);
    pop.wait_for("to read the targets again", |pop| reloads(pop, "done") == 1);
    assert_ne!(digest(&pop, written), first);
    assert_eq!(digest(&pop, force), in_force);
    assert_eq!(pop.metrics().sum("anyrelay_targets_late_total", &[]), 0);
    assert_eq!(pop.metrics().sum("anyrelay_targets_serial", &[("service", "web")]), 2);
    let takes = |pop: &Pop, target: &str| {
        pop.metrics().sum("anyrelay_target_takes_connections", &[("target", target)])
    };
    assert_eq!(takes(&pop, "198.51.100.10:8443"), 1);
    assert_eq!(takes(&pop, "198.51.100.11:8443"), 0);
    let said = run(&["check", "--config", path.to_str().unwrap(), "--at", "2199-01-01T00:00:00Z"]);
    let both = "new connections go to 198.51.100.10:8443, 198.51.100.11:8443";
    assert!(said.contains(both), "{said}");

    // A broken file is refused, and what runs stays.
    let good = fs::read_to_string(&file).unwrap();
    replace(&file, &good.replace("198.51.100.11:8443", "nonsense"));
    pop.wait_for("to refuse the targets", |pop| reloads(pop, "refused") == 1);
    let log = pop.log();
    assert!(log.contains("web.toml: target[1].address: "), "{log}");
    assert_eq!(pop.metrics().sum("anyrelay_targets_serial", &[("service", "web")]), 2);

    // One that is late is taken, counted and told.
    let late = "serial = 9\n[[target]]\naddress = \"198.51.100.12:8443\"\n";
    replace(&file, late);
    pop.wait_for("to take the late change", |pop| reloads(pop, "done") == 2);
    assert_eq!(pop.metrics().sum("anyrelay_targets_late_total", &[]), 1);
    assert!(pop.log().contains("198.51.100.10:8443 takes connections and is no longer named"));
    assert_ne!(digest(&pop, force), in_force);
    // The one of before is still asked, and counted.
    let of_old = [("target", "198.51.100.10:8443"), ("direction", "up")];
    assert_eq!(pop.metrics().sum("anyrelay_target_packets_total", &of_old), 0);
    assert_eq!(takes(&pop, "198.51.100.10:8443"), 0);
    assert_eq!(takes(&pop, "198.51.100.12:8443"), 1);
    pop.stop();
}

#[test]
fn map_says_where_segments_may_have_to_go() {
    let folder = Folder::new();
    let mut config = Config::new();
    let inline = "targets = [\"198.51.100.10:8443\"]";
    let dated = "targets = [\"198.51.100.10:8443\", { address = \"198.51.100.11:8443\", since = \
                 2026-11-01T00:00:00Z }]";
    config.services = config.services.replace(inline, dated);
    let path = folder.pop(&config);
    let map = |client: &str, at: &str| {
        let path = path.to_str().unwrap();
        let output = anyrelay(&["map", "--config", path, "--client", client, "--at", at]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let mut moved = 0;
    for port in 40_000..40_020 {
        let client = format!("192.0.2.7:{port}");
        let client = client.replace("192.0.2", "198.18.9");
        let [before, after, late] =
            ["2026-10-01T00:00:00Z", "2026-11-01T12:00:00Z", "2026-11-03T00:00:00Z"]
                .map(|at| map(&client, at));
        assert!(before.trim_end().ends_with("target 198.51.100.10:8443"), "{before}");
        if late.contains("target 198.51.100.11:8443") {
            moved += 1;
            let both = "target 198.51.100.11:8443 candidates 198.51.100.10:8443 198.51.100.11:8443";
            assert!(after.trim_end().ends_with(both), "{after}");
        } else {
            assert_eq!((&after, &late), (&before, &before));
        }
    }
    assert!((1..20).contains(&moved), "{moved}");
}
