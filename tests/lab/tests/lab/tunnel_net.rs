//! The laboratory for tunnels itself, by plain kernel TCP: its NATs are strict, its middleboxes do
//! what they say and break nothing that TCP can mend.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{LIMIT, eventually, milliseconds};
use anyrelay_kit::frames::{ACK, PSH, Segment};
use anyrelay_lab::middlebox::Trouble;
use anyrelay_lab::packet::Injector;
use anyrelay_lab::registry::{self, WorkDir};
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::tunnel::stream::{Flow, Plan, UdpServer};
use anyrelay_lab::tunnel::{AgentRoutes, Family, Shape, Site, TunnelTopology};

const BYTES: usize = 5_000_000;

struct Net {
    routes: AgentRoutes,
    servers: Vec<Server>,
    topology: Arc<TunnelTopology>,
    _work: WorkDir,
}

/// POPs whose kernels are the VIP, each with a server.
fn build(site: Site, family: Family, pops: usize) -> Net {
    registry::prepare().unwrap();
    let id = registry::new_lab_id();
    let work = WorkDir::create(&id).unwrap();
    let sites = vec![site];
    let shape = Shape { pops, sites, family, kernel_pops: true, ..Shape::default() };
    let topology = Arc::new(TunnelTopology::build(&id, &shape).unwrap());
    let routes = topology.routes(&work.path().join("routes.log")).unwrap();
    let servers = topology.pops.iter().map(|pop| Server::start(pop, family.vip()).unwrap());
    Net { servers: servers.collect(), routes, topology, _work: work }
}

fn connect(net: &Net) -> Connection {
    let vip = net.topology.family.vip();
    Connection::open(&net.topology.sites[0].host, vip, LIMIT).unwrap().unwrap()
}

/// Both ways, hashed.
fn transfer(net: &Net) {
    let mut connection = connect(net);
    connection.download(1, BYTES).unwrap();
    connection.upload(2, BYTES).unwrap();
}

fn site(inside: Option<Trouble>, outside: Option<Trouble>) -> Site {
    Site { inside, outside, ..Site::default() }
}

#[test]
fn nat_hides_the_agent_and_passes_tcp() {
    for family in [Family::V4, Family::V6] {
        let net = build(Site::default(), family, 1);
        transfer(&net);
        let site = &net.topology.sites[0];
        assert_eq!(net.servers[0].peers()[0].ip(), site.public());
        assert_eq!(site.nat.invalid().unwrap(), 0);
        assert_eq!(site.nat.log_text(), "");
    }
}

#[test]
fn nat_drops_counts_and_logs_what_is_not_in_the_window() {
    for family in [Family::V4, Family::V6] {
        let timeouts = vec![("established", 33)];
        let net = build(Site { timeouts, ..Site::default() }, family, 1);
        let mut connection = connect(&net);
        connection.download(1, 1000).unwrap();
        let site = &net.topology.sites[0];
        let entry = site.nat.entries().unwrap().pop().unwrap();
        assert_eq!(entry.state, "ESTABLISHED");
        assert!((30..=33).contains(&entry.timeout_seconds), "{entry:?}");
        assert_eq!(entry.source_port, connection.stream().local_addr().unwrap().port());

        let outsider = Injector::open(&net.topology.outsider).unwrap();
        let to = std::net::SocketAddr::new(site.public(), entry.public_port);
        let mut segment = Segment { ttl: 64, ..Segment::new(family.vip(), to, PSH | ACK) };
        segment.data = b"far from the window".to_vec();
        // All around the circle of numbers: half of them are ahead of the window, wherever it is,
        // and none of those passes; this kernel lets some pass that are behind. One may lie at the
        // edge.
        for n in 0..10 {
            segment.seq = n * (u32::MAX / 10);
            outsider.send(&segment.from_host()).unwrap();
        }
        eventually("those ahead are invalid", Duration::from_secs(30), || {
            site.nat.invalid().unwrap() >= 4 && site.nat.logged().unwrap() >= 4
        });
        let text = site.nat.log_text();
        assert!(text.contains("SEQ is") && text.contains("443"), "{text}");
        // To a port without a flow.
        segment.dst.set_port(entry.public_port ^ 1);
        let before = site.nat.invalid().unwrap();
        outsider.send(&segment.from_host()).unwrap();
        eventually("of no flow", Duration::from_secs(30), || site.nat.invalid().unwrap() > before);
        connection.download(2, 1000).unwrap();
    }
}

