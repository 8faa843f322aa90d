//! `anyrelay probe` on targets with real kernels' TCP, over paths that do what paths do.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::common::probing::{Net, fit, greet, listen, run, serve, targets};
use crate::common::{TARGET, snmp};
use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::lab::anyrelay_binary;
use anyrelay_lab::{command, topology};
use serde_json::Value;

#[test]
fn a_target_with_timestamps_fits_a_pool_and_notices_nothing() {
    let net = Net::build();
    for target in targets() {
        let family = if target.is_ipv4() { "ipv4" } else { "ipv6" };
        let server = listen(&net.topology.target, target);
        let refused = snmp(&net.topology.client, "OutRsts");
        let (code, report) = net.json(&[&target.to_string()]);
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["recommended"][family], "pool");
        let findings = &report["findings"];
        for echo in ["syn_ack", "later"] {
            assert_eq!(findings["echoes"][echo]["result"], "exact", "{report}");
        }
        let options = &findings["opening"]["options"];
        let mss = if target.is_ipv4() { 1460 } else { 1440 };
        assert_eq!((&options["mss"], &options["sack"]), (&mss.into(), &true.into()));
        assert_eq!(
            (&findings["path"]["passes"], &findings["path"]["told"]),
            (&1500.into(), &Value::Null)
        );
        assert_eq!(findings["reset"], "bare");
        // Its application got nothing, and the connection is gone.
        assert_eq!(server.join().unwrap(), Err(ErrorKind::ConnectionReset));
        // The prober's kernel kept quiet.
        assert_eq!(snmp(&net.topology.client, "OutRsts"), refused);
    }
    let text = net.probe(&[&TARGET.to_string()]).text;
    assert!(text.contains("TCP            refused"), "{text}");
}

#[test]
fn a_target_without_timestamps_fits_no_pool() {
    let net = Net::build();
    net.topology.target.sysctl("net.ipv4.tcp_timestamps", "0").unwrap();
    for target in targets() {
        serve(&net.topology.target, target);
        let name = target.to_string();
        let (code, report) = net.json(&[&name]);
        let family = if target.is_ipv4() { "ipv4" } else { "ipv6" };
        assert_eq!((code, &report["recommended"][family]), (0, &"transparent".into()), "{report}");
        assert_eq!(fit(&report, "pool"), "no");
        assert_eq!(net.probe(&["--mode", "pool", &name]).code, 1);
        assert_eq!(net.probe(&["--mode", "transparent", &name]).code, 0);
        let prefix = net.probe(&["--mode", "prefix", &name]).code;
        assert_eq!(prefix == 0, target.is_ipv6(), "{target}");
    }
}

#[test]
fn what_takes_no_connection_fits_nothing() {
    let net = Net::build();
    for target in targets() {
        let name = target.to_string();
        for (rules, wanted) in [
            ("", "refused"),
            ("chain f { type filter hook forward priority 0; tcp dport 1-65535 drop; }", "silent"),
            (
                "chain f { type filter hook forward priority 0; tcp dport 1-65535 reject with \
                 icmpx admin-prohibited; }",
                "unreachable",
            ),
        ] {
            net.rules(rules);
            let (code, report) = net.json(&[&name]);
            let opening = &report["findings"]["opening"];
            assert_eq!((code, &opening["result"]), (1, &wanted.into()), "{report}");
            let modes = report["modes"].as_array().unwrap();
            assert!(modes.iter().all(|verdict| verdict["fit"] == "no"), "{report}");
            if wanted == "unreachable" {
                assert!(opening["reason"].as_str().unwrap().contains("prohibited"), "{report}");
            }
        }
    }
}

