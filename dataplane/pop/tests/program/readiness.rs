//! Readiness through the binary: it is proof of forwarding, and no peer of the listener makes it
//! late.
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{Config, Folder, Pop, service};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Connections of each kind in turns. Some may have ended when the last is made, as each has its
/// time; the unit tests of the listener hold all of them.
#[test]
fn a_thousand_connections_do_not_make_readyz_late() {
    let (folder, config) = (Folder::new(), Config::new());
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    let huge = ["GET / HTTP/1.1\r\nX: ", &"a".repeat(8000)].concat();
    for text in ["", "GET /rea", &huge, "GET /metrics HTTP/1.1\r\n\r\n"] {
        let held: Vec<_> = (0..1000).map(|_| connect(config.metrics, text)).collect();
        // The best of some, as this machine may have other work.
        let once = |_| {
            let start = Instant::now();
            assert_eq!(pop.get("/readyz").unwrap().0, 200);
            start.elapsed()
        };
        let best = (0..20).map(once).min().unwrap();
        assert!(best < Duration::from_millis(100), "{best:?} with {text:.10}");
        drop(held);
    }
    pop.stop();
}

fn connect(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // The oldest may have given way.
    let _ = stream.write_all(text.as_bytes());
    stream
}

#[test]
fn a_worker_that_stands_still_makes_the_pop_unready_and_is_named() {
    let (folder, mut config) = (Folder::new(), Config::new());
    config.workers = vec![r#""wan:0""#, r#""lan:0""#];
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    let worker = thread_of(&pop, "worker-1");
    ptrace::seize(worker, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(worker).unwrap();
    waitpid(worker, Some(WaitPidFlag::__WALL)).unwrap();
    let reasons = pop.wait_for_status(503);
    assert!(reasons.starts_with("worker[1] is stuck: no turn of its loop in 1 s"), "{reasons}");
    assert_eq!(reasons.lines().count(), 1, "{reasons}");
    assert_eq!(pop.get("/readyz/relay").unwrap(), (503, reasons));
    assert_eq!(pop.metrics().sum("anyrelay_ready", &[]), 0);
    ptrace::detach(worker, None).unwrap();
    pop.wait_for_status(200);
    pop.stop();
    assert!(pop.log().contains("worker[1] is stuck"), "{}", pop.log());
}

/// The thread of that name.
fn thread_of(pop: &Pop, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{}/task", pop.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap());
    let is_it =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap().trim() == name;
    let task = tasks.find(is_it).unwrap();
    Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap())
}

/// Every worker forwards a probe to every service, and nothing of it leaves or is counted as
/// traffic.
#[test]
fn workers_prove_that_they_forward() {
    for layout in ["run-to-completion", "pipeline"] {
        let (folder, mut config) = (Folder::new(), Config::new());
        config.layout = layout;
        config.workers = vec![r#""wan:0""#, r#""lan:0""#];
        config.services += &service("raw", 80, "198.51.100.10:8080", "\"transparent\"");
        config.services += "[[tunnel]]\nname = \"tun\"\nvip4 = \"203.0.113.20:443\"\n";
        let tenants = "id = 1\nclock = \"trusted\"\ntenants = \"tenants.toml\"\n";
        let text = config.text().replace("id = 1\n", tenants);
        let path = folder.pop(&config);
        folder.write_private("tenants.toml", "");
        fs::write(&path, text).unwrap();
        let mut pop = Pop::start(&path, config.metrics, &[]);
        pop.wait_for("to probe all services", |pop| {
            let metrics = pop.metrics();
            let forwarded = |worker| {
                metrics.sum("anyrelay_probes_total", &[("result", "forwarded"), ("worker", worker)])
            };
            forwarded("0") >= 3 && forwarded("1") >= 3
        });
        let metrics = pop.metrics();
        for result in ["failed", "excused"] {
            assert_eq!(metrics.sum("anyrelay_probes_total", &[("result", result)]), 0, "{result}");
        }
        for name in ["anyrelay_port_packets_total", "anyrelay_service_packets_total"] {
            assert_eq!(metrics.sum(name, &[]), 0, "{name}");
        }
        assert_eq!(metrics.sum("anyrelay_replies_total", &[]), 0);
        assert_eq!(metrics.sum("anyrelay_drops_total", &[]), 0, "{:?}", metrics.drops());
        for page in ["/readyz", "/readyz/relay", "/readyz/tunnel"] {
            assert_eq!(pop.get(page).unwrap(), (200, "ready\n".to_owned()), "{page}");
        }
        pop.stop();
    }
}
