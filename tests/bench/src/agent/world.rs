//! The hosts that are measured, and what joins them.
//!
//! ```text
//! host 1 --[wire]-- NAT --+          +-- POP        anyrelay-agent, POP in between
//! host 2 --[wire]-- NAT --+-- router +
//! host 3 --[wire]-- NAT --+                         phantun, straight through the router
//! host 4 --[wire]-- NAT --+
//! ```
//!
//! All four places are the same. A wire is a thread that carries frames between packet sockets: at
//! it ends what the kernel does on behalf of the host that sends, and there begins what it does for
//! the host that receives. So the CPU time of a tunnel's own process has no part of routers and
//! NATs in it. phantun's segments pass its NATs untracked: without acknowledgments that move,
//! strict connection tracking takes one-way traffic for invalid.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use anyrelay_lab::middlebox::Trouble;
use anyrelay_lab::tunnel::{Agent, Site, TunnelLab};
use anyrelay_lab::{Namespace, Process, command};

use super::load::Load;
use crate::cpu::{self, Thread};

/// The lab with both tunnels up.
pub struct World {
    // First, so that processes end before their namespaces.
    ours: [Agent; 2],
    phantun: [Process; 2],
    lab: TunnelLab,
}

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// `anyrelay-agent`, through a POP.
    Ours,
    /// phantun.
    Phantun,
}

/// Nanoseconds on a CPU so far.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// The connecting process and the serving one.
    pub process: [u64; 2],
    /// The wires of their hosts: carrying, and what the kernel does for a host that receives.
    pub wire: [u64; 2],
}

impl World {
    /// Makes it all; `phantun` is the folder of its programs.
    ///
    /// # Errors
    /// When something does not start.
    pub fn build(phantun: &Path) -> anyhow::Result<Self> {
        let site = || Site { inside: Some(Trouble::NONE), ..Site::default() };
        let mut lab =
            TunnelLab::builder().pops(1).sites((0..4).map(|_| site()).collect()).build()?;
        let serve = lab.agent(1)?.serve(SERVER);
        let connect = lab.agent(0)?.connect(ENTRY, &serve.token_file());
        lab.reload()?;
        let (mut serve, mut connect) = (serve.start()?, connect.start()?);
        lab.wait_ready(&mut [&mut serve, &mut connect], Duration::from_secs(30))?;
        for site in [2, 3] {
            step_aside(&lab, site)?;
        }
        let phantun = start_phantun(&lab, phantun)?;
        Ok(World { ours: [connect, serve], phantun, lab })
    }

    /// What sends through a contender.
    ///
    /// # Errors
    /// When a socket is not to be had.
    pub fn load(&self, contender: Contender) -> anyhow::Result<Load> {
        let [near, far] = self.hosts(contender);
        Load::open(near, ENTRY, far, SERVER)
    }

    /// CPU time so far.
    ///
    /// # Errors
    /// When a process has ended.
    pub fn spent(&self, contender: Contender) -> anyhow::Result<Spent> {
        let pids = match contender {
            Contender::Ours => self.ours.each_ref().map(Agent::pid),
            Contender::Phantun => self.phantun.each_ref().map(|process| Some(process.pid())),
        };
        let mut process = [0; 2];
        for (process, pid) in process.iter_mut().zip(pids) {
            *process = cpu::of_process(pid.context("it has ended")?).context("it has ended")?;
        }
        let wires = Thread::all(std::process::id(), Some("middlebox"))?;
        let of = |host: usize| wires.get(host).context("no wire")?.cpu_ns();
        let [near, far] = Self::places(contender);
        Ok(Spent { process, wire: [of(near)?, of(far)?] })
    }

    fn hosts(&self, contender: Contender) -> [&Namespace; 2] {
        Self::places(contender).map(|place| &*self.lab.site(place).host)
    }

    fn places(contender: Contender) -> [usize; 2] {
        match contender {
            Contender::Ours => [0, 1],
            Contender::Phantun => [2, 3],
        }
    }
}

/// Makes a place's NAT a plain router for phantun.
fn step_aside(lab: &TunnelLab, site: usize) -> anyhow::Result<()> {
    let rules = format!(
        "table ip aside {{ chain pre {{ type filter hook prerouting priority raw;\n\
         tcp dport {PORT} notrack\ntcp sport {PORT} notrack\n}}\n}}\n"
    );
    let place = lab.site(site);
    command::run_with_input(place.nat.namespace.command("nft").args(["-f", "-"]), &rules)?;
    let n = site + 1;
    lab.topology.router.ip(&[format!("route add 10.{}.0.0/24 via 198.18.{n}.2", 100 + n)])?;
    Ok(())
}

/// phantun with the rules that its README asks for.
fn start_phantun(lab: &TunnelLab, programs: &Path) -> anyhow::Result<[Process; 2]> {
    let (near, far) = (lab.site(2), lab.site(3));
    let rules = |host: &Namespace, rules: &str| -> anyhow::Result<()> {
        host.sysctl("net.ipv4.ip_forward", "1")?;
        command::run_with_input(host.command("nft").args(["-f", "-"]), rules)?;
        Ok(())
    };
    rules(
        &near.host,
        "table ip phantun { chain out { type nat hook postrouting priority srcnat;\n\
         iifname tun0 oifname net0 masquerade\n}\n}\n",
    )?;
    let to_tun = format!(
        "table ip phantun {{ chain in {{ type nat hook prerouting priority dstnat;\n\
         iifname net0 tcp dport {PORT} dnat to 192.168.201.2\n}}\n}}\n"
    );
    rules(&far.host, &to_tun)?;
    let spawn = |name: &str, mut command: Command, arguments: &[String]| {
        let log = lab.work().join(format!("phantun-{name}.log"));
        command.args(["--tun", "tun0", "-4"].map(str::to_owned));
        Process::spawn(name, command.args(arguments), Some(&log))
    };
    let local = |at: &str, to: String| ["--local".into(), at.into(), "--remote".into(), to];
    let server = spawn(
        "server",
        far.host.command(programs.join("server")),
        &local(&PORT.to_string(), SERVER.to_string()),
    )?;
    let client = spawn(
        "client",
        near.host.command(programs.join("client")),
        &local(&ENTRY.to_string(), format!("{}:{PORT}", far.address())),
    )?;
    Ok([client, server])
}

const ENTRY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7000);
const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9000);
/// phantun's TCP port.
const PORT: u16 = 4567;
