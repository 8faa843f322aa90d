//! A POP with tunnels, through the binary: the output of `check`, and reloads of tenants, agents
//! and token epochs.
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::common::{Config, Folder, Pop, anyrelay, stderr, stdout};
use anyrelay_core::time::{UnixTime, format_time};

struct Test {
    folder: Folder,
    config: PathBuf,
    metrics: SocketAddr,
}

impl Test {
    /// A POP with one tunnel, for the tenant acme with one agent.
    fn new() -> Test {
        let folder = Folder::new();
        let mut config = Config::new();
        config.services += "[[tunnel]]\nname = \"tun\"\nvip4 = \"203.0.113.20:443\"\n\
                            vip6 = \"[2001:db8::20]:443\"\n";
        let files = "id = 1\ntenants = \"tenants.toml\"\nclock = \"trusted\"\n";
        let path = folder.pop(&config);
        fs::write(&path, config.text().replace("id = 1\n", files)).unwrap();
        let test = Test { folder, config: path, metrics: config.metrics };
        test.change(&["tenant", "add", "FILE", "acme"]);
        test.issue("laptop");
        test
    }

    /// Runs a command with the tenants file as FILE.
    fn change(&self, arguments: &[&str]) {
        let file = self.folder.path("tenants.toml");
        let put = |argument: &&str| match *argument {
            "FILE" => file.to_str().unwrap().to_owned(),
            other => other.to_owned(),
        };
        let arguments: Vec<String> = arguments.iter().map(put).collect();
        let output = anyrelay(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    }

    fn issue(&self, name: &str) {
        let out = self.folder.path(name);
        let out = out.to_str().unwrap();
        self.change(&["agent", "issue", "FILE", "--tenant", "acme", "--name", name, "--out", out]);
    }

    fn rotate(&self, time: &str) {
        let keys = self.folder.path("keys.toml");
        let rotated = anyrelay(&["rotate-token", keys.to_str().unwrap(), "--not-before", time]);
        assert_eq!(rotated.status.code(), Some(0), "{}", stderr(&rotated));
    }

    /// Replaces a time in the key file.
    fn put_time(&self, from: &str, to: &str) {
        let keys = self.folder.path("keys.toml");
        let text = fs::read_to_string(&keys).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&keys, text.replace(from, to)).unwrap();
    }

    /// Code, stdout and stderr of `check`.
    fn check(&self) -> (Option<i32>, String, String) {
        let output = anyrelay(&["check", "--config", self.config.to_str().unwrap()]);
        (output.status.code(), stdout(&output), stderr(&output))
    }
}

/// In seconds since 1970.
fn an_hour_ago() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() - 3600
}

#[test]
fn check_lists_tunnels_and_epochs() {
    let test = Test::new();
    test.change(&["tenant", "add", "FILE", "zorg"]);
    test.issue("gone");
    test.change(&["agent", "revoke", "FILE", "--tenant", "acme", "--agent", "gone"]);
    let (code, output, _) = test.check();
    assert_eq!(code, Some(0));
    let lines: Vec<_> = output.lines().collect();
    assert!(lines[0].contains(": ok, 1 service, 1 tunnel, digest "), "{output}");
    let tunnel = "tunnel tun: vip 203.0.113.20:443 [2001:db8::20]:443, 2 tenants, 1 agent";
    assert_eq!(lines[1..], [tunnel, "token epoch 0: current"]);

    let epochs = |test: &Test| -> Vec<String> {
        test.check().1.lines().skip(2).map(str::to_owned).collect()
    };
    let earlier = format_time(UnixTime::from_millis(an_hour_ago() * 1000));
    test.rotate(&earlier);
    test.put_time(&earlier, "2001-01-01T00:00:00Z");
    let ended = "token epoch 0: ended 2001-01-02T00:00:00Z";
    assert_eq!(epochs(&test), [ended, "token epoch 1: current"]);
    test.rotate("2999-01-01T00:00:00Z");
    assert_eq!(
        epochs(&test),
        [
            "token epoch 1: current, accepted until 2999-01-02T00:00:00Z",
            "token epoch 2: accepted, current from 2999-01-01T00:00:00Z on",
        ]
    );
}

