//! `anyrelay probe` on targets with an end of a tunnel: whether it is there, which way its answers
//! go, and the MSS that leaves room for it.

use std::net::{IpAddr, SocketAddr};

use crate::common::probing::{Net, fit, serve, targets};
use crate::common::{TARGET, full};
use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::{Encapsulation, command, topology};
use serde_json::Value;

#[test]
fn tunnels_fit_by_the_way_of_their_answers() {
    for encapsulation in [Encapsulation::Ipip, Encapsulation::Gue] {
        let is_gue = encapsulation == Encapsulation::Gue;
        let mode = if is_gue { "gue" } else { "ipip" };
        for target in targets() {
            for vip in [IpAddr::from(topology::VIP), topology::VIP6.into()] {
                if !full() && is_gue != (vip.is_ipv4() == target.is_ipv4()) {
                    continue;
                }
                let net = Net::build();
                let vip = SocketAddr::new(vip, TARGET_PORT);
                let name = target.to_string();
                let host = &net.topology.target;
                let vip_name = vip.to_string();
                let ask = |more: &[&str]| {
                    net.json(&[&["--mode", mode, "--vip", &vip_name, &name], more].concat())
                };
                // No device at all.
                let (code, report) = ask(&[]);
                let found = &report["findings"]["tunnels"][0];
                assert_eq!(
                    (code, &found["answer"]["result"]),
                    (1, &"unreachable".into()),
                    "{found}"
                );

                let _end = net.end_of_tunnel(encapsulation, target, vip.ip());
                let (code, report) = ask(&[]);
                let found = &report["findings"]["tunnels"][0]["answer"];
                assert_eq!((code, &found["result"]), (1, &"refused".into()), "{found}");

                serve(host, vip);
                let (code, report) = ask(&["--return", "through"]);
                assert_eq!((code, fit(&report, &format!("{mode} through"))), (0, "fits"));
                assert_eq!(fit(&report, &format!("{mode} direct")), "no");
                let family = if vip.is_ipv4() { "ipv4" } else { "ipv6" };
                assert_eq!(report["recommended"][family], format!("{mode} through"));
                // From an address that is not this host's.
                let other = if target.is_ipv4() { "192.0.2.77" } else { "2001:db8:1::77" };
                let (code, report) = ask(&["--from", other]);
                assert_eq!((code, fit(&report, &format!("{mode} through"))), (1, "unseen"));

                // Without the rule for what is from the VIP, answers go by the target's own route.
                let family = if vip.is_ipv4() { "-4" } else { "-6" };
                let rule = [family, "rule", "del", "from", &vip.ip().to_string()];
                command::run(host.command("ip").args(rule)).unwrap();
                let (code, report) = ask(&["--return", "direct"]);
                assert_eq!(
                    (code, fit(&report, &format!("{mode} direct"))),
                    (0, "fits"),
                    "{report}"
                );
                let check = report["checks"].as_array().unwrap().last().unwrap().clone();
                assert_eq!(ask(&["--return", "through"]).0, 1);
                // Nothing listens at the target's own address, so its path is not known here.
                assert_eq!(check["to_do"], Value::Null, "{check}");
            }
        }
    }
}

#[test]
fn targets_of_gue_are_tried_in_turn() {
    let net = Net::build();
    // Two that do not answer, and then one that does.
    let drop = "ip daddr { 198.51.100.98, 198.51.100.99 } drop;";
    net.rules(&format!("chain f {{ type filter hook forward priority 0; {drop} }}"));
    let (target, vip) = (SocketAddr::from(TARGET), SocketAddr::from((topology::VIP, TARGET_PORT)));
    let _end = net.end_of_tunnel(Encapsulation::Gue, target, vip.ip());
    serve(&net.topology.target, vip);
    let silent = [98, 99].map(|last| format!("198.51.100.{last}:{TARGET_PORT}"));
    let vip = vip.to_string();
    let named = ["--json", "--mode", "gue", "--vip", &vip, &silent[0], &silent[1]];
    let answer = net.probe(&[&named[..], &[&target.to_string()]].concat());
    let reports = answer.json()["targets"].as_array().unwrap().clone();
    let fits: Vec<_> = reports.iter().map(|report| fit(report, "gue through")).collect();
    assert_eq!(fits, ["no", "no", "fits"], "{}", answer.text);
    for report in &reports {
        assert_eq!(report["findings"]["tunnels"][0]["deaf"], Value::Null, "{report}");
    }
}

#[test]
fn a_narrow_path_is_told_the_mss_inside_the_tunnel() {
    let net = Net::build();
    net.topology.client_router.ip(&["link set direct mtu 1400"]).unwrap();
    let (target, vip) = (SocketAddr::from(TARGET), SocketAddr::from((topology::VIP, TARGET_PORT)));
    let _end = net.end_of_tunnel(Encapsulation::Ipip, target, vip.ip());
    let any: SocketAddr = ([0; 4], TARGET_PORT).into();
    serve(&net.topology.target, any);
    let (vip, name) = (vip.to_string(), target.to_string());
    let ask = |more: &[&str]| net.probe(&[&["--vip", &vip, &name], more].concat()).text;
    let text = ask(&["--mode", "ipip"]);
    assert!(text.contains("to spare the errors, set mss = 1340 for its service\n"), "{text}");
    let text = ask(&[]);
    let both = "set mss = 1360 for its service, or 1340 with ipip, or 1328 with gue\n";
    assert!(text.contains(both), "{text}");
}

#[test]
fn targets_that_answer_directly_are_told_their_advmss() {
    let net = Net::build();
    let (target, vip) = (SocketAddr::from(TARGET), SocketAddr::from((topology::VIP, TARGET_PORT)));
    let _end = net.end_of_tunnel(Encapsulation::Ipip, target, vip.ip());
    let any: SocketAddr = ([0; 4], TARGET_PORT).into();
    serve(&net.topology.target, any);
    let rule = ["rule", "del", "from", &vip.ip().to_string()];
    command::run(net.topology.target.command("ip").args(rule)).unwrap();
    let answer = net.probe(&["--vip", &vip.to_string(), &target.to_string()]);
    assert_eq!(answer.code, 0);
    assert!(answer.text.contains("set advmss 1440"), "{}", answer.text);
    assert!(answer.text.contains("recommended for IPv4 clients: pool"), "{}", answer.text);
}
