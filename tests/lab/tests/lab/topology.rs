//! The lab itself: routes move, spraying is per packet, POP kernels are silent, nothing is left
//! over.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::eventually;
use anyrelay_lab::counters::InterfaceCounters;
use anyrelay_lab::registry::{self, WorkDir};
use anyrelay_lab::topology::{self, Shape};
use anyrelay_lab::{Direction, Process, Routes, Topology, command};

struct Net {
    routes: Routes,
    topology: Topology,
    work: WorkDir,
}

fn build(shape: &Shape) -> Net {
    registry::prepare().unwrap();
    let id = registry::new_lab_id();
    let work = WorkDir::create(&id).unwrap();
    let topology = Topology::build(&id, shape).unwrap();
    let routes = topology.routes(shape, &work.path().join("routes.log")).unwrap();
    Net { routes, topology, work }
}

/// Sends datagrams from the client to the VIP and says how many each POP's interface got.
fn arrivals_up(net: &Net, count: usize) -> Vec<u64> {
    let count_pops = || -> Vec<u64> {
        let mut counters = InterfaceCounters::open(&net.topology.client_router).unwrap();
        let now = counters.read().unwrap();
        (1..=3).map(|n| now[&format!("pop{n}")].tx_packets).collect()
    };
    let before = count_pops();
    let socket = net.topology.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    for n in 0..count {
        socket.send_to(b"x", (topology::VIP, 9)).unwrap();
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    std::thread::sleep(Duration::from_millis(100));
    count_pops().iter().zip(&before).map(|(after, before)| after - before).collect()
}

fn leftovers(id: &str) -> String {
    let namespaces = command::run(Command::new("ip").args(["netns", "list"])).unwrap();
    let links = command::run(Command::new("ip").args(["-br", "link"])).unwrap();
    format!("{namespaces}{links}").lines().filter(|line| line.contains(id)).collect()
}

#[test]
fn routes_move_and_spray_per_packet() {
    let mut net = build(&Shape { kernel_pops: true, ..Shape::default() });
    for pop in [1, 2, 0] {
        net.routes.to(Direction::Up, pop).unwrap();
        let got = arrivals_up(&net, 200);
        // A few ARP frames beside the 200.
        assert!((200..220).contains(&got[pop]), "to {pop}: {got:?}");
        assert!(got.iter().sum::<u64>() < 230, "only to {pop}: {got:?}");
    }
    net.routes.spray(Direction::Up, &[0, 1, 2]).unwrap();
    let got = arrivals_up(&net, 3000);
    assert!(got.iter().all(|n| (850..1150).contains(n)), "sprayed: {got:?}");
    net.routes.spray(Direction::Up, &[0, 2]).unwrap();
    let got = arrivals_up(&net, 2000);
    assert!(got[1] < 10 && got[0] > 850 && got[2] > 850, "sprayed over two: {got:?}");
    net.routes.to(Direction::Up, 1).unwrap();
    let got = arrivals_up(&net, 200);
    assert!(got[1] >= 200 && got[0] + got[2] < 10, "no longer sprayed: {got:?}");
}

#[test]
fn a_pop_without_relay_sends_nothing() {
    let net = build(&Shape::default());
    // The router cannot resolve a POP that has no relay, so the neighbours are given.
    let mut cat = net.topology.pops[0].command("cat");
    let address = command::run(cat.arg("/sys/class/net/wan/address")).unwrap();
    let neighbour =
        format!("neigh replace 10.1.1.2 lladdr {} nud permanent dev pop1", address.trim());
    net.topology.client_router.ip(&[neighbour]).unwrap();
    let got = arrivals_up(&net, 500);
    assert!(got[0] >= 500, "frames arrive: {got:?}");
    for pop in &net.topology.pops {
        let now = InterfaceCounters::open(pop).unwrap().read().unwrap();
        assert_eq!(now["wan"].tx_packets + now["lan"].tx_packets, 0, "{}: {now:?}", pop.name());
    }
}

#[test]
fn nothing_is_left_after_a_panic() {
    let id = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let shared = id.clone();
    let outcome = std::thread::spawn(move || {
        let net = build(&Shape::default());
        let id = net.work.path().file_name().unwrap().to_string_lossy().into_owned();
        let mut sleep = net.topology.target.command("sleep");
        let process = Process::spawn("sleep", sleep.arg("600"), None).unwrap();
        assert!(leftovers(&id).contains("target"), "the lab shows up while it exists");
        *shared.lock().unwrap() = format!("{id} {}", process.pid());
        panic!("on purpose");
    })
    .join();
    assert!(outcome.is_err());
    let id = id.lock().unwrap().clone();
    let (id, pid) = id.split_once(' ').expect("the lab was built before the panic");
    assert_eq!(leftovers(id), "");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is gone");
    assert!(!std::env::temp_dir().join(id).exists(), "the directory is gone");
}

/// Runs this test once more as a process of its own, which builds a lab and waits for a signal.
#[test]
fn a_signal_takes_everything_down() {
    const HOLD: &str = "ANYRELAY_LAB_HOLD";
    if std::env::var_os(HOLD).is_some() {
        let net = build(&Shape::default());
        let mut sleep = net.topology.target.command("sleep");
        let process = Process::spawn("sleep", sleep.arg("600"), None).unwrap();
        println!("holding {} {}", net.work.path().display(), process.pid());
        std::thread::sleep(Duration::from_secs(60));
        panic!("no signal came");
    }
    let mut holder = Command::new(std::env::current_exe().unwrap());
    holder.args(["--exact", "topology::a_signal_takes_everything_down", "--nocapture"]);
    let mut holder = holder.env(HOLD, "1").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains("holding ")).unwrap();
    let words: Vec<&str> = line.split("holding ").nth(1).unwrap().split(' ').collect();
    let (directory, sleeper) = (Path::new(words[0]), words[1]);
    let id = directory.file_name().unwrap().to_string_lossy().into_owned();
    assert!(leftovers(&id).contains("target"), "the lab shows up while it exists");

    let pid = rustix::process::Pid::from_child(&holder);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(holder.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(leftovers(&id), "");
    assert!(!Path::new(&format!("/proc/{sleeper}")).exists(), "process {sleeper} is gone");
    assert!(!directory.exists(), "the directory is gone");
}

#[test]
fn a_dead_run_is_swept_up() {
    registry::prepare().unwrap();
    // No process has an id this high: pid_max is at most 4194304.
    let name = "arlab-99999999-0-client";
    command::run(Command::new("ip").args(["netns", "add", name])).unwrap();
    let directory = std::env::temp_dir().join("arlab-99999999-0");
    std::fs::create_dir_all(&directory).unwrap();
    let mut sleep = Command::new("ip");
    let mut sleep = sleep.args(["netns", "exec", name, "sleep", "600"]).spawn().unwrap();
    // Until then nothing shows whose it is.
    eventually("its process is there", Duration::from_secs(30), || {
        let pids = command::run(Command::new("ip").args(["netns", "pids", name])).unwrap();
        pids.split_whitespace().any(|pid| pid == sleep.id().to_string())
    });
    registry::sweep();
    assert_eq!(leftovers(name), "");
    assert!(!directory.exists());
    assert!(!sleep.wait().unwrap().success(), "its process was ended");
}
