//! Open tunnels: agents behind strict NATs have IPv6 addresses, by which a host that knows nothing
//! of tunnels reaches them, and they it, through any POP.

use std::time::Duration;

use crate::common::open::{Moving, OPEN, Opened, Trouble, path_mtu, wait_for_text};
use crate::common::tunnel::{READY, rotate_soon};
use crate::common::{eventually, full, milliseconds};
use anyrelay_lab::command;
use anyrelay_lab::tunnel::topology::{ICMP_SOURCE, THIRD};
use anyrelay_lab::tunnel::{Nat64, TunnelLab, TunnelLabBuilder, nat64};

/// Short ticks where the run is short, so that there are many.
fn lab(pops: usize) -> TunnelLabBuilder {
    let tick_ms = if full() { 8000 } else { 1000 };
    TunnelLab::builder().open().pops(pops).tick_ms(tick_ms)
}

fn seconds(shortened: u64, stated: u64) -> Duration {
    Duration::from_secs(if full() { stated } else { shortened })
}

/// Kernels' TCP in all directions, also between the two agents, while every route flips and POPs
/// are killed: no connection breaks, and the strict NATs find nothing invalid.
#[test]
fn routes_flip_and_pops_are_killed_and_no_connection_breaks() {
    let mut opened = Opened::start(lab(3).build().unwrap());
    let before: Vec<_> = (0..2).map(|agent| opened.address(agent)).collect();
    let moving = Moving::start(&opened);
    let mut trouble = Trouble::new(1);
    trouble.run(&mut opened.lab, seconds(12, 120), milliseconds(150), true);
    let (bodies, _) = moving.finish(&opened);
    println!("{} flips, {} kills", trouble.flips, trouble.kills);
    assert!(trouble.kills >= 2 && trouble.flips > 50, "{} {}", trouble.kills, trouble.flips);
    assert!(bodies > 24, "{bodies}");
    opened.assert_nothing_invalid();
    let after: Vec<_> = (0..2).map(|agent| opened.address(agent)).collect();
    assert_eq!(before, after);
}

/// What the third party sees, and what is said and published of the address.
#[test]
fn the_third_party_sees_the_open_address() {
    let opened = Opened::start(lab(2).build().unwrap());
    let (host, third, own) = (opened.host(0), opened.third(), opened.address(0));
    let file = opened.lab.work().join(format!("{}.open", opened.agents[0].name()));
    wait_for_text(&file, &format!("{own}\n"));
    opened.connect(host, THIRD).download(1, 100_000).unwrap();
    assert_eq!(opened.servers[2].peers()[0].ip(), own);
    opened.connect(third, own).upload(2, 100_000).unwrap();
    assert_eq!(opened.servers[0].peers()[0].ip(), THIRD);
    let status = opened.agents[0].status().unwrap();
    assert_eq!(status["open"]["mtu"], 1356, "{status:#}");
    for (name, least) in [("open_packets_sent", 30), ("open_packets_received", 30)] {
        assert!(status["counters"][name].as_u64().unwrap() >= least, "{status:#}");
    }
    let log = opened.agents[0].log();
    assert!(log.contains(&format!("open0 is up, open address {own}, MTU 1356")), "{log}");
    // The tunnel itself is not led into the device, though all of IPv6 is.
    let route = command::run(host.command("ip").args(["route", "get", "203.0.113.20"])).unwrap();
    assert!(route.contains("dev net0"), "{route}");
    let open = command::run(host.command("ip").args(["-4", "route", "show", "dev", "open0"]));
    assert_eq!(open.unwrap(), "");
    opened.assert_nothing_invalid();
}

/// Echoes both ways and between agents; hop limits that end at a POP.
#[test]
fn pings_pass_both_ways() {
    let opened = Opened::start(lab(2).build().unwrap());
    let (host, third) = (opened.host(0), opened.third());
    let addresses = [opened.address(0), opened.address(1)];
    let few = ["-c", "5", "-i", "0.05", "-w", "20"];
    for (from, to) in [(host, THIRD), (third, addresses[0]), (host, addresses[1])] {
        let text = opened.ping(from, &few, to);
        assert!(text.contains(" 0% packet loss"), "{text}\n{}", opened.account());
    }
    let text = opened.ping(host, &["-c", "1", "-t", "1", "-w", "5"], THIRD);
    assert!(text.contains("Time exceeded"), "{text}");
    assert!(text.contains(&format!("From {ICMP_SOURCE}")), "{text}");
    // One hop further is the router.
    let text = opened.ping(host, &["-c", "1", "-t", "2", "-w", "5"], THIRD);
    assert!(text.contains("Time exceeded") && !text.contains(&ICMP_SOURCE.to_string()), "{text}");
    // A made-up address.
    let made_up = (addresses[0].to_bits() ^ 7).into();
    let text = opened.ping(third, &["-c", "1", "-w", "1"], made_up);
    assert!(text.contains("100% packet loss"), "{text}");
    opened.assert_nothing_invalid();
}