#[test]
fn moved_routes_of_one_agent_lead_elsewhere() {
    let mut net = build(Site::default(), Family::V4, 3);
    for pop in [2, 0, 1] {
        net.routes.to(0, pop).unwrap();
        let before = net.servers[pop].accepted();
        drop(connect(&net));
        eventually("that POP accepts", LIMIT, || net.servers[pop].accepted() == before + 1);
    }
    net.routes.spray(0, &[0, 1, 2]).unwrap();
    let vip = Family::V4.vip();
    let host = &net.topology.sites[0].host;
    let attempts = (0..6).map(|_| Connection::open(host, vip, milliseconds(1500)).unwrap().is_ok());
    assert!(attempts.into_iter().any(|connected| !connected), "no kernel survives being sprayed");
    net.routes.to(0, 1).unwrap();
    transfer(&net);
}

#[test]
fn rewritten_numbers_break_nothing() {
    for family in [Family::V4, Family::V6] {
        let net = build(site(Some(Trouble::ISN), Some(Trouble::ISN)), family, 1);
        transfer(&net);
        let site = &net.topology.sites[0];
        assert_eq!(site.nat.invalid().unwrap(), 0);
        assert_eq!(site.nat.log_text(), "");
        for middlebox in site.boxes.iter().flatten() {
            let done = middlebox.done();
            assert!(done.segments > 1000 && done.lost == 0 && done.refused == 0, "{done:?}");
        }
    }
}

/// SACK blocks are rewritten too, or losses would make this a transfer of minutes.
#[test]
fn a_bad_path_with_rewritten_numbers_is_mended_by_tcp() {
    let trouble = Trouble { rewrite_isn: true, corrupt: 0.002, seed: 7, ..Trouble::BAD_PATH };
    let net = build(site(Some(trouble), None), Family::V4, 1);
    transfer(&net);
    let site = &net.topology.sites[0];
    let done = site.boxes[0].as_ref().unwrap().done();
    assert!(done.lost > 20 && done.duplicated > 10 && done.held > 20, "{done:?}");
    assert!(done.corrupted > 0 && done.not_held == 0, "{done:?}");
    let share = done.lost as f64 / done.segments as f64;
    assert!((0.01..0.03).contains(&share), "2% are lost: {done:?}");
}

#[test]
fn synproxy_answers_and_strips_window_scaling() {
    let net = build(Site { synproxy: true, ..Site::default() }, Family::V4, 1);
    let mut connection = connect(&net);
    connection.download(1, BYTES).unwrap();
    connection.upload(2, BYTES).unwrap();
    let host = &net.topology.sites[0].host;
    let info = anyrelay_lab::command::run(host.command("ss").args(["-tinH"])).unwrap();
    assert!(info.contains("mss:") && !info.contains("wscale:"), "{info}");
    assert_eq!(net.topology.sites[0].nat.invalid().unwrap(), 0);
    // To the agent a dead POP looks alive: only the proxy answers.
    net.topology.pops[0].ip(&["link set wan down"]).unwrap();
    let vip = Family::V4.vip();
    assert!(Connection::open(host, vip, milliseconds(1000)).unwrap().is_ok());
}

/// What the tunnels' tests send by, without a tunnel: if this loses any, they measure the machine.
#[test]
fn numbered_datagrams_arrive_while_the_link_is_up() {
    let net = build(Site::default(), Family::V4, 1);
    let mut at = Family::V4.vip();
    at.set_port(9000);
    let server = UdpServer::start(&net.topology.pops[0], at).unwrap();
    let host = &net.topology.sites[0].host;
    let flow = Flow::start(&server, host, at, Plan::both(10_000)).unwrap();
    // Two seconds, or more where the machine is busy.
    eventually("as many as that", Duration::from_secs(10), || flow.received().0 > 19_000);
    // What was sent after this may still be on its way when the link goes down.
    let down = flow.newest_arrived().0;
    net.topology.pops[0].ip(&["link set wan down"]).unwrap();
    std::thread::sleep(milliseconds(500));
    let (up, _) = flow.finish(milliseconds(200));
    assert_eq!((up.duplicates, up.corrupted), (0, 0));
    assert!(up.lost.len() > 500, "the link was down: {} lost", up.lost.len());
    let window = down.saturating_sub(milliseconds(30))..Duration::MAX;
    assert_eq!(up.lost_outside(&[window]), 0);
}
