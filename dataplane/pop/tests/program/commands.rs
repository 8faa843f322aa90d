//! `check`, `keygen`, `map` and the usage, through the binary: output and exit codes.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::{Config, Folder, anyrelay, service, stderr, stdout};
use serde_json::Value;

#[test]
fn keygen_writes_a_private_file_and_never_overwrites() {
    let folder = Folder::new();
    let path = folder.path("keys.toml");
    let name = path.to_str().unwrap();
    let made = anyrelay(&["keygen", name]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();

    let again = anyrelay(&["keygen", name]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("exists and is left as it is"), "{}", stderr(&again));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let other = folder.path("other.toml");
    assert!(anyrelay(&["keygen", other.to_str().unwrap()]).status.success());
    assert_ne!(fs::read_to_string(other).unwrap(), text, "keys must differ");
    let nowhere = folder.path("none/keys.toml");
    assert_eq!(anyrelay(&["keygen", nowhere.to_str().unwrap()]).status.code(), Some(1));
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    for arguments in [
        &[][..],
        &["fly"],
        &["run"],
        &["check"],
        &["keygen"],
        &["probe"],
        &["probe", "198.51.100.10:443", "--vip", "203.0.113.10:80"],
        &["probe", "198.51.100.10:443", "--mode", "pool", "--return", "direct"],
        &["map", "--config", "x"],
        &["map", "--config", "x", "--client", "10.0.0.1"],
        &["map", "--config", "x", "--client", "10.0.0.1:5", "--egress", "10.0.0.2:5"],
        &["map", "--config", "x", "--egress", "10.0.0.1:5", "--tsval", "1"],
    ] {
        let output = anyrelay(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let output = anyrelay(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn check_reports_every_mistake_with_file_key_and_reason() {
    let folder = Folder::new();
    let good = Config::new().text();
    let path = folder.pop(&Config::new());
    let name = path.to_str().unwrap();
    let output = anyrelay(&["check", "--config", name]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with(&format!("{name}: ok, 1 service, digest ")));

    assert!(!stdout(&output).contains("fragments"));

    folder.write("pop.toml", good.replace("fragments = \"drop\"", "fragments = \"reassemble\""));
    let output = anyrelay(&["check", "--config", name]);
    let says = "\nfragments: for each of 1 workers 512 KiB of dpdk.memory_mb, ";
    assert!(stdout(&output).contains(says), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("up to 2048 of the 8192 frame buffers\n"));

    for (from, to, keys) in [
        ("mbufs = 8192", "mbufs = 8192\nmbuffs = 1", &["dpdk.mbuffs"][..]),
        ("net_null0,no-rx=1", "0000:01:00.9", &["port[0].device"]),
        ("203.0.113.10:443", "203.0.113.10", &["relay[0].vip"]),
        (r#"rx = ["wan:0", "lan:0"]"#, r#"rx = ["wan:0"]"#, &["port[1].queues"]),
        (
            r#"["wan:0", "lan:0"]"#,
            r#"["wan:1", "lan:0", "x:0"]"#,
            &["worker[0].rx[0]", "worker[0].rx[2]"],
        ),
    ] {
        assert!(good.contains(from), "{from}");
        folder.write("pop.toml", good.replace(from, to));
        let output = anyrelay(&["check", "--config", name]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{to}: {text}");
        for key in keys {
            let start = format!("{name}: {key}: ");
            assert!(text.lines().any(|line| line.starts_with(&start)), "{start} in {text}");
        }
        assert!(output.stdout.is_empty());
        // An invalid config does not run either, with the same exit code.
        let run = anyrelay(&["run", "--config", name]);
        assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
        assert!(stderr(&run).contains(keys[0]));
    }
}

#[test]
fn check_reports_mistakes_in_the_key_file() {
    let folder = Folder::new();
    let path = folder.pop(&Config::new());
    let name = path.to_str().unwrap();
    let keys = folder.path("keys.toml");

    let text = fs::read_to_string(&keys).unwrap();
    fs::write(&keys, text.replace("secret = \"", "secret = \"x")).unwrap();
    let output = anyrelay(&["check", "--config", name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with(&format!("{}: token[0].secret: ", keys.display())));

    fs::remove_file(&keys).unwrap();
    let output = anyrelay(&["check", "--config", name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with(&format!("{name}: pop.keys: ")), "{}", stderr(&output));
}

#[test]
fn secrets_that_others_can_read_are_refused_unless_allowed() {
    let folder = Folder::new();
    let path = folder.pop(&Config::new());
    let name = path.to_str().unwrap();
    let keys = folder.path("keys.toml");
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&keys, fs::Permissions::from_mode(mode)).unwrap();
        let line =
            format!("{}: other users can read these secrets (mode {mode:04o})", keys.display());
        for command in ["check", "run"] {
            let output = anyrelay(&[command, "--config", name]);
            assert_eq!(output.status.code(), Some(2), "{command}: {}", stderr(&output));
            assert!(stderr(&output).starts_with(&line), "{}", stderr(&output));
            assert!(stderr(&output).contains("chmod 600"), "{}", stderr(&output));
        }
    }
    // A command that only computes does not mind.
    let map = anyrelay(&["map", "--config", name, "--client", "192.0.2.7:40000"]);
    assert!(map.status.success(), "{}", stderr(&map));

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("id = 1\n", "id = 1\nopen_secrets = true\n")).unwrap();
    let output = anyrelay(&["check", "--config", name]);
    assert!(output.status.success(), "{}", stderr(&output));
    let first = stderr(&output).lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with(&keys.display().to_string()), "{first}");
    assert!(first.ends_with("(warning)"), "{first}");
}

#[test]
fn map_goes_both_ways() {
    let folder = Folder::new();
    let mut config = Config::new();
    config.services += &service("raw", 80, "198.51.100.10:8080", "\"transparent\"");
    let path = folder.pop(&config);
    let map = |arguments: &[&str]| {
        let fixed = ["map", "--json", "--config", path.to_str().unwrap()];
        let output = anyrelay(&[&fixed[..], arguments].concat());
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap_or(Value::Null);
        (output.status.code(), answer)
    };
    let (code, answer) = map(&["--client", "10.1.2.3:4000"]);
    assert_eq!(code, Some(0));
    let mappings = answer["mappings"].as_array().unwrap();
    let modes: Vec<_> = mappings.iter().map(|m| m["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["pool", "transparent"]);
    assert_eq!(mappings[1]["egress"], "10.1.2.3:4000");
    assert!(mappings[1]["tsval"].is_null());
    let text = |key: &str| mappings[0][key].as_str().unwrap();
    let tsval = mappings[0]["tsval"].as_u64().unwrap();
    // What a capture at the target shows: of any segment, and of a SYN without timestamps.
    for shown in [tsval, tsval - 1] {
        let shown = shown.to_string();
        let ends = ["--egress", text("egress"), "--tsval", &shown, "--target", text("target")];
        let (code, back) = map(&ends);
        assert_eq!(code, Some(0), "{back}");
        assert_eq!(back["mappings"][0], mappings[0]);
    }
    let named = ["--client", "10.1.2.3:4000", "--service", "web"];
    assert_eq!(map(&named), (Some(0), serde_json::json!({ "mappings": [mappings[0]] })));
}

/// The config in the folder, with IPv6 on both ports and services over IPv6.
fn with_ipv6(folder: &Folder) -> std::path::PathBuf {
    let mut config = Config::new();
    config.services +=
        &service("web6", 444, "[2001:db8:5::1]:8443", "{ prefix = \"2001:db8:64::/64\" }");
    config.services += &service("raw6", 443, "[2001:db8:5::2]:8443", "\"transparent\"")
        .replace("203.0.113.10:443", "[2001:db8::10]:443");
    config.services += &service("deep", 443, "[2001:db8:5::3]:8443", "{ pool = \"fd40::/12\" }")
        .replace("203.0.113.10:443", "[2001:db8::11]:443");
    let path = folder.pop(&config);
    let text = fs::read_to_string(&path).unwrap();
    let mut text =
        text.split("addresses = [").enumerate().fold(String::new(), |text, (at, part)| {
            let own = if at == 0 {
                String::new()
            } else {
                format!("addresses = [\"2001:db8:{at}::2/64\", ")
            };
            text + &own + part
        });
    text = text.replace("gateways = [", "gateways = [\"fe80::1\", ");
    text = text.replace("gateway_macs = [", "gateway_macs = [\"02:00:00:00:01:09\", ");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn map_goes_both_ways_over_ipv6() {
    let folder = Folder::new();
    let path = with_ipv6(&folder);
    let map = |arguments: &[&str]| {
        let fixed = ["map", "--json", "--config", path.to_str().unwrap()];
        let output = anyrelay(&[&fixed[..], arguments].concat());
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap_or(Value::Null);
        (output.status.code(), answer, stderr(&output))
    };
    let (code, answer, error) = map(&["--client", "10.1.2.3:4000", "--service", "web6"]);
    assert_eq!(code, Some(0), "{error}");
    let mapping = &answer["mappings"][0];
    let text = |key: &str| mapping[key].as_str().unwrap();
    assert_eq!((text("mode"), text("target")), ("prefix", "[2001:db8:5::1]:8443"));
    // 10.1.2.3 precedes the check.
    assert!(text("egress").starts_with("[2001:db8:64:0:a01:203:"), "{mapping}");
    assert!(text("egress").ends_with("]:4000") && mapping["tsval"].is_null());
    let back = map(&["--egress", text("egress"), "--target", text("target")]);
    assert_eq!((back.0, &back.1["mappings"][0]), (Some(0), mapping));

    // Without a name, all services that the client can connect to, in the order of the file.
    let (_, answer, _) = map(&["--client", "10.1.2.3:4000"]);
    let modes = |answer: &Value| -> Vec<String> {
        let mappings = answer["mappings"].as_array().unwrap();
        mappings.iter().map(|mapping| mapping["mode"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(modes(&answer), ["pool", "prefix"]);
    let (_, answer, _) = map(&["--client", "[2600::5]:4000"]);
    assert_eq!(modes(&answer), ["transparent", "pool"]);
    assert_eq!(answer["mappings"][0]["egress"], "[2600::5]:4000");
    let pooled = &answer["mappings"][1];
    let text = |key: &str| pooled[key].as_str().unwrap();
    assert!(text("egress").starts_with("[fd4"), "{pooled}");
    let tsval = pooled["tsval"].as_u64().unwrap().to_string();
    let back = ["--egress", text("egress"), "--target", text("target"), "--tsval", &tsval];
    let back = map(&back);
    assert_eq!((back.0, &back.1["mappings"][0]), (Some(0), pooled), "{}", back.2);
    // Whom it has no place for.
    let (code, answer, _) = map(&["--client", "[fd00::9]:9", "--service", "deep"]);
    assert_eq!((code, answer["drop"].as_str()), (Some(1), Some("source_not_allowed")));

    let (egress, target) = ("[2001:db8:64::1]:9", "[2001:db8:5::1]:8443");
    for (arguments, reason) in [
        (["--egress", egress, "--target", target], "bad_tag"),
        (["--egress", egress, "--target", "[2001:db8:5::1]:1"], "unknown_target"),
        (["--egress", egress, "--target", "198.51.100.10:8443"], "unknown_target"),
        (["--egress", "[2600::1]:9", "--target", target], "not_ours"),
        (["--client", "[2001:db8::10]:9", "--service", "raw6"], "source_not_allowed"),
    ] {
        let (code, answer, error) = map(&arguments);
        assert_eq!((code, answer["drop"].as_str()), (Some(1), Some(reason)), "{error}");
    }
    for (arguments, words) in [
        (&["--egress", "100.64.8.1:9", "--target", "198.51.100.10:8443"][..], "give its --tsval"),
        (&["--egress", "[fd40::1]:9", "--target", "[2001:db8:5::3]:8443"], "give its --tsval"),
        (&["--egress", egress, "--target", target, "--tsval", "1"], "leave out --tsval"),
        (&["--client", "[2600::5]:4000", "--service", "web6"], "a client of its family"),
    ] {
        let (code, _, error) = map(arguments);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let folder = Folder::new();
    let path = folder.pop(&Config::new());
    for command in [&["check"][..], &["map", "--client", "10.1.2.3:4000", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_anyrelay"))
            .args(command)
            .arg("--config")
            .arg(&path)
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn map_goes_both_ways_of_udp() {
    let folder = Folder::new();
    let path = with_ipv6(&folder);
    let udp = service("dns", 444, "[2001:db8:5::9]:53", "{ prefix = \"2001:db8:64::/64\" }");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + &udp + "protocol = \"udp\"\n").unwrap();
    let map = |arguments: &[&str]| {
        let output =
            anyrelay(&[&["map", "--config", path.to_str().unwrap()][..], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let there = map(&["--client", "10.1.2.3:4000", "--service", "dns"]);
    let begins = "service dns vip 203.0.113.10:444 udp prefix client 10.1.2.3:4000 egress ";
    assert!(there.starts_with(begins), "{there}");
    let egress = there[begins.len()..].split(' ').next().unwrap();
    assert_eq!(map(&["--egress", egress, "--target", "[2001:db8:5::9]:53"]), there);
}

#[test]
fn map_gives_the_reason_without_a_mapping() {
    let folder = Folder::new();
    let path = folder.pop(&Config::new());
    let map = |arguments: &[&str]| {
        let fixed = ["map", "--config", path.to_str().unwrap()];
        anyrelay(&[&fixed[..], arguments].concat())
    };
    let inverse =
        |egress, tsval, target| ["--egress", egress, "--tsval", tsval, "--target", target];
    for (arguments, reason) in [
        (inverse("100.64.8.1:2000", "0", "198.51.100.10:8443").to_vec(), "bad_tag"),
        (inverse("100.64.8.1:2000", "1", "198.51.100.10:8444").to_vec(), "unknown_target"),
        (inverse("100.64.9.1:2000", "1", "198.51.100.10:8443").to_vec(), "not_ours"),
        (vec!["--client", "203.0.113.10:5000"], "source_not_allowed"),
    ] {
        let output = map(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
        let start = format!("drop {reason}: ");
        assert!(stdout(&output).starts_with(&start), "{}", stdout(&output));
        let output = map(&[&arguments[..], &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1));
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(answer["drop"], reason);
    }
    let output = map(&["--client", "10.0.0.1:1", "--service", "mail"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no service mail; there are: web"), "{}", stderr(&output));
}
