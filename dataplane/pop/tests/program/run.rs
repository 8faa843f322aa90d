//! `run`, through the binary: readiness, metrics, reload, drain, and errors at the start.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::{Config, Folder, Pop, anyrelay, request, service, stderr};

#[test]
fn a_pop_is_ready_shows_its_metrics_and_stops_with_0() {
    let folder = Folder::new();
    let config = Config::new();
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    assert_eq!(pop.get("/healthz").unwrap(), (200, "alive\n".to_owned()));
    assert_eq!(pop.get("/readyz").unwrap(), (200, "ready\n".to_owned()));
    assert_eq!(pop.get("/secrets").unwrap().0, 404);
    let post = request(config.metrics, "POST /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(post.0, 405);
    let (_, head, _) = request(config.metrics, "GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");

    let metrics = pop.metrics();
    for (name, labels) in [
        ("anyrelay_port_packets_total", &["direction", "port", "worker"][..]),
        ("anyrelay_port_bytes_total", &["direction", "port", "worker"]),
        ("anyrelay_service_packets_total", &["direction", "service", "worker"]),
        ("anyrelay_service_bytes_total", &["direction", "service", "worker"]),
        ("anyrelay_drops_total", &["port", "reason", "worker"]),
        ("anyrelay_icmp_mtu_raised_total", &["direction", "service", "worker"]),
        ("anyrelay_syns_without_client_address_total", &["service", "worker"]),
        ("anyrelay_replies_total", &["kind", "worker"]),
        ("anyrelay_replies_withheld_total", &["kind", "worker"]),
        ("anyrelay_egress_queue_depth", &["port"]),
        ("anyrelay_egress_queue_overflow_total", &["port", "worker"]),
        ("anyrelay_polls_total", &["state", "worker"]),
        ("anyrelay_config_info", &["digest"]),
        ("anyrelay_build_info", &["dpdk", "instructions", "version"]),
        ("anyrelay_ready", &[]),
        ("anyrelay_port_up", &["port"]),
        ("anyrelay_port_rx_missed_total", &["port"]),
        ("anyrelay_port_rx_no_buffer_total", &["port"]),
        ("anyrelay_port_rx_queue_packets_total", &["port", "queue"]),
        ("process_resident_memory_bytes", &[]),
    ] {
        assert_eq!(metrics.label_names(name).as_deref(), Some(labels), "{name}");
    }
    assert_eq!(metrics.sum("anyrelay_ready", &[]), 1);
    // A worker is running before the end of its first turn.
    pop.wait_for("to poll", |pop| {
        pop.metrics().sum("anyrelay_polls_total", &[("state", "idle")]) > 0
    });
    assert!(metrics.label("anyrelay_build_info", "dpdk").unwrap().starts_with("DPDK "));
    let digest = metrics.label("anyrelay_config_info", "digest").unwrap();
    assert!(pop.log().contains(digest));
    pop.stop();
    assert_eq!(pop.get("/healthz"), None);
}

#[test]
fn a_gateway_that_does_not_answer_keeps_a_pop_unready() {
    let folder = Folder::new();
    let config = Config::new();
    let path = folder.pop(&config);
    let text = fs::read_to_string(&path).unwrap();
    // Ready with static addresses, so that only one gateway's ARP reply is missing afterwards.
    let mut pop = Pop::start(&path, config.metrics, &[]);
    pop.stop();
    folder.write("pop.toml", text.replace("gateway_macs = [\"02:00:00:00:00:12\"]", ""));
    let reasons = Pop::spawn(&path, config.metrics, &[]).wait_for_status(503);
    assert_eq!(reasons, "port lan: gateway 172.16.0.1 does not answer ARP\n");
}

/// Valid whether or not this machine's clock is synchronised.
#[test]
fn with_tunnels_a_pop_is_ready_only_if_its_clock_is_vouched_for() {
    let (folder, mut config) = (Folder::new(), Config::new());
    let answer = kernel_clock::read().unwrap();
    // What it was when it was corrected last, and what it has drifted since.
    let error = answer.estimated_error.min(answer.maximum_error) + answer.maximum_error / 10;
    let is_known = answer.maximum_error < Duration::from_secs(16);
    let is_good = is_known && error <= Duration::from_secs(4);
    let clock = ("anyrelay_clock_synchronised", "anyrelay_clock_estimated_error_seconds");

    // Without tunnels the clock is not queried.
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    assert_eq!(pop.metrics().label_names(clock.0), None);
    let no_tunnel = (503, "there is no [[tunnel]]\n".to_owned());
    assert_eq!(pop.get("/readyz/tunnel").unwrap(), no_tunnel);
    pop.stop();

    config.services += TUNNEL;
    let text = config.text().replace("id = 1\n", "id = 1\ntenants = \"tenants.toml\"\n");
    let path = folder.pop(&config);
    folder.write_private("tenants.toml", "");
    fs::write(&path, &text).unwrap();
    let mut pop = Pop::spawn(&path, config.metrics, &[]);
    if is_good {
        pop.wait_for_status(200);
        assert_eq!(pop.get("/readyz/tunnel").unwrap().0, 200);
    } else {
        let reasons = pop.wait_for_status(503);
        assert!(reasons.starts_with("clock: "), "{reasons}");
        assert!(reasons.ends_with('\n') && reasons.lines().count() == 1, "{reasons}");
        assert_eq!(pop.get("/readyz/tunnel").unwrap(), (503, reasons));
    }
    // Relays need no clock.
    assert_eq!(pop.get("/readyz/relay").unwrap().0, 200);
    let metrics = pop.metrics();
    assert_eq!(metrics.sum("anyrelay_ready_relay", &[]), 1);
    assert_eq!(metrics.sum("anyrelay_ready_tunnel", &[]), u64::from(is_good));
    assert_eq!(metrics.sum("anyrelay_clock_error_max_seconds", &[]), 4, "half of a tick");
    assert_eq!(metrics.sum(clock.0, &[]), u64::from(answer.is_synchronised));
    assert!(metrics.label_names(clock.1).is_some());

    // The operator vouches for the clock from the next reload on.
    fs::write(&path, text.replace("id = 1\n", "id = 1\nclock = \"trusted\"\n")).unwrap();
    pop.signal("-HUP");
    // With a synchronised clock it was ready before, too.
    pop.wait_for("to reload", |pop| {
        pop.metrics().sum("anyrelay_reloads_total", &[("result", "done")]) == 1
    });
    pop.wait_for_status(200);
    assert_eq!(pop.metrics().label_names(clock.0), None);
    pop.stop();
}

const TUNNEL: &str = "[[tunnel]]\nname = \"tun\"\nvip4 = \"203.0.113.20:443\"\n";

#[test]
fn a_reload_applies_free_changes_and_refuses_others() {
    let folder = Folder::new();
    let mut config = Config::new();
    let path = folder.pop(&config);
    let mut pop = Pop::start(&path, config.metrics, &[]);
    let digest = |pop: &Pop| {
        let metrics = pop.metrics();
        metrics.label("anyrelay_config_info", "digest").unwrap().to_owned()
    };
    let first = digest(&pop);

    // A new service is accepted.
    let before = config.services.clone();
    config.services += &service("mail", 25, "198.51.100.11:25", r#"{ pool = "100.64.8.0/24" }"#);
    folder.pop(&config);
    pop.signal("-HUP");
    pop.wait_for("to reload", |pop| {
        pop.metrics().sum("anyrelay_reloads_total", &[("result", "done")]) == 1
    });
    let second = digest(&pop);
    assert_ne!(second, first);
    let mail = [("service", "mail"), ("direction", "up")];
    assert_eq!(pop.metrics().sum("anyrelay_service_packets_total", &mail), 0);
    assert!(pop.metrics().label_names("anyrelay_service_packets_total").is_some());

    // Problems, impossible changes and changes that break connections are refused, with their keys.
    let good = config.text();
    let moved = before.replace("198.51.100.10:8443", "198.51.100.12:8443");
    for (count, (text, key)) in [
        (good.replace("203.0.113.10:25", "nonsense"), "relay[1].vip: "),
        (good.replace("core = 0", "core = 1"), "worker[0].core: "),
        (good.replace("net_null1", "net_null7"), "port[1].device: "),
        (good.replace(&before, &moved), "relay[0].targets: "),
    ]
    .into_iter()
    .enumerate()
    {
        assert_ne!(text, good, "{key}");
        folder.write("pop.toml", text);
        pop.signal("-HUP");
        pop.wait_for("to refuse", |pop| {
            pop.metrics().sum("anyrelay_reloads_total", &[("result", "refused")])
                == count as u64 + 1
        });
        let line = format!("ERROR {}: {key}", path.display());
        assert!(pop.log().contains(&line), "{line} in\n{}", pop.log());
        assert_eq!(digest(&pop), second);
    }
    assert!(
        pop.log().contains("port[1].device: this cannot change while the POP runs; restart it")
    );
    assert_eq!(pop.get("/readyz").unwrap().0, 200);
    pop.stop();
}

#[test]
fn a_reload_may_break_connections_where_the_operator_said_so() {
    let folder = Folder::new();
    let mut config = Config::new();
    let path = folder.pop(&config);
    let mut pop = Pop::start(&path, config.metrics, &["--breaks-connections"]);
    config.services = config.services.replace("198.51.100.10:8443", "198.51.100.12:8443");
    folder.pop(&config);
    pop.signal("-HUP");
    pop.wait_for("to reload", |pop| {
        pop.metrics().sum("anyrelay_reloads_total", &[("result", "done")]) == 1
    });
    pop.stop();
}

#[test]
fn a_drain_is_unready_keeps_running_and_ends_at_the_second_signal() {
    let folder = Folder::new();
    let mut config = Config::new();
    config.drain_seconds = 600;
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    pop.signal("-TERM");
    pop.wait_for("to be unready", |pop| {
        pop.get("/readyz").unwrap() == (503, "draining\n".to_owned())
    });
    let polls = |pop: &Pop| pop.metrics().sum("anyrelay_polls_total", &[]);
    let before = polls(&pop);
    pop.wait_for("to go on", |pop| polls(pop) > before);
    assert_eq!(pop.metrics().sum("anyrelay_ready", &[]), 0);
    pop.signal("-INT");
    assert_eq!(pop.wait_for_end().code(), Some(0), "{}", pop.log());

    config.drain_seconds = 1;
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    let start = Instant::now();
    pop.stop();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_failed_start_exits_with_1_and_a_reason() {
    let folder = Folder::new();
    let config = Config::new();
    let text = config.text();
    let path = folder.pop(&config);
    for (from, to, reason) in [
        ("core = 0", "core = 1023", "worker[0].core: CPU 1023 cannot be used"),
        ("net_null1,no-rx=1", "net_nonsense1", "net_nonsense1"),
        ("net_null1,no-rx=1", "net_af_packet0,iface=none0", "net_af_packet0"),
        ("mbufs = 8192", "mbufs = 400000", "dpdk.mbufs"),
    ] {
        folder.write("pop.toml", text.replace(from, to));
        let output = anyrelay(&["run", "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{to}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{reason} in {}", stderr(&output));
    }
    let taken = std::net::TcpListener::bind(config.metrics).unwrap();
    folder.pop(&config);
    let output = anyrelay(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("metrics.listen: "), "{}", stderr(&output));
    drop(taken);
}
