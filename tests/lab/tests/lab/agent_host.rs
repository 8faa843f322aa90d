//! What an agent does on its own host: the kernel's TCP is kept out whatever happens to the
//! firewall's rules, the host may move, the agent may crash, two of them live side by side, and
//! two capabilities are all that it needs.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{eventually, milliseconds};
use anyrelay_lab::tunnel::agent::{agent_binary, tables};
use anyrelay_lab::tunnel::stream::{Flow, Plan, UdpServer};
use anyrelay_lab::tunnel::{Agent, Family, TunnelLab};
use anyrelay_lab::{Namespace, Process, command};

const READY: Duration = Duration::from_secs(60);
const TARGET: &str = "127.0.0.1:7000";
const LISTEN: &str = "127.0.0.1:6000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One agent that connects at the first place, to one that serves at the second.
struct Pair {
    connecting: Agent,
    _serving: Agent,
    server: UdpServer,
    lab: TunnelLab,
}

fn pair(family: Family) -> Pair {
    let mut lab = TunnelLab::builder().pops(1).family(family).tick_ms(1000).build().unwrap();
    let server = UdpServer::start(&lab.site(1).host, address(TARGET)).unwrap();
    let serving = lab.agent(1).unwrap().serve(address(TARGET));
    let connecting = lab.agent(0).unwrap().connect(address(LISTEN), &serving.token_file());
    lab.reload().unwrap();
    let (mut serving, mut connecting) = (serving.start().unwrap(), connecting.start().unwrap());
    wait_ready(&lab, &mut [&mut serving, &mut connecting]);
    wait_for_peer(&mut connecting);
    Pair { connecting, _serving: serving, server, lab }
}

fn wait_ready(lab: &TunnelLab, agents: &mut [&mut Agent]) {
    lab.wait_ready(agents, READY)
        .unwrap_or_else(|error| panic!("{error}\ndropped by {}", lab.drops_text()));
}

fn wait_for_peer(agent: &mut Agent) {
    let knows = |status: &serde_json::Value| !status["peers"][0]["token"].is_null();
    agent.wait_until("knows its peer", READY, knows).unwrap();
}

impl Pair {
    fn flow(&self) -> Flow {
        let host = &self.lab.site(0).host;
        Flow::start(&self.server, host, address(LISTEN), Plan::both(200)).unwrap()
    }
}

/// Datagrams still come through, both ways.
fn goes_on(what: &str, flow: &Flow) {
    let (up, down) = flow.received();
    eventually(what, READY, || {
        let now = flow.received();
        now.0 > up + 50 && now.1 > down + 50
    });
}

#[test]
fn a_flushed_firewall_is_mended_and_a_crash_leaves_nothing() {
    for family in [Family::V4, Family::V6] {
        let mut pair = pair(family);
        let flow = pair.flow();
        goes_on("at first", &flow);
        assert_eq!(pair.lab.invalid().unwrap(), [(0, 0), (0, 0)], "no RST of the kernel's");

        let host = pair.lab.site(0).host.clone();
        command::run(host.command("nft").args(["flush", "ruleset"])).unwrap();
        let mended = |status: &serde_json::Value| status["outer"]["firewall_restored"] == 1;
        pair.connecting.wait_until("sees the leak", READY, mended).unwrap();
        assert_eq!(pair.connecting.tables().unwrap().len(), 1);
        goes_on("after the flush", &flow);

        let token = pair.connecting.token().unwrap();
        pair.connecting.kill9();
        let left = tables(&host).unwrap();
        assert_eq!(left.len(), 1, "a crash leaves the table: {left:?}");
        pair.connecting.start().unwrap();
        pair.connecting.wait_ready(READY).unwrap();
        assert_eq!(pair.connecting.token().unwrap(), token, "{}", pair.connecting.log());
        assert_eq!(pair.connecting.tables().unwrap(), left);
        goes_on("after the crash", &flow);

        let control = pair.lab.work().join(format!("{}.control", pair.connecting.name()));
        assert!(control.exists());
        assert_eq!(pair.connecting.terminate(READY).unwrap(), Some(0));
        assert_eq!(tables(&host).unwrap(), [""; 0]);
        assert!(!control.exists());
    }
}

#[test]
fn a_host_that_moves_keeps_its_session() {
    let mut pair = pair(Family::V4);
    let flow = pair.flow();
    goes_on("at first", &flow);
    let site = pair.lab.site(0);
    let before = site.address();
    let net = before.to_string();
    let net = net.rsplit_once('.').unwrap().0;
    let moves = [
        format!("addr del {before}/24 dev net0"),
        format!("addr add {net}.9/24 dev net0"),
        format!("route replace default via {net}.1"),
    ];
    site.host.ip(&moves).unwrap();
    let now = format!("{net}.9:");
    let moved = |status: &serde_json::Value| {
        status["local"].as_str().is_some_and(|local| local.starts_with(&now))
    };
    pair.connecting.wait_until("moves", READY, moved).unwrap();
    goes_on("after the move", &flow);
    assert_eq!(flow.peers().len(), 1, "the server sees the same source");
    assert_eq!(pair.connecting.tables().unwrap().len(), 1);
}