#[test]
fn check_reports_mistakes_in_the_tenants_file() {
    let test = Test::new();
    let path = test.folder.path("tenants.toml");
    let name = path.display();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let (code, _, output) = test.check();
    assert_eq!(code, Some(2));
    let start = format!("{name}: other users can read");
    assert!(output.starts_with(&start), "{output}");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(test.check().0, Some(0));

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("key = \"", "key = \"x")).unwrap();
    let (code, _, output) = test.check();
    assert_eq!(code, Some(2));
    assert!(output.starts_with(&format!("{name}: tenant[0].key: ")), "{output}");

    fs::remove_file(&path).unwrap();
    let (code, _, output) = test.check();
    assert_eq!(code, Some(2));
    let start = format!("{}: pop.tenants: {name}: cannot be read: ", test.config.display());
    assert!(output.starts_with(&start) && output.contains("`anyrelay tenant add"), "{output}");
}

#[test]
fn a_reload_takes_tenants_agents_and_epochs() {
    let test = Test::new();
    let mut pop = Pop::start(&test.config, test.metrics, &[]);
    let digest =
        |pop: &Pop| pop.metrics().label("anyrelay_config_info", "digest").unwrap().to_owned();
    let mut digests = vec![digest(&pop)];
    let metrics = pop.metrics();
    assert_eq!(metrics.label_names("anyrelay_token_epoch_current"), Some(vec![]));
    assert_eq!(metrics.sum("anyrelay_token_epoch_current", &[]), 0);
    assert_eq!(metrics.label("anyrelay_token_epoch_start_timestamp_seconds", "epoch"), Some("0"));
    assert_eq!(metrics.label_names("anyrelay_token_epoch_end_timestamp_seconds"), None);
    let up = [("service", "tun"), ("direction", "up")];
    assert_eq!(metrics.sum("anyrelay_service_packets_total", &up), 0);
    assert!(metrics.has("anyrelay_service_packets_total", &up));

    let epoch_start = an_hour_ago();
    let epoch_start_text = format_time(UnixTime::from_millis(epoch_start * 1000));
    let (mut reloads, mut refusals) = (0, 0);
    let mut reload = |pop: &mut Pop, is_taken: bool| {
        reloads += u64::from(is_taken);
        refusals += u64::from(!is_taken);
        let (result, count) = if is_taken { ("done", reloads) } else { ("refused", refusals) };
        pop.signal("-HUP");
        pop.wait_for(&format!("to reload ({result})"), |pop| {
            pop.metrics().sum("anyrelay_reloads_total", &[("result", result)]) == count
        });
    };
    for change in ["tenant", "agent", "revocation", "epoch"] {
        match change {
            "tenant" => test.change(&["tenant", "add", "FILE", "zorg"]),
            "agent" => test.issue("server"),
            "epoch" => test.rotate(&epoch_start_text),
            _ => {
                test.change(&["agent", "revoke", "FILE", "--tenant", "acme", "--agent", "laptop"]);
            }
        }
        reload(&mut pop, true);
        let digest = digest(&pop);
        assert!(!digests.contains(&digest), "the same digest after a new {change}");
        digests.push(digest);
    }
    let metrics = pop.metrics();
    assert_eq!(metrics.sum("anyrelay_token_epoch_current", &[]), 1);
    let one = [("epoch", "1")];
    let start = metrics.sum("anyrelay_token_epoch_start_timestamp_seconds", &one);
    assert_eq!(start, epoch_start);
    let end = metrics.sum("anyrelay_token_epoch_end_timestamp_seconds", &[("epoch", "0")]);
    assert_eq!(end, epoch_start + 86_400);
    assert!(!metrics.has("anyrelay_token_epoch_end_timestamp_seconds", &one));

    // A file that would end the previous epoch, whose tokens agents still use, is refused.
    test.put_time(&epoch_start_text, "2001-01-01T00:00:00Z");
    reload(&mut pop, false);
    assert!(pop.log().contains("tokens of epoch 0 of this file, which is"), "{}", pop.log());
    test.put_time("2001-01-01T00:00:00Z", &epoch_start_text);
    // So is one with a problem.
    test.folder.write("tenants.toml", "[[tenant]]\nid = 1\n");
    reload(&mut pop, false);
    assert!(pop.log().contains("tenants.toml: tenant[0].key: "), "{}", pop.log());
    assert_eq!(digest(&pop), digests[4]);
    pop.stop();
}