#[test]
fn a_narrow_hop_is_found_whether_it_says_so_or_not() {
    let net = Net::build();
    net.topology.client_router.ip(&["link set direct mtu 1400"]).unwrap();
    for silent in [false, true] {
        if silent {
            net.rules(
                "chain o { type filter hook output priority 0; icmp type destination-unreachable \
                 drop; icmpv6 type packet-too-big drop; }",
            );
        }
        for target in targets() {
            if !silent {
                serve(&net.topology.target, target);
            }
            let before = net.sent();
            let answer = net.probe(&["--json", &target.to_string()]);
            let sent = net.sent() - before;
            // Five for each of two tries and 20, and a little for neighbour discovery.
            assert!((5..=30 + 8).contains(&sent), "{sent} packets");
            let report = answer.json()["targets"][0].clone();
            let path = &report["findings"]["path"];
            assert_eq!((answer.code, &path["link"]), (0, &1500.into()), "{report}");
            assert_eq!(path["passes"], 1400, "{report}");
            let told = if silent { Value::Null } else { 1400.into() };
            assert_eq!(path["told"], told, "{report}");
            let mss = if target.is_ipv4() { "mss = 1360" } else { "mss = 1340" };
            assert!(answer.text.contains(mss), "{report}");
            assert_eq!(fit(&report, "pool"), "fits", "an MTU takes no mode away");
        }
    }
}

#[test]
fn boxes_that_rewrite_or_remove_timestamps_are_noticed() {
    let net = Net::build();
    let back = "chain f { type filter hook forward priority 0; oifname \"client\"";
    for target in targets() {
        serve(&net.topology.target, target);
        for (rule, syn_ack, later) in [
            ("tcp option timestamp tsecr set 77", "changed", "changed"),
            (
                "tcp flags & (syn | ack) == ack tcp option timestamp tsecr set 77",
                "exact",
                "changed",
            ),
            ("tcp flags & (syn | ack) == ack reset tcp option timestamp", "exact", "absent"),
            ("reset tcp option timestamp", "absent", "absent"),
        ] {
            net.rules(&format!("{back} {rule}; }}"));
            let (code, report) = net.json(&["--mode", "pool", &target.to_string()]);
            let echoes = &report["findings"]["echoes"];
            let seen = (&echoes["syn_ack"]["result"], &echoes["later"]["result"]);
            assert_eq!(seen, (&syn_ack.into(), &later.into()), "{rule}: {report}");
            assert_eq!((code, fit(&report, "pool")), (1, "no"), "{rule}");
            if syn_ack == "changed" {
                assert_eq!(echoes["syn_ack"]["came"], 77);
            }
        }
        net.rules("");
        assert_eq!(net.probe(&["--mode", "pool", &target.to_string()]).code, 0);
    }
}

#[test]
fn servers_that_speak_first_or_close_at_once_are_probed_as_others() {
    let net = Net::build();
    for target in targets() {
        for (closes, port) in [(false, 22), (true, 23)] {
            let target = SocketAddr::new(target.ip(), port);
            greet(&net.topology.target, target, closes);
            let (code, report) = net.json(&["--mode", "pool", &target.to_string()]);
            assert_eq!((code, fit(&report, "pool")), (0, "fits"), "{report}");
            assert_eq!(report["findings"]["path"]["passes"], 1500, "{report}");
        }
    }
}

#[test]
fn boxes_that_drop_syns_with_ecn_hide_no_target() {
    let net = Net::build();
    net.rules(
        "chain f { type filter hook forward priority 0; tcp flags & (syn | ecn) == (syn | ecn) \
         drop; }",
    );
    for target in targets() {
        serve(&net.topology.target, target);
        let (code, report) = net.json(&["--mode", "pool", &target.to_string()]);
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["findings"]["opening"]["options"]["ecn"], false, "{report}");
    }
}