/// Packet-too-big in both directions, of links outside, of the tunnel, and of the path under it.
#[test]
fn senders_learn_what_is_too_big() {
    let mut opened = Opened::start(lab(1).build().unwrap());
    let (third, own) = (opened.third().clone(), opened.address(0));
    let host = opened.host(0).clone();
    let ping = |opened: &Opened, from: &anyrelay_lab::Namespace, bytes: &str, to| {
        opened.ping(from, &["-M", "do", "-c", "2", "-i", "0.2", "-w", "5", "-s", bytes], to)
    };
    // From outside, beyond what the tunnel carries: the POP.
    let text = ping(&opened, &third, "1400", own);
    assert!(text.contains(&format!("From {ICMP_SOURCE}")) && text.contains("mtu"), "{text}");
    assert_eq!(path_mtu(&third, THIRD, own), Some(1356), "{text}");
    let text = ping(&opened, &third, "1308", own);
    assert!(text.contains(" 0% packet loss"), "{text}");
    // From the agent's host, beyond a link outside: the router, whose error comes in by the tunnel.
    opened.lab.topology.router.ip(&["link set third mtu 1300"]).unwrap();
    let text = ping(&opened, &host, "1308", THIRD);
    assert!(text.contains("mtu=1300") || text.contains("mtu: 1300"), "{text}");
    assert_eq!(path_mtu(&host, own, THIRD), Some(1300), "{text}");
    opened.connect(&host, THIRD).upload(1, 200_000).unwrap();
    // Down, beyond the path between POP and agent: the router's error about the segment becomes one
    // about the packet.
    opened.lab.topology.router.ip(&["link set third mtu 1500", "link set site1 mtu 1350"]).unwrap();
    let text = ping(&opened, &third, "1300", own);
    assert!(text.contains(&format!("From {ICMP_SOURCE}")), "{text}");
    assert_eq!(path_mtu(&third, THIRD, own), Some(1306), "{text}");
    opened.connect(&third, own).upload(2, 200_000).unwrap();
    // Up, beyond the path between agent and POP: the agent learns of it, and so does its host.
    opened.lab.topology.sites[0].nat.namespace.ip(&["link set out mtu 1340"]).unwrap();
    opened.connect(&host, THIRD).upload(3, 200_000).unwrap();
    opened.agents[0]
        .wait_until("its device follows", READY, |status| status["open"]["mtu"] == 1296)
        .unwrap();
    let link = command::run(host.command("ip").args(["link", "show", "open0"])).unwrap();
    assert!(link.contains("mtu 1296"), "{link}");
    opened.assert_nothing_invalid();
}

/// What was too large for the tunnel when it came from the device is told by the agent itself; from
/// other addresses than the open one nothing leaves.
#[test]
fn the_agent_sends_only_what_it_may() {
    let opened = Opened::start(lab(1).build().unwrap());
    let host = opened.host(0);
    // As the device was before the path became narrower.
    host.ip(&["link set open0 mtu 1500", "addr add fd00::1/128 dev lo nodad"]).unwrap();
    let text = opened.ping(host, &["-M", "do", "-c", "1", "-w", "5", "-s", "1400"], THIRD);
    assert!(text.contains("mtu=1356"), "{text}");
    let text = opened.ping(host, &["-I", "fd00::1", "-c", "2", "-i", "0.2", "-w", "1"], THIRD);
    assert!(text.contains("100% packet loss"), "{text}");
    let status = opened.agents[0].status().unwrap();
    assert_eq!(status["open"]["lost"]["too_big"], 1, "{status:#}");
    assert!(status["counters"]["refused_open_source"].as_u64() >= Some(2), "{status:#}");
    assert_eq!(opened.lab.metric("anyrelay_drops_total", &[("reason", "open_source")]), 0.0);
}

