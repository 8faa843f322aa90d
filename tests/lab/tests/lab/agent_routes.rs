//! An agent whose host sends everything into a tunnel that the agent carries: wg-quick with
//! `AllowedIPs = 0.0.0.0/0`, as distributed, over wireguard-go; and what an agent can tell of NATs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::common::eventually;
use anyrelay_lab::tunnel::{Agent, TunnelLab};
use anyrelay_lab::{Namespace, command};
use serde_json::Value;

const READY: Duration = Duration::from_secs(60);
const TARGET: &str = "127.0.0.1:51820";
/// Another port than that of WireGuard at the other end, so that none can be mistaken.
const LISTEN: &str = "127.0.0.1:51821";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn lab() -> TunnelLab {
    TunnelLab::builder().pops(1).tick_ms(1000).build().unwrap()
}

fn texts(status: &Value, name: &str) -> String {
    status["nat"][name].to_string()
}

/// Waits for a problem that has `text` in it.
fn wait_for_problem(agent: &mut Agent, text: &str) {
    let has = |status: &Value| status["problem"].as_str().is_some_and(|says| says.contains(text));
    agent.wait_until(text, READY, has).unwrap();
}

/// One end of a WireGuard tunnel, made by wg-quick.
struct WgQuick {
    host: Arc<Namespace>,
    file: PathBuf,
    name: String,
}

impl WgQuick {
    /// Brings it up with this `[Interface]` and `[Peer]`, without their keys.
    fn up(lab: &TunnelLab, site: usize, keys: &Keys, interface: &str, peer: &str) -> Self {
        // Sockets of wireguard-go are in a folder that all namespaces share.
        let name = format!("wg{}-{site}", std::process::id());
        let file = lab.work().join(format!("{name}.conf"));
        let other = &keys.public[1 - site];
        let text = format!(
            "[Interface]\nPrivateKey = {}\nMTU = 1236\n{interface}\n[Peer]\nPublicKey = {other}\n\
             {peer}\n",
            keys.private[site]
        );
        std::fs::write(&file, text).unwrap();
        let wg = WgQuick { host: lab.site(site).host.clone(), file, name };
        wg.again();
        wg
    }

    fn again(&self) {
        command::run(self.host.command("wg-quick").arg("up").arg(&self.file)).unwrap();
    }

    fn down(&self) {
        command::run(self.host.command("wg-quick").arg("down").arg(&self.file)).unwrap();
    }

    fn ping(&self) {
        let ping = ["-c", "3", "-i", "0.2", "-w", "60", "10.7.0.2"];
        command::run(self.host.command("ping").args(ping)).unwrap();
    }
}

impl Drop for WgQuick {
    fn drop(&mut self) {
        let _ = command::run(self.host.command("wg-quick").arg("down").arg(&self.file));
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.name));
    }
}

/// The keys of both ends.
struct Keys {
    private: [String; 2],
    public: [String; 2],
}

impl Keys {
    fn new(host: &Namespace) -> Keys {
        let private: [String; 2] = std::array::from_fn(|_| {
            command::run(host.command("wg").arg("genkey")).unwrap().trim().to_owned()
        });
        let public = private.each_ref().map(|key| {
            let output = command::run_with_input(host.command("wg").arg("pubkey"), key).unwrap();
            output.trim().to_owned()
        });
        Keys { private, public }
    }
}

/// The server's end, which the second agent serves.
fn server(lab: &TunnelLab, keys: &Keys) -> WgQuick {
    let interface = "Address = 10.7.0.2/32\nListenPort = 51820";
    WgQuick::up(lab, 1, keys, interface, "AllowedIPs = 10.7.0.1/32")
}

/// The client's end, which the first agent carries, with the default route.
fn client(lab: &TunnelLab, keys: &Keys, more: &str) -> WgQuick {
    let interface = format!("Address = 10.7.0.1/32\n{more}");
    let peer = format!("Endpoint = {LISTEN}\nAllowedIPs = 0.0.0.0/0");
    WgQuick::up(lab, 0, keys, &interface, &peer)
}

#[test]
fn with_the_mark_an_agent_carries_the_default_route() {
    let mut lab = lab();
    let host = lab.site(0).host.clone();
    // Strict, as some distributions set it: errors about the path must pass it too.
    host.sysctl("net.ipv4.conf.net0.rp_filter", "1").unwrap();
    let serving = lab.agent(1).unwrap().serve(address(TARGET));
    let connecting = lab.agent(0).unwrap().connect(address(LISTEN), &serving.token_file());
    let connecting = connecting.with(&["--mark", "51820"]);
    lab.reload().unwrap();
    let (mut serving, mut connecting) = (serving.start().unwrap(), connecting.start().unwrap());
    lab.wait_ready(&mut [&mut serving, &mut connecting], READY).unwrap();
    let keys = Keys::new(&host);
    let _server = server(&lab, &keys);
    let client = client(&lab, &keys, "FwMark = 51820");
    client.ping();
    let vip = lab.topology.family.vip().ip().to_string();
    let route = command::run(host.command("ip").args(["route", "get", &vip])).unwrap();
    assert!(route.contains(&client.name), "all other traffic to the VIP: {route}");

    // An agent that starts when the tunnel has the default route already.
    connecting.start().unwrap();
    lab.wait_ready(&mut [&mut connecting], READY).unwrap();
    client.ping();
    let outer = connecting.status().unwrap()["outer"].clone();
    assert_eq!((&outer["device"], &outer["mark"]), (&"net0".into(), &51820.into()), "{outer}");
    assert!(outer["route_warning"].is_null(), "{outer}");

    lab.topology.router.ip(&["link set pop1 mtu 1300"]).unwrap();
    eventually("the path MTU is told by a router far away", READY, || {
        let ping = ["-c", "1", "-W", "1", "-M", "do", "-s", "1200", "10.7.0.2"];
        let _ = command::run(host.command("ping").args(ping));
        connecting.status().unwrap()["outer"]["path_mtu"] == 1300
    });
}

