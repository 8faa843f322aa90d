//! `anyrelay health` in a network namespace, with servers as targets.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyrelay_core::config::{Target, TargetList};
use anyrelay_core::time::UnixTime;

use super::metrics::Metrics;
use super::{Folder, anyrelay, request, stderr, stdout};

/// Runs `test`, which is called `name` in `health.rs`, in a namespace with the addresses of the
/// targets.
pub fn alone(name: &str, test: impl FnOnce()) {
    let ip = |arguments: &str| {
        assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
    };
    if env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        (1..=4).for_each(|n| ip(&format!("address add 198.51.100.{n}/32 dev lo")));
        return test();
    }
    let (this, name) = (env::current_exe().unwrap(), format!("health::{name}"));
    let child = Command::new("unshare")
        .args(["--net", "--", this.to_str().unwrap(), "--exact", &name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = stdout(&child) + &stderr(&child);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

const INSIDE: &str = "ANYRELAY_TEST_NAMESPACE";
pub const HTTP: &str = "127.0.0.1:9101";

pub fn target(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n], 8080))
}

/// A server that answers each connection with a status that can be changed.
pub struct Server {
    status: Arc<AtomicU16>,
    /// The requests that it got as the config of a test has them.
    pub asked: Arc<AtomicU32>,
    is_open: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Server {
    pub fn start(n: u8) -> Server {
        let listener = TcpListener::bind(target(n)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let (asked, is_open) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(true)));
        let shared = (Arc::clone(&status), Arc::clone(&asked), Arc::clone(&is_open));
        let thread = thread::spawn(move || {
            let (status, asked, is_open) = shared;
            while is_open.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let mut head = [0; 1024];
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let count = stream.read(&mut head).unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..count]);
                if head.starts_with("GET /up HTTP/1.1\r\nHost: example.org\r\n") {
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                let status = status.load(Ordering::Relaxed);
                let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Server { status, asked, is_open, thread }
    }

    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Closes its port.
    pub fn stop(self) {
        self.is_open.store(false, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// A folder with a config and a targets file, and health on it.
pub struct Lab {
    pub folder: Folder,
    health: Option<Child>,
}

impl Lab {
    /// Targets 1 to `count`, and a check with `settings`.
    pub fn new(count: u8, settings: &str) -> Lab {
        let lab = Lab { folder: Folder::new(), health: None };
        let entries = (1..=count).map(|n| Target::always(target(n), u16::from(n))).collect();
        lab.write(&TargetList { serial: 1, memory_ms: 86_400_000, skew_ms: 50, entries });
        let config = format!(
            "[health]\nlisten = \"{HTTP}\"\n[[check]]\ntargets_file = \"web.toml\"\n\
             hold = \"0s\"\ntimeout = \"500ms\"\ninterval = \"500ms\"\nlead = \"200ms\"\n\
             {settings}\n"
        );
        lab.folder.write("health.toml", config);
        lab
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path("health.toml")
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path("web.toml")
    }

    pub fn write(&self, list: &TargetList) {
        replace(&self.file(), &list.to_text());
    }

    pub fn list(&self) -> TargetList {
        TargetList::parse("web.toml", &fs::read_to_string(self.file()).unwrap()).unwrap()
    }

    pub fn start(&mut self, arguments: &[&str]) {
        let log = File::create(self.folder.path("log")).unwrap();
        let health = Command::new(env!("CARGO_BIN_EXE_anyrelay"))
            .args(["health", "--config", self.config().to_str().unwrap()])
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.health = Some(health.unwrap());
        self.wait_for("its pages", |lab| lab.get("/healthz").is_some());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path("log")).unwrap()
    }

    pub fn get(&self, path: &str) -> Option<String> {
        let (status, _, body) =
            request(HTTP.parse().unwrap(), &format!("GET {path} HTTP/1.1\r\n\r\n"))?;
        (status == 200).then_some(body)
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").unwrap())
    }

    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.metrics().sum(&format!("anyrelay_health_{name}"), labels)
    }

    pub fn wait_for(&mut self, what: &str, mut is_done: impl FnMut(&Lab) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_done(self) {
            let ended = self.health.as_mut().and_then(|health| health.try_wait().unwrap());
            let (log, page) = (self.log(), self.get("/status/text").unwrap_or_default());
            assert_eq!(ended, None, "{log}");
            assert!(Instant::now() < deadline, "waited in vain for {what}:\n{log}{page}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until each target was checked `count` times more.
    pub fn wait_for_checks(&mut self, targets: &[u8], count: u64) {
        let of =
            |lab: &Lab, n: u8| lab.count("checks_total", &[("target", &target(n).to_string())]);
        let before: Vec<_> = targets.iter().map(|n| of(self, *n)).collect();
        self.wait_for("checks", |lab| {
            targets.iter().zip(&before).all(|(n, before)| of(lab, *n) >= before + count)
        });
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.health.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub fn stop(&mut self) {
        self.signal("-TERM");
        let mut health = self.health.take().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let status: ExitStatus = loop {
            if let Some(status) = health.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not stop:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0), "{}", self.log());
        assert!(self.log().contains("stopped"), "{}", self.log());
    }

    /// Runs another command on the targets file.
    pub fn targets(&self, arguments: &[&str]) {
        let file = self.file();
        let done = anyrelay(&[&["targets", file.to_str().unwrap()], arguments].concat());
        assert!(done.status.success(), "{}", stderr(&done));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(health) = &mut self.health {
            let _ = health.kill();
            let _ = health.wait();
        }
    }
}

pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&new, path).unwrap();
}

pub fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime::from_millis(since.as_millis() as u64)
}

pub fn takes(list: &TargetList, n: u8) -> bool {
    let mut own = list.entries.iter().filter(|entry| entry.address == target(n));
    own.any(|entry| entry.until == UnixTime::NEVER)
}

pub fn last(list: &TargetList, n: u8) -> Target {
    *list.entries.iter().rfind(|entry| entry.address == target(n)).unwrap()
}
