//! Shared by the tests of the binary: temporary folders, configs, POPs that end with the test,
//! HTTP, metrics, and captures.

pub mod fragments;
pub mod health;
pub mod metrics;
pub mod pcap;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A folder that is removed on drop.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("anyrelay-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// Writes a file that no other user can read.
    pub fn write_private(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.write(name, contents);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes new keys and `config`, and returns the config's path.
    pub fn pop(&self, config: &Config) -> PathBuf {
        if !self.path("keys.toml").exists() {
            let made = anyrelay(&["keygen", self.path("keys.toml").to_str().unwrap()]);
            assert!(made.status.success(), "{}", stderr(&made));
        }
        self.write("pop.toml", config.text())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the binary and waits for its end.
pub fn anyrelay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anyrelay"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A config of two ports, to be modified.
pub struct Config {
    pub wan: String,
    pub lan: String,
    /// The RX queues of each worker.
    pub workers: Vec<&'static str>,
    pub layout: &'static str,
    pub metrics: SocketAddr,
    pub drain_seconds: u32,
    /// Appended; `[[relay]]` tables.
    pub services: String,
    pub mbufs: u32,
    /// The policy for fragments.
    pub fragments: &'static str,
    pub wan_queues: usize,
    /// Whether ports have addresses and gateways of IPv6 too.
    pub ipv6: bool,
}

pub const CLIENT_GATEWAY_MAC: &str = "02:00:00:00:00:11";
pub const TARGET_GATEWAY_MAC: &str = "02:00:00:00:00:12";
pub const WAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const LAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

impl Config {
    /// One worker, ports that receive nothing and discard everything, one pool service.
    pub fn new() -> Config {
        Config {
            wan: "net_null0,no-rx=1".to_owned(),
            lan: "net_null1,no-rx=1".to_owned(),
            workers: vec![r#""wan:0", "lan:0""#],
            layout: "run-to-completion",
            metrics: free_address(),
            drain_seconds: 0,
            services: service("web", 443, "198.51.100.10:8443", r#"{ pool = "100.64.8.0/24" }"#),
            mbufs: 8192,
            fragments: "drop",
            wan_queues: 1,
            ipv6: false,
        }
    }

    pub fn text(&self) -> String {
        let Config { wan, lan, layout, metrics, drain_seconds, services, mbufs, .. } = self;
        let Config { fragments, wan_queues, .. } = self;
        let more = |text: String| if self.ipv6 { text } else { String::new() };
        let address6 = |net| more(format!(", \"2001:db8:{net}::2/64\""));
        let gateway6 = |net| more(format!(", \"2001:db8:{net}::1\""));
        let mac6 = |mac| more(format!(", \"{mac}\""));
        let (wan_address6, wan_gateway6) = (address6(1), gateway6(1));
        let (lan_address6, lan_gateway6) = (address6(2), gateway6(2));
        let (wan_mac6, lan_mac6) = (mac6(CLIENT_GATEWAY_MAC), mac6(TARGET_GATEWAY_MAC));
        let workers: String =
            self.workers.iter().map(|rx| format!("[[worker]]\ncore = 0\nrx = [{rx}]\n")).collect();
        format!(
            r#"
[pop]
name = "pop1"
id = 1
keys = "keys.toml"
private_clients = true
drain_seconds = {drain_seconds}
fragments = "{fragments}"
[dpdk]
hugepages = false
memory_mb = 128
mbufs = {mbufs}
[[port]]
name = "wan"
device = "{wan}"
side = "client"
mac = "02:00:00:00:00:01"
addresses = ["192.0.2.2/24"{wan_address6}]
gateways = ["192.0.2.1"{wan_gateway6}]
gateway_macs = ["{CLIENT_GATEWAY_MAC}"{wan_mac6}]
queues = {wan_queues}
[[port]]
name = "lan"
device = "{lan}"
side = "target"
mac = "02:00:00:00:00:02"
addresses = ["172.16.0.2/24"{lan_address6}]
gateways = ["172.16.0.1"{lan_gateway6}]
gateway_macs = ["{TARGET_GATEWAY_MAC}"{lan_mac6}]
{workers}
[layout]
kind = "{layout}"
idle = "backoff"
[metrics]
listen = "{metrics}"
{services}
"#
        )
    }
}

/// A `[[relay]]` table.
pub fn service(name: &str, port: u16, target: &str, egress: &str) -> String {
    format!(
        "[[relay]]\nname = \"{name}\"\nvip = \"203.0.113.10:{port}\"\n\
         targets = [\"{target}\"]\negress = {egress}\n"
    )
}

/// A loopback address that no other test and no other program uses: the kernel does not assign it
/// either.
pub fn free_address() -> SocketAddr {
    static NUMBER: AtomicU16 = AtomicU16::new(0);
    // Process numbers have 22 bits (proc(5), `pid_max`), and differ from those of threads.
    let ip = Ipv4Addr::from_bits(0x7f40_0000 | std::process::id() & 0x003f_ffff);
    // Below the ports that the kernel assigns (ip-sysctl, `ip_local_port_range`).
    let port = 9100 + NUMBER.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((ip, port))
}

/// A running POP; it is killed on drop.
pub struct Pop {
    child: Child,
    metrics: SocketAddr,
    log: PathBuf,
}

impl Pop {
    /// Starts a POP and waits until it is ready.
    pub fn start(config: &Path, metrics: SocketAddr, arguments: &[&str]) -> Pop {
        let mut pop = Pop::spawn(config, metrics, arguments);
        pop.wait_for_status(200);
        pop
    }

    /// Starts a POP.
    pub fn spawn(config: &Path, metrics: SocketAddr, arguments: &[&str]) -> Pop {
        let log = config.with_extension("log");
        let child = Command::new(env!("CARGO_BIN_EXE_anyrelay"))
            .args(["run", "--config", config.to_str().unwrap()])
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Pop { child, metrics, log }
    }

    /// Waits until `/readyz` answers with `wanted`, and returns its text.
    pub fn wait_for_status(&mut self, wanted: u16) -> String {
        let mut text = String::new();
        self.wait_for(&format!("to answer /readyz with {wanted}"), |pop| {
            assert_eq!(pop.child.try_wait().unwrap(), None, "ended early:\n{}", pop.log());
            let Some((status, body)) = pop.get("/readyz") else { return false };
            text = body;
            status == wanted && text != "starting\n"
        });
        text
    }

    /// Polls until `is_done`, for a minute at most.
    pub fn wait_for(&mut self, what: &str, is_done: impl FnMut(&mut Pop) -> bool) {
        self.wait_up_to(Duration::from_secs(60), what, is_done);
    }

    /// Polls until `is_done`, for `limit` at most.
    pub fn wait_up_to(
        &mut self,
        limit: Duration,
        what: &str,
        mut is_done: impl FnMut(&mut Pop) -> bool,
    ) {
        let deadline = Instant::now() + limit;
        while !is_done(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain for the POP {what}:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the POP has received `frames` frames in all, and every worker has processed
    /// them.
    pub fn wait_for_frames(&mut self, frames: usize) {
        self.wait_for("to receive all frames", |pop| {
            let rx = [("direction", "rx")];
            let received = pop.metrics().sum("anyrelay_port_packets_total", &rx);
            assert!(received <= frames as u64, "{received} frames came in");
            received == frames as u64
        });
        // A frame is counted as received before it is processed.
        self.wait_until_idle();
    }

    /// Waits until no worker has work left.
    pub fn wait_until_idle(&mut self) {
        let mut before = self.metrics();
        self.wait_for("to come to rest", |pop| {
            // At most two workers process a frame after the first one: one reassembles, one sends.
            // Each turn they take some of the waiting frames, and count them.
            for _ in 0..3 {
                pop.wait_for_turns();
            }
            let now = pop.metrics();
            let moved = now.moved_since(&before);
            before = now;
            !moved
        });
    }

    /// Waits until every worker has completed a whole turn of its loop.
    fn wait_for_turns(&mut self) {
        let before = self.metrics();
        let before = before.by("anyrelay_polls_total", "worker");
        self.wait_for("to go on polling", |pop| {
            let now = pop.metrics();
            let now = now.by("anyrelay_polls_total", "worker");
            // The first of two turns may have started before.
            before.iter().all(|(worker, turns)| now[worker] >= turns + 2)
        });
    }

    /// Status and body of a page; `None` while the listener is not open.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let (status, _, body) = request(self.metrics, &format!("GET {path} HTTP/1.1\r\n\r\n"))?;
        Some((status, body))
    }

    pub fn metrics(&self) -> metrics::Metrics {
        let (status, body) = self.get("/metrics").unwrap();
        assert_eq!(status, 200);
        metrics::Metrics::parse(&body)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut status = None;
        self.wait_for("to end", |pop| {
            status = pop.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Stops the POP and checks its exit code.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        let status = self.wait_for_end();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status, head and body of the response to a request.
pub fn request(address: SocketAddr, text: &str) -> Option<(u16, String, String)> {
    let limit = Duration::from_secs(20);
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_owned(), body.to_owned()))
}