#[test]
fn agents_share_a_host_but_not_a_port_or_table() {
    let mut lab = TunnelLab::builder().pops(1).tick_ms(1000).build().unwrap();
    let first = lab.agent(0).unwrap().serve(address(TARGET));
    // The second would like the first one's port.
    let second = lab.agent(0).unwrap().serve(address(TARGET));
    lab.reload().unwrap();
    let mut first = first.start().unwrap();
    wait_ready(&lab, &mut [&mut first]);
    let state = lab.work().join(format!("{}.state", second.name()));
    eventually("the state is saved", READY, || first.state_file().exists());
    std::fs::copy(first.state_file(), state).unwrap();
    let mut second = second.start().unwrap();
    wait_ready(&lab, &mut [&mut first, &mut second]);
    assert!(second.log().contains("taking another"), "{}", second.log());
    assert_eq!(first.tables().unwrap().len(), 2);
    assert_eq!(second.terminate(READY).unwrap(), Some(0));
    assert_eq!(first.tables().unwrap().len(), 1);
    assert_eq!(first.status().unwrap()["state"], "ready");
}

/// The agent as the user `nobody` with these capabilities and no others.
fn with_capabilities(host: &Namespace, work: &Path, capabilities: &str) -> Command {
    let binary = work.join("agent");
    std::fs::copy(agent_binary().unwrap(), &binary).unwrap();
    let key = work.join("nobody.key");
    std::fs::write(&key, format!("tenant = 1\nagent = 1\nkey = \"{}\"\n", "1".repeat(32))).unwrap();
    std::os::unix::fs::chown(&key, Some(NOBODY), None).unwrap();
    let mut command = host.command("setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--clear-groups", "--no-new-privs"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{set}=-all{capabilities}"));
    }
    command.arg(binary).args(["serve", "--vip", "198.51.100.1:443", "--udp-target", TARGET]);
    command.arg("--key").arg(key);
    command
}

#[test]
fn two_capabilities_are_enough_and_a_missing_one_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let lab = TunnelLab::builder().pops(1).build().unwrap();
    let host = lab.site(0).host.clone();
    // Out of the lab's own folder, which is root's alone.
    let work = std::env::temp_dir().join(format!("anyrelay-caps-{}", std::process::id()));
    std::fs::create_dir_all(&work).unwrap();
    std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (capabilities, missing) in [
        ("", "missing CAP_NET_RAW and CAP_NET_ADMIN:"),
        (",+net_raw", "missing CAP_NET_ADMIN:"),
        (",+net_admin", "missing CAP_NET_RAW:"),
    ] {
        let error = command::run(&mut with_capabilities(&host, &work, capabilities)).unwrap_err();
        assert!(error.to_string().contains(missing), "{capabilities}: {error}");
    }
    let mut command = with_capabilities(&host, &work, ",+net_raw,+net_admin");
    let log = work.join("log");
    let mut agent = Process::spawn("nobody's agent", &mut command, Some(&log)).unwrap();
    eventually("it has its table", READY, || tables(&host).unwrap().len() == 1);
    std::thread::sleep(milliseconds(200));
    assert_eq!(agent.status().unwrap(), None, "{}", agent.log_tail(20));
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.wait(READY).unwrap().code(), Some(0), "{}", agent.log_tail(20));
    assert_eq!(tables(&host).unwrap(), [""; 0], "{}", agent.log_tail(20));
    std::fs::remove_dir_all(&work).unwrap();
}

const NOBODY: u32 = 65534;

/// Routers on the way tell by ICMP what they do not take; both kernels' ways of sending obey it.
#[test]
fn what_the_path_does_not_take_is_not_sent() {
    for family in [Family::V4, Family::V6] {
        let pair = pair(family);
        pair.lab.site(0).nat.namespace.ip(&["link set out mtu 1300"]).unwrap();
        long_datagrams_are_refused(family, &pair);
    }
}

/// Routers between a POP and the other agent tell the POP, and it tells the agent that sends.
#[test]
fn what_the_way_to_the_other_agent_does_not_take_is_not_sent() {
    for family in [Family::V4, Family::V6] {
        let pair = pair(family);
        pair.lab.topology.router.ip(&["link set site2 mtu 1300"]).unwrap();
        long_datagrams_are_refused(family, &pair);
    }
}

fn long_datagrams_are_refused(family: Family, pair: &Pair) {
    let too_big = || pair.connecting.status().unwrap()["outer"]["too_big"].as_u64().unwrap();
    assert_eq!(too_big(), 0);
    // 1240 bytes and what the tunnel adds are more than 1300, and 1100 are less.
    let send = |bytes| {
        let plan = Plan { up_per_second: 200, down_per_second: 0, bytes };
        let host = &pair.lab.site(0).host;
        Flow::start(&pair.server, host, address(LISTEN), plan).unwrap()
    };
    let flow = send(1240);
    eventually("long datagrams are refused", READY, || too_big() > 100);
    let (up, _) = flow.finish(milliseconds(200));
    assert_eq!(up.received, 0, "{family:?}: the router has sent them on");
    let flow = send(1100);
    eventually("short ones go through", READY, || flow.received().0 > 100);
}