#[test]
fn without_the_capability_the_kernel_tells_what_it_can() {
    let net = Net::build();
    for target in targets() {
        serve(&net.topology.target, target);
        let probe = |more: &[&str]| {
            let mut setpriv = net.topology.client.command("setpriv");
            setpriv.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"]);
            setpriv.arg(anyrelay_binary().unwrap()).args(["probe", "--json"]);
            run(setpriv.args(more).arg(target.to_string()))
        };
        for (setting, seen) in [("1", true), ("0", false)] {
            net.topology.target.sysctl("net.ipv4.tcp_timestamps", setting).unwrap();
            let answer = probe(&["--mode", "pool"]);
            let report = &answer.json()["targets"][0];
            let options = &report["findings"]["opening"]["options"];
            assert_eq!(options["timestamps"], seen, "{report}");
            assert_eq!(report["findings"]["limited"], "CAP_NET_RAW is missing");
            // What was not checked does not fit.
            let wanted = if seen { "unseen" } else { "no" };
            assert_eq!((answer.code, fit(report, "pool")), (1, wanted), "{report}");
            assert_eq!(probe(&["--mode", "transparent"]).code, 0);
            let vip = SocketAddr::from((topology::VIP, TARGET_PORT)).to_string();
            let answer = probe(&["--mode", "gue", "--vip", &vip]);
            let report = &answer.json()["targets"][0];
            assert_eq!((answer.code, fit(report, "gue through")), (1, "unseen"), "{report}");
        }
    }
    let mut closed = net.topology.client.command("setpriv");
    closed.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"]);
    closed.arg(anyrelay_binary().unwrap()).args(["probe", "198.51.100.10:81"]);
    let answer = run(&mut closed);
    assert!(answer.code == 1 && answer.text.contains("refused"), "{}", answer.text);
}

#[test]
fn the_targets_of_a_config_are_checked_for_its_modes() {
    let net = Net::build();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = net.work.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let keys = net.work.path().join("keys.toml");
    command::run(Command::new(anyrelay_binary().unwrap()).arg("keygen").arg(&keys)).unwrap();
    let config = write(
        "pop.toml",
        &r#"
            pop = { name = "lab1", id = 1, keys = "keys.toml" }
            worker = [{ core = 0, rx = ["nic:0"] }]

            [[port]]
            name = "nic"
            device = "net_null0"
            side = "both"
            addresses = ["192.0.2.2/24"]
            gateways = ["192.0.2.1"]

            [[relay]]
            name = "web"
            vip = "203.0.113.10:443"
            targets = ["198.51.100.10:8443"]
            egress = { pool = "100.64.8.0/24" }
            mss = 1360

            [[relay]]
            name = "tunnelled"
            vip = "203.0.113.11:8443"
            targets = ["198.51.100.10:8443"]
            egress = { ipip = "100.64.9.1" }
        "#
        .replace("8443", &TARGET_PORT.to_string()),
    );
    let config = config.to_string_lossy().into_owned();
    serve(&net.topology.target, TARGET.into());
    let ask = |more: &[&str]| net.probe(&[&["--config", &config, "--json"], more].concat());
    let answer = ask(&["--service", "web"]);
    assert_eq!(answer.code, 0, "{}", answer.text);
    let reports = answer.json()["targets"].as_array().unwrap().clone();
    assert_eq!((reports.len(), &reports[0]["service"]), (1, &"web".into()));
    assert_eq!(reports[0]["findings"]["path"]["wanted"], 1400, "as the relay lets through");
    // The other one has no end of a tunnel.
    let answer = ask(&[]);
    let reports = answer.json()["targets"].as_array().unwrap().clone();
    let fits: Vec<_> = reports.iter().map(|report| report["fits"].as_bool().unwrap()).collect();
    assert_eq!((answer.code, fits), (1, vec![true, false]));
    assert_eq!(ask(&["--service", "none"]).code, 2);
}

#[test]
fn mistakes_in_usage_have_an_exit_code_of_their_own() {
    for arguments in [
        &["probe"][..],
        &["probe", "198.51.100.10"],
        &["probe", "198.51.100.10:443", "--from", "192.0.2.1"],
        &["probe", "198.51.100.10:443", "--mode", "gue"],
        &["probe", "198.51.100.10:443", "--mode", "pond"],
        &["probe", "198.51.100.10:443", "--tries", "0"],
        &["probe", "198.51.100.10:443", "--vip", "203.0.113.10:443", "--from", "2001:db8::1"],
        &["probe", "198.51.100.10:443", "--config", "pop.toml"],
        &["probe", "198.51.100.10:443", "--vip", "203.0.113.10:80"],
        &["probe", "198.51.100.10:443", "--vip", "203.0.113.10:80", "--mode", "ipip"],
        &["probe", "198.51.100.10:443", "--mode", "pool", "--return", "direct"],
    ] {
        let answer = run(Command::new(anyrelay_binary().unwrap()).args(arguments));
        assert_eq!(answer.code, 2, "{arguments:?}: {}", answer.text);
    }
}