/// A mark that a router sets outside goes inside, to those who know of marks; for others the packet
/// is lost, as a router without marks would have lost it.
#[test]
fn marks_of_congestion_reach_the_host() {
    let opened = Opened::start(lab(1).build().unwrap());
    let (host, third, own) = (opened.host(0), opened.third(), opened.address(0));
    let marks = || {
        let text = command::run(host.command("cat").arg("/proc/net/snmp6")).unwrap();
        let line = text.lines().find(|line| line.starts_with("Ip6InCEPkts")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let ping = |class| opened.ping(third, &["-Q", class, "-c", "5", "-i", "0.05", "-w", "5"], own);
    let before = marks();
    assert!(ping("2").contains(" 0% packet loss"));
    assert_eq!(marks(), before);
    let rules = "table ip marks { chain passing { type filter hook forward priority 0;\n\
                 oifname \"site1\" tcp flags & psh == psh meta length 100-200 ip ecn set ce;\n\
                 }\n}\n";
    let router = &opened.lab.topology.router;
    command::run_with_input(router.command("nft").args(["-f", "-"]), rules).unwrap();
    let text = ping("2");
    assert!(text.contains(" 0% packet loss"), "{text}");
    assert_eq!(marks() - before, 5);
    let text = ping("0");
    assert!(text.contains("100% packet loss"), "{text}");
    let status = opened.agents[0].status().unwrap();
    assert!(status["open"]["lost"]["marked"].as_u64() >= Some(5), "{status:#}");
}

/// Below what IPv6 needs, the device is down, and says why; then it is up again. A connection
/// outlives it.
#[test]
fn a_narrow_path_takes_the_device_down() {
    let mut opened = Opened::start(lab(1).build().unwrap());
    let host = opened.host(0).clone();
    let mut connection = opened.connect(&host, THIRD);
    connection.download(1, 100_000).unwrap();
    for round in 0..2 {
        host.ip(&["link set net0 mtu 1323"]).unwrap();
        let agent = &mut opened.agents[0];
        agent.wait_until("down", READY, |status| status["open"]["state"] == "down").unwrap();
        let status = agent.status().unwrap();
        let reason = status["open"]["reason"].as_str().unwrap().to_owned();
        let wanted = "datagrams to the VIP can be 1323 bytes long, and an open address needs 1324";
        assert!(reason.starts_with(wanted), "{reason}");
        assert_eq!(status["state"], "ready", "the tunnel itself goes on");
        assert!(agent.log().contains(&format!("open0 is down: {wanted}")));
        let link = command::run(host.command("ip").args(["link", "show", "open0"])).unwrap();
        assert!(!link.contains(",UP"), "{link}");
        host.ip(&["link set net0 mtu 1324"]).unwrap();
        let up = |status: &serde_json::Value| status["open"]["mtu"] == 1280;
        agent.wait_until("up again", READY, up).unwrap();
        connection.upload(2 + round, 100_000).unwrap();
    }
    opened.assert_nothing_invalid();
}

/// Another public port is another address: it is told, published by the program, and works.
#[test]
fn a_changed_address_is_published() {
    let program = |lab: &TunnelLab| lab.work().join("publish");
    let lab = lab(2).build().unwrap();
    let (script, told) = (program(&lab), lab.work().join("told"));
    let text = format!(
        "#!/bin/sh\necho \"$1 $2 $ANYRELAY_OPEN_ADDRESS\" >{0}.new; mv {0}.new {0}\n",
        told.display()
    );
    std::fs::write(&script, text).unwrap();
    command::run(std::process::Command::new("chmod").arg("755").arg(&script)).unwrap();
    let mut opened = Opened::start_with(lab, |site, _| match site {
        0 => format!("{OPEN}publish = [\"run:{} one $HOME\"]\n", script.display()),
        _ => OPEN.to_owned(),
    });
    let old = opened.address(0);
    // No shell reads its words.
    wait_for_text(&told, &format!("one $HOME {old}\n"));
    let agent = &mut opened.agents[0];
    agent.terminate(READY).unwrap();
    std::fs::remove_file(agent.state_file()).unwrap();
    agent.start().unwrap();
    opened.wait_ready();
    let new = opened.address(0);
    assert_ne!(old, new);
    wait_for_text(&told, &format!("one $HOME {new}\n"));
    opened.connect(opened.third(), new).download(1, 100_000).unwrap();
    // With the state file it stays.
    let agent = &mut opened.agents[0];
    agent.terminate(READY).unwrap();
    agent.start().unwrap();
    opened.wait_ready();
    assert_eq!(opened.address(0), new);
    // The NAT forgets the flow while the agent runs, and gives it another port.
    let nat = &opened.lab.site(0).nat.namespace;
    let rules = "flush chain inet strict leaving\nadd rule inet strict leaving oifname \"out\" \
                 meta l4proto tcp masquerade to :2000-2999\n";
    command::run_with_input(nat.command("nft").args(["-f", "-"]), rules).unwrap();
    // Masquerading forgets what went out by an interface that goes down.
    let default = "route add default via 198.18.1.1";
    nat.ip(&["link set out down", "link set out up", default]).unwrap();
    // It may do so more than once, until it has seen both sides of the flow again.
    let mut newest = new;
    eventually("another address that works", READY, || {
        newest = opened.agents[0].open_address().unwrap_or(new);
        let connected = |to| opened.try_connect(opened.third(), to, Duration::from_secs(2));
        newest != new && connected(newest).is_ok_and(|mut tcp| tcp.download(2, 100_000).is_ok())
    });
    wait_for_text(&told, &format!("one $HOME {newest}\n"));
    let log = opened.agents[0].log();
    assert!(log.contains(&format!("the open address has changed to {newest}; ")), "{log}");
    assert!(log.contains(&format!("; {new} works no more")), "{log}");
}

/// An epoch begins: the old address is deprecated, and connections over it live on.
#[test]
fn connections_outlive_an_epoch() {
    let mut opened = Opened::start(lab(2).build().unwrap());
    let (host, old) = (opened.host(0).clone(), opened.address(0));
    let mut out = opened.connect(&host, THIRD);
    let mut inward = opened.connect(opened.third(), old);
    out.download(1, 100_000).unwrap();
    inward.download(1, 100_000).unwrap();
    rotate_soon(&mut opened.lab);
    eventually("another address", READY, || {
        opened.agents[0].open_address().is_ok_and(|address| address != old)
    });
    let status = opened.agents[0].status().unwrap();
    assert_eq!(status["open"]["deprecated"], old.to_string(), "{status:#}");
    for connection in [&mut out, &mut inward] {
        connection.download(2, 100_000).unwrap();
        connection.upload(3, 100_000).unwrap();
    }
    let new = opened.address(0);
    opened.connect(&host, THIRD).download(4, 100_000).unwrap();
    assert_eq!(opened.servers[2].peers()[1].ip(), new);
    opened.connect(opened.third(), old).download(5, 100_000).unwrap();
    opened.assert_nothing_invalid();
}

/// A tunnel without an open side: the agent says so, and the rest works.
#[test]
fn without_an_open_side_the_device_stays_down() {
    let mut lab = TunnelLab::builder().pops(1).tick_ms(1000).build().unwrap();
    let builder = lab.agent(0).unwrap().run(OPEN).unwrap();
    lab.reload().unwrap();
    let mut agent = builder.start().unwrap();
    let says = |status: &serde_json::Value| {
        let reason = status["open"]["reason"].as_str().unwrap_or_default();
        status["state"] == "ready" && reason.starts_with("the POPs' tunnel has no open side")
    };
    agent.wait_until("no open side", READY, says).unwrap();
    assert!(agent.log().contains("open0 is down: the POPs' tunnel has no open side"));
}

/// IPv4 alone outside: a stock NAT64 on the router, and connections begun by either side.
#[test]
fn hosts_outside_with_ipv4_are_reached_through_a_nat64() {
    let mut opened = Opened::start(lab(2).build().unwrap());
    let (host, third) = (opened.host(0).clone(), opened.third().clone());
    let addresses: Vec<_> = (0..2).map(|agent| opened.address(agent)).collect();
    let _nat64 = Nat64::start(&opened.lab, &addresses).unwrap();
    let mut out = opened.connect(&host, nat64::third_by_nat64());
    let mut inward = opened.connect(&third, nat64::inward(0));
    for round in 1..5 {
        for connection in [&mut out, &mut inward] {
            connection.download(2 * round, 100_000).unwrap();
            connection.upload(2 * round + 1, 100_000).unwrap();
        }
        opened.lab.flip_open().unwrap();
        opened.lab.flip(0).unwrap();
    }
    let from = opened.servers[2].peers()[0].ip();
    assert!(from.to_canonical().is_ipv4(), "{from}");
    opened.assert_nothing_invalid();
}
