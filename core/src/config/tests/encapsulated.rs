//! Relays with tunnels: every mistake in what they send from, and to.

use super::*;
use crate::problem::Problems;

/// Two relays with one tunnel each, which have the same source.
fn encapsulated() -> String {
    let wan = port("wan", "client", &["192.0.2.2/24"]).with("gateways", ["192.0.2.1"]);
    let lan = port("lan", "target", &["10.1.0.2/24"]).with("gateways", ["10.1.0.1"]);
    let relay = |name, number: u8, egress| {
        let vip = format!("203.0.113.{number}:443");
        let target = format!("198.51.100.{number}:443");
        relay(name, &vip, &[&target], egress).with("return", "through")
    };
    PopConfig::new("pop1", 1, &[wan, lan])
        .relay(relay("first", 10, Egress::Ipip("100.64.9.1")))
        .relay(relay("second", 11, Egress::Ipip("100.64.9.1")))
        .text()
}

/// [`encapsulated`] whose second relay has this egress and way back.
fn second(egress: &str, way_back: &str) -> String {
    let text = encapsulated();
    let (first, second) = text.split_once("second").unwrap();
    let second = edit(second, "{ ipip = \"100.64.9.1\" }", egress);
    format!("{first}second{}", edit(&second, "\"through\"", &format!("\"{way_back}\"")))
}

#[test]
fn tunnels_alike_may_have_one_source() {
    assert_eq!(Config::parse("f", &encapsulated()).unwrap().warnings, []);
    for way_back in ["through", "direct"] {
        let apart = second("{ gue = \"100.64.9.2\" }", way_back);
        assert_eq!(Config::parse("f", &apart).unwrap().warnings, []);
    }
}

#[test]
fn what_differs_of_tunnels_from_one_source_is_named() {
    let there = "relay[0] has { ipip = \"100.64.9.1\" } with return = \"through\"";
    for (protocol, way_back, differs) in [
        ("ipip", "direct", "use the same return, or another address"),
        ("gue", "through", "use the same protocol, or another address"),
        ("gue", "direct", "use the same protocol and return, or another address"),
    ] {
        let egress = format!("{{ {protocol} = \"100.64.9.1\" }}");
        let Problems(problems) = Config::parse("f", &second(&egress, way_back)).unwrap_err();
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.key, format!("relay[1].egress.{protocol}"));
        let here = format!("this is {egress} with return = \"{way_back}\"");
        for part in [there, &here, differs] {
            assert!(problem.reason.contains(part), "{part}: {problem}");
        }
    }
}

#[test]
fn a_tunnel_in_a_pool_is_told_to_be_apart() {
    let pool = second("{ pool = \"100.64.9.0/24\" }", "through");
    let (first, last) = pool.rsplit_once("return = \"through\"").unwrap();
    let problems = Config::parse("f", &format!("{first}{last}")).unwrap_err().to_string();
    let reason = "relay[1].egress.pool: 100.64.9.0/24 overlaps 100.64.9.1/32 of relay[0]; use one \
                  apart from it";
    assert!(problems.contains(reason), "{problems}");
}

#[test]
fn every_mistake_is_reported_with_its_key_and_reason() {
    for protocol in ["ipip", "gue"] {
        let key = format!("relay[1].egress.{protocol}");
        for (from, reason) in [
            ("224.0.0.1", "224.0.0.1 cannot be the source of a tunnel: it is not a unicast"),
            ("100.64.9.1/32", "is no IP address"),
        ] {
            let text = second(&format!("{{ {protocol} = \"{from}\" }}"), "through");
            let Problems(problems) = Config::parse("f", &text).unwrap_err();
            let is_it = |found: &Problem| found.key == key && found.reason.contains(reason);
            assert!(problems.iter().any(is_it), "{key}: {problems:?}");
        }
    }
    let text = edit(&encapsulated(), "198.51.100.11:443", "198.51.100.11:8443");
    let problems = Config::parse("f", &text).unwrap_err().to_string();
    assert!(problems.contains("relay[1].targets: 198.51.100.11:8443 has another port"));
}
