//! A host that probes a target with `anyrelay probe`, and the path between. No POP runs.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::thread::JoinHandle;

use super::TARGET;
use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::counters::InterfaceCounters;
use anyrelay_lab::lab::anyrelay_binary;
use anyrelay_lab::registry::{self, WorkDir};
use anyrelay_lab::topology::{self, Shape};
use anyrelay_lab::{Decapsulator, Encapsulation, Namespace, Topology, command};
use serde_json::Value;

/// A client and a target with two routers between, over both families.
pub struct Net {
    pub topology: Topology,
    pub work: WorkDir,
}

/// What `probe` said, with its exit code.
pub struct Answer {
    pub code: i32,
    pub text: String,
}

impl Net {
    pub fn build() -> Self {
        registry::prepare().unwrap();
        let id = registry::new_lab_id();
        let work = WorkDir::create(&id).unwrap();
        let shape = Shape { pops: 1, direct: true, ipv6: true, ..Shape::default() };
        let topology = Topology::build(&id, &shape).unwrap();
        Net { topology, work }
    }

    /// Probes with these arguments, and short patience.
    pub fn probe(&self, arguments: &[&str]) -> Answer {
        let mut probe = self.topology.client.command(anyrelay_binary().unwrap());
        run(probe.args(["probe", "--timeout-ms", "400", "--tries", "2"]).args(arguments))
    }

    /// Probes one target: what `--json` says of it.
    pub fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let answer = self.probe(&[&["--json"], arguments].concat());
        (answer.code, answer.json()["targets"][0].clone())
    }

    /// How many packets the client has sent.
    pub fn sent(&self) -> u64 {
        let mut counters = InterfaceCounters::open(&self.topology.client).unwrap();
        counters.read().unwrap()["net0"].tx_packets
    }

    pub fn rules(&self, rules: &str) {
        let table = format!("flush ruleset\ntable inet probed {{\n{rules}\n}}\n");
        let mut nft = self.topology.client_router.command("nft");
        command::run_with_input(nft.args(["-f", "-"]), &table).unwrap();
    }

    pub fn end_of_tunnel(
        &self,
        encapsulation: Encapsulation,
        target: SocketAddr,
        vip: IpAddr,
    ) -> Decapsulator {
        let ends = (target.ip(), Some(own(target.ip())));
        Decapsulator::start(&self.topology.target, encapsulation, ends, vip).unwrap()
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub fn run(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Answer {
        code: output.status.code().unwrap(),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

pub fn targets() -> [SocketAddr; 2] {
    [TARGET.into(), (topology::TARGET6, TARGET_PORT).into()]
}

/// The address of the host that probes a target of this family.
pub fn own(target: IpAddr) -> IpAddr {
    if target.is_ipv4() { topology::CLIENT.into() } else { topology::CLIENT6.into() }
}

/// Takes one connection: how its first read ended.
pub fn listen(host: &Namespace, address: SocketAddr) -> JoinHandle<Result<usize, ErrorKind>> {
    let listener = host.run(move || TcpListener::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read(&mut [0; 64]).map_err(|error| error.kind())
    })
}

/// A server that speaks first, and then closes or waits for its clients.
pub fn greet(host: &Namespace, address: SocketAddr, closes: bool) {
    let listener = host.run(move || TcpListener::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(b"SSH-2.0-lab\r\n").unwrap();
            if !closes {
                let _ = stream.read(&mut [0; 64]);
            }
        }
    });
}

/// A server as long as the test.
pub fn serve(host: &Namespace, address: SocketAddr) {
    let listener = host.run(move || TcpListener::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        let mut streams = Vec::new();
        while let Ok(taken) = listener.accept() {
            streams.push(taken);
        }
    });
}

pub fn fit<'a>(report: &'a Value, mode: &str) -> &'a str {
    let modes = report["modes"].as_array().unwrap();
    let verdict = modes.iter().find(|verdict| verdict["mode"] == mode);
    verdict.unwrap_or_else(|| panic!("no {mode}: {report}"))["fit"].as_str().unwrap()
}
