//! OpenSSH on a host: a server with keys of its own, and sessions of clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{LabError, Namespace, Process, Result, command};

/// A running server, at all addresses of its host and [`PORT`]. The machine's own configuration,
/// keys and users' files are not touched.
#[derive(Debug)]
pub struct SshServer {
    key: PathBuf,
    _process: Process,
}

impl SshServer {
    /// Starts it, with its files below `work`, and waits until it listens.
    ///
    /// # Errors
    /// If it is missing or does not start.
    pub fn start(host: &Arc<Namespace>, work: &Path) -> Result<Self> {
        let directory = work.join("ssh");
        std::fs::create_dir_all(&directory)
            .map_err(LabError::io(format!("make {}", directory.display())))?;
        let [server, key] = ["server", "client"].map(|name| directory.join(name));
        for path in [&server, &key] {
            let mut keygen = Command::new("ssh-keygen");
            command::run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path))?;
        }
        let config = directory.join("sshd_config");
        let text = format!(
            "Port {PORT}\nHostKey {}\nAuthorizedKeysFile {}.pub\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            server.display(),
            key.display()
        );
        std::fs::write(&config, text)
            .map_err(LabError::io(format!("write {}", config.display())))?;
        let log = directory.join("sshd.log");
        let mut sshd = host.command("sh");
        sshd.args(["-c", START, "sshd", "-D", "-e", "-f"]).arg(&config);
        let process = Process::spawn("sshd", &mut sshd, Some(&log))?;
        let start = Instant::now();
        while !process.log_tail(20).contains("Server listening on ::") {
            if start.elapsed() > READY {
                let detail = process.log_tail(20);
                return Err(LabError::NotReady { what: "sshd".into(), waited: READY, detail });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { key, _process: process })
    }

    /// A session of a client on another host: what the program there reads and prints is the
    /// process's input and output.
    ///
    /// # Errors
    /// If there is no client.
    pub fn session(&self, from: &Namespace, server: &str, program: &str) -> Result<Process> {
        let mut ssh = from.command("ssh");
        // -F none: whatever is in a user's configuration does not count here.
        ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]);
        ssh.args(["-p", &PORT.to_string(), "-l", "root", "-i"]).arg(&self.key);
        ssh.args([server, program]);
        Process::spawn_piped("ssh", &mut ssh, &self.key.with_extension("log"))
    }
}

/// sshd wants a folder in /run, and gets a /run of its own: these mounts are the namespace's.
const START: &str = "mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd && \
                     exec /usr/sbin/sshd \"$@\"";
const PORT: u16 = 2222;
const READY: Duration = Duration::from_secs(10);