#[test]
fn without_the_mark_an_agent_refuses_to_carry_itself() {
    let mut lab = lab();
    let host = lab.site(0).host.clone();
    let serving = lab.agent(1).unwrap().serve(address(TARGET));
    let connecting = lab.agent(0).unwrap().connect(address(LISTEN), &serving.token_file());
    let bound = lab.agent(0).unwrap();
    let peer = serving.token_file();
    let udp = format!("[udp]\nlisten = {LISTEN:?}\npeer = \"file:{}\"", peer.display());
    let bound = bound.run(&format!("interface = \"net0\"\n{udp}")).unwrap();
    lab.reload().unwrap();
    let (mut serving, mut connecting) = (serving.start().unwrap(), connecting.start().unwrap());
    lab.wait_ready(&mut [&mut serving, &mut connecting], READY).unwrap();
    let keys = Keys::new(&host);
    let _server = server(&lab, &keys);
    let client = client(&lab, &keys, "");
    wait_for_problem(&mut connecting, "the tunnel would carry itself");
    let status = connecting.status().unwrap();
    assert!(status["local"].is_null() && status["outer"]["device"] == client.name, "{status}");
    client.down();
    lab.wait_ready(&mut [&mut connecting], READY).unwrap();

    client.again();
    connecting.start().unwrap();
    eventually("it ends", READY, || !connecting.is_running());
    let log = connecting.log();
    let end = log.rsplit("anyrelay-agent: ").next().unwrap();
    let remedies = ["`FwMark = 51820`", "--mark 51820", "--interface", "`Table = off`", LISTEN];
    assert!(remedies.iter().all(|remedy| end.contains(remedy)), "{end}");

    let mut bound = bound.start().unwrap();
    lab.wait_ready(&mut [&mut bound], READY).unwrap();
    client.ping();
    assert_eq!(bound.status().unwrap()["outer"]["device"], "net0");
}

#[test]
fn status_tells_what_it_knows_of_nats() {
    let mut lab = lab();
    let agent = lab.agent(0).unwrap().serve(address(TARGET));
    lab.reload().unwrap();
    let mut agent = agent.start().unwrap();
    let random = "masquerade random or fully-random";
    let seen = |agent: &mut Agent, bindings: u64| {
        let done = |status: &Value| status["nat"]["bindings"].as_u64() >= Some(bindings);
        agent.wait_until("sees a binding", READY, done).unwrap();
        agent.status().unwrap()
    };
    let status = seen(&mut agent, 1);
    assert!(texts(&status, "ruled_out").contains(random), "{status}");
    assert!(texts(&status, "ruled_out").contains("NAT on this host itself"), "{status}");

    let nat = &lab.site(0).nat.namespace;
    let rule = "flush chain inet strict leaving\n\
                add rule inet strict leaving oifname \"out\" masquerade fully-random\n";
    command::run_with_input(nat.command("nft").args(["-f", "-"]), rule).unwrap();
    agent.kill9();
    std::fs::remove_file(agent.state_file()).unwrap();
    agent.start().unwrap();
    let status = seen(&mut agent, 1);
    assert!(texts(&status, "not_ruled_out").contains("one binding does not tell"), "{status}");
    lab.site(0).change_address(2, 3).unwrap();
    let status = seen(&mut agent, 2);
    assert_eq!(status["nat"]["port_changes"], 1, "{status}");
    assert!(texts(&status, "not_ruled_out").contains("the outside port changed"), "{status}");
    assert!(!texts(&status, "ruled_out").contains(random), "{status}");
}

#[test]
fn masquerading_of_the_hosts_own_port_is_named() {
    let mut lab = lab();
    let agent = lab.agent(0).unwrap().serve(address(TARGET));
    lab.reload().unwrap();
    let host = lab.site(0).host.clone();
    let nft = |rules: &str| {
        command::run_with_input(host.command("nft").args(["-f", "-"]), rules).unwrap();
    };
    nft("table ip own { chain leaving { type nat hook postrouting priority srcnat;\n\
         oifname \"net0\" masquerade fully-random; }; }\n");
    let mut agent = agent.start().unwrap();
    wait_for_problem(&mut agent, "this host itself translates the agent's");
    let vip = lab.topology.family.vip();
    let remedy = format!("ip daddr {} tcp dport {} accept", vip.ip(), vip.port());
    let status = agent.status().unwrap();
    assert!(status["problem"].as_str().unwrap().contains(&remedy), "{status}");
    nft(&format!("insert rule ip own leaving {remedy}\n"));
    // Started again it takes another port, which the kernel has no entry for.
    agent.start().unwrap();
    lab.wait_ready(&mut [&mut agent], READY).unwrap();
}
