//! The POP in the guest: its config, start, readiness, counters and end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyrelay_kit::config::{self, Egress, PopConfig, Table};
use anyrelay_lab::metrics::Metrics;
use anyrelay_lab::{LabError, Result};

use crate::Vm;
use crate::network::{PORTS, TARGETS};

/// Where clients connect over IPv4; a pool leads to the target.
pub const VIP4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 10), 443);
/// The same.
pub const VIP: SocketAddr = SocketAddr::V4(VIP4);
/// Where clients connect over IPv6; transparent.
pub const VIP6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10)), 443);

impl Vm {
    /// The config of a POP on both NICs, with both families and a service of each. Each of its
    /// `workers` receives from its share of the queues.
    #[must_use]
    pub fn config(&self, queues: u16, workers: usize) -> PopConfig {
        let ports = [
            ("client", ["192.0.2.2/24", "2001:db8:1::2/64"], ["192.0.2.1", "2001:db8:1::1"]),
            ("target", ["198.51.100.2/24", "2001:db8:2::2/64"], ["198.51.100.1", "2001:db8:2::1"]),
        ];
        let ports: Vec<Table> = PORTS
            .into_iter()
            .zip(ports)
            .zip(self.addresses())
            .map(|((name, (side, addresses, gateways)), device)| {
                let port = config::port(name, side, &addresses).with("device", device);
                port.with("gateways", gateways).with("queues", queues)
            })
            .collect();
        let mut config = PopConfig::new("vm", 1, &ports).set("drain_seconds", 0);
        let queues_of = |worker: usize| -> Vec<String> {
            let mine = (0..queues).filter(|queue| usize::from(*queue) % workers == worker);
            mine.flat_map(|queue| PORTS.map(|port| format!("{port}:{queue}"))).collect()
        };
        config.workers =
            (0..workers).map(|worker| config::worker(worker, &queues_of(worker))).collect();
        let dpdk = Table::default().with("hugepages", true).with("memory_mb", 256);
        let [target, target6] = TARGETS;
        config
            .other("dpdk", dpdk.with("mbufs", 8192))
            .other("metrics", Table::default().with("listen", LISTEN))
            .relay(config::relay("web", VIP, &[target], Egress::Pool("100.64.8.0/24")))
            .relay(config::relay("web6", VIP6, &[target6], Egress::Transparent))
    }

    /// Writes the config and starts the POP, without waiting for it.
    ///
    /// # Errors
    /// If the guest refuses.
    pub fn launch_pop(&mut self, config: &PopConfig) -> Result<()> {
        self.guest.write(CONFIG, &config.text())?;
        self.guest
            .run(&format!(
                "[ -e {KEYS} ] || anyrelay keygen {KEYS}
                 anyrelay run --config {CONFIG} >{LOG} 2>&1 </dev/null &
                 echo $! >{PID}"
            ))
            .map(drop)
    }

    /// Starts the POP and waits until it is ready.
    ///
    /// # Errors
    /// If it is not within [`START_MAX`]: with its log.
    pub fn start_pop(&mut self, config: &PopConfig) -> Result<()> {
        self.launch_pop(config)?;
        self.wait_ready(START_MAX)
    }

    /// Waits until the POP is ready.
    ///
    /// # Errors
    /// If it is not within `limit`: with its log.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        self.wait("ready", limit, |text| text == "ready")
    }

    /// Waits until the POP is not ready for a reason that has these words.
    ///
    /// # Errors
    /// If it is not within `limit`: with its log.
    pub fn wait_unready(&mut self, words: &str, limit: Duration) -> Result<()> {
        self.wait(words, limit, |text| text.contains(words))
    }

    fn wait(&mut self, what: &str, limit: Duration, holds: impl Fn(&str) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let text = self.readiness()?;
            if holds(&text) {
                return Ok(());
            }
            if start.elapsed() > limit || !self.pop_runs()? {
                let log = self.pop_log()?;
                let detail = format!("/readyz says {text:?}; its log:\n{log}");
                let what = format!("the POP ({what})");
                return Err(LabError::NotReady { what, waited: start.elapsed(), detail });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What `/readyz` says; empty without an answer.
    ///
    /// # Errors
    /// If the guest is gone.
    pub fn readiness(&mut self) -> Result<String> {
        Ok(self.http("/readyz")?.trim().to_owned())
    }

    /// The POP's counters.
    ///
    /// # Errors
    /// If the guest is gone.
    pub fn metrics(&mut self) -> Result<Metrics> {
        Ok(Metrics::parse(&self.http("/metrics")?))
    }

    /// The POP's drops, one reason a line, for messages.
    ///
    /// # Errors
    /// If the guest is gone.
    pub fn drops(&mut self) -> Result<String> {
        Ok(self.metrics()?.nonzero("anyrelay_drops_total"))
    }

    /// What the POP wrote since its start.
    ///
    /// # Errors
    /// If the guest is gone.
    pub fn pop_log(&mut self) -> Result<String> {
        self.guest.run(&format!("cat {LOG}"))
    }

    /// Starts a POP that is to fail, waits for its end, and returns what it wrote.
    ///
    /// # Errors
    /// If it still runs after [`STOP_MAX`].
    pub fn refused_pop(&mut self, config: &PopConfig) -> Result<String> {
        self.launch_pop(config)?;
        self.wait_end()?;
        self.pop_log()
    }

    /// Whether the POP's process runs: of one that was killed, the first thread may be gone before
    /// the others, which still hold its sockets.
    ///
    /// # Errors
    /// If the guest is gone.
    pub fn pop_runs(&mut self) -> Result<bool> {
        let script = format!("grep -qs '^State:.[^Z]' /proc/$(cat {PID})/task/*/status");
        Ok(self.guest.output(&script, crate::guest::COMMAND_MAX)?.status == 0)
    }

    /// Sends a signal to the POP, such as `KILL`.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal_pop(&mut self, signal: &str) -> Result<()> {
        self.guest.run(&format!("kill -{signal} $(cat {PID})")).map(drop)
    }

    /// Waits for the end of the POP.
    ///
    /// # Errors
    /// If it still runs after [`STOP_MAX`]: with its log.
    pub fn wait_end(&mut self) -> Result<()> {
        let start = Instant::now();
        while self.pop_runs()? {
            if start.elapsed() > STOP_MAX {
                let (what, detail) = ("the end of the POP".to_owned(), self.pop_log()?);
                return Err(LabError::NotReady { what, waited: STOP_MAX, detail });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Stops the POP in order, and returns what it wrote.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop_pop(&mut self) -> Result<String> {
        self.signal_pop("TERM")?;
        self.wait_end()?;
        self.pop_log()
    }

    fn http(&mut self, path: &str) -> Result<String> {
        let (host, port) = LISTEN.split_once(':').unwrap_or_default();
        let script = format!("printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | nc {host} {port}");
        let output = self.guest.output(&script, crate::guest::COMMAND_MAX)?;
        let body = output.text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        Ok(body.unwrap_or_default())
    }
}

const LISTEN: &str = "127.0.0.1:9100";
const CONFIG: &str = "/etc/anyrelay/pop.toml";
const KEYS: &str = "/etc/anyrelay/keys.toml";
const LOG: &str = "/run/pop.log";
const PID: &str = "/run/pop.pid";

/// How long a POP may take from its start until it is ready; 2 to 5 s on an idle machine.
pub const START_MAX: Duration = Duration::from_secs(30);
/// How long a POP may take to stop.
const STOP_MAX: Duration = Duration::from_secs(15);
