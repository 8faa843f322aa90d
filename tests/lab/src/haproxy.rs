//! HAProxy in a lab: its configuration, and changes of its servers while it runs.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::METRICS;
use crate::{LabError, Pop, Result, Service};

/// The servers of one HAProxy, to be changed while it runs.
#[derive(Debug, Clone)]
pub struct Admin {
    config: PathBuf,
}

impl Admin {
    /// Those of a POP's.
    #[must_use]
    pub fn of(pop: &Pop) -> Self {
        Self { config: pop.config.clone() }
    }

    /// Gives it a command of the runtime API, such as `set weight web/a 3`; what it answers,
    /// without white space around it.
    ///
    /// # Errors
    /// If it does not run or does not answer.
    pub fn tell(&self, command: &str) -> Result<String> {
        let path = self.config.with_extension("sock");
        let ask = || {
            let mut stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(format!("{command}\n").as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.trim().to_owned())
        };
        ask().map_err(LabError::io(format!("tell {} `{command}`", path.display())))
    }

    /// Has the next start use these servers, by lines of the configuration such as
    /// `server a 198.51.100.10:8080 weight 3`, in place of those before.
    ///
    /// # Errors
    /// If the configuration cannot be read or written.
    pub fn configure(&self, servers: &[String]) -> Result<()> {
        let name = self.config.display();
        let text = std::fs::read_to_string(&self.config);
        let text = text.map_err(LabError::io(format!("read {name}")))?;
        let others = text.lines().filter(|line| !line.starts_with("  server "));
        let servers = servers.iter().map(|server| format!("  {server}"));
        let lines: Vec<String> = others.map(str::to_owned).chain(servers).collect();
        let text = lines.join("\n") + "\n";
        std::fs::write(&self.config, text).map_err(LabError::io(format!("write {name}")))
    }
}

/// The name that a target has as a server.
#[must_use]
pub fn server_name(target: SocketAddr) -> String {
    target.to_string().replace(['.', ':', '[', ']'], "_")
}

/// The configuration of HAProxy in TCP mode for these services: what people use today. It is ready
/// when `/readyz` at [`METRICS`] answers, and has its runtime API at `socket`.
#[must_use]
pub fn config_text(services: &[Service], socket: &Path) -> String {
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 8000\n  stats socket {} mode 600 level admin\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend ready\n  mode http\n  timeout http-request 5s\n  bind {METRICS}\n  \
         monitor-uri /readyz\n",
        socket.display()
    );
    for service in services {
        let (name, vip) = (&service.name, service.vip);
        let _ = write!(text, "listen {name}\n  bind {vip}\n");
        for target in &service.targets {
            let _ = writeln!(text, "  server {} {target}", server_name(*target));
        }
    }
    text
}

const TIMEOUT: Duration = Duration::from_secs(5);
