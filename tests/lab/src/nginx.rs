//! nginx on a host: a stock server for downloads, uploads and small answers. Its module stream in a
//! POP: a proxy for TCP.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{METRICS, TARGET_PORT};
use crate::{LabError, Namespace, Process, Result, Service, http};

/// The module stream, which [`stream_text`] loads.
pub const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

const STATUS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8081);

/// A running nginx with one process. `GET /files/NAME` gives what is in [`Self::files`], `PUT
/// /uploads/NAME` puts a body into [`Self::uploads`]; each answer has the server's own address in
/// the field `X-Target`.
#[derive(Debug)]
pub struct Nginx {
    host: Arc<Namespace>,
    directory: PathBuf,
    process: Process,
    status_queries: u64,
}

impl Nginx {
    /// Starts it in a namespace, at all its addresses and [`TARGET_PORT`], with its files below
    /// `work`, and waits until it answers.
    ///
    /// # Errors
    /// If it is missing or does not start.
    pub fn start(host: &Arc<Namespace>, work: &Path) -> Result<Self> {
        let directory = work.join("nginx");
        for part in ["files", "uploads"] {
            make_directory(&directory.join(part))?;
        }
        Self::start_in(host, directory)
    }

    /// Starts another one in another namespace, with the same files and the same uploads.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn twin(&self, host: &Arc<Namespace>) -> Result<Self> {
        let directory = self.directory.with_file_name(host.name());
        make_directory(&directory)?;
        for (part, path) in [("files", self.files()), ("uploads", self.uploads())] {
            std::os::unix::fs::symlink(&path, directory.join(part))
                .map_err(LabError::io(format!("link {}", path.display())))?;
        }
        Self::start_in(host, directory)
    }

    /// Kills it, as a crash would: its kernel resets its connections.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    fn start_in(host: &Arc<Namespace>, directory: PathBuf) -> Result<Self> {
        make_directory(&directory.join("temp"))?;
        let config = directory.join("nginx.conf");
        std::fs::write(&config, config_text(&directory))
            .map_err(LabError::io(format!("write {}", config.display())))?;
        let mut command = host.command("nginx");
        command.arg("-e").arg(directory.join("error.log")).arg("-c").arg(&config);
        let log = directory.join("output.log");
        let process = Process::spawn("nginx", &mut command, Some(&log))?;
        let host = host.clone();
        let mut nginx = Self { host, directory, process, status_queries: 0 };
        nginx.wait_ready()?;
        Ok(nginx)
    }

    /// Where the files for downloads are.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.directory.join("files")
    }

    /// Where uploaded bodies arrive, each complete when it appears under its name.
    #[must_use]
    pub fn uploads(&self) -> PathBuf {
        self.directory.join("uploads")
    }

    /// How many connections the server has accepted since its start, without those of this query.
    ///
    /// # Errors
    /// If the status page does not answer as it should.
    pub fn accepts(&mut self) -> Result<u64> {
        let (_, body) = http::get(&self.host, STATUS, "/status")?;
        self.status_queries += 1;
        // "Active connections: 1 \nserver accepts handled requests\n 17 17 17 \n..."
        let numbers = body.lines().nth(2).and_then(|line| line.split_whitespace().next());
        let accepts: Option<u64> = numbers.and_then(|word| word.parse().ok());
        accepts
            .and_then(|count| count.checked_sub(self.status_queries))
            .ok_or_else(|| LabError::Unexpected(format!("nginx status: {body}")))
    }

    /// The access log: per request `connection request-of-connection method uri status bytes OK|-`.
    #[must_use]
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.directory.join("access.log")).unwrap_or_default()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.accepts() {
                Ok(_) => return Ok(()),
                Err(_) if start.elapsed() < Duration::from_secs(10) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => {
                    let log = self.directory.join("error.log");
                    return Err(LabError::NotReady {
                        what: "nginx".to_owned(),
                        waited: start.elapsed(),
                        detail: format!(
                            "{error}: {}",
                            std::fs::read_to_string(log).unwrap_or_default()
                        ),
                    });
                }
            }
        }
    }
}

pub(crate) fn make_directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(LabError::io(format!("make {}", path.display())))
}

fn config_text(directory: &Path) -> String {
    let dir = directory.display();
    let process = process(&directory.join("nginx.pid"));
    let temps = temps(&directory.join("temp"));
    format!(
        "{process}error_log {dir}/error.log warn;\n\
         http {{\n{temps}\
         \x20 log_format lab '$connection $connection_requests $request_method $request_uri \
         $status $bytes_sent $request_completion';\n\
         \x20 access_log {dir}/access.log lab;\n\
         \x20 add_header X-Target '$server_addr $server_port' always;\n\
         \x20 sendfile on;\n  keepalive_timeout 1h;\n  keepalive_requests 1000000;\n\
         \x20 client_max_body_size 0;\n  client_body_timeout 5m;\n  send_timeout 5m;\n\
         \x20 server {{\n    listen {TARGET_PORT} backlog=4096;\n\
         \x20   listen [::]:{TARGET_PORT} backlog=4096;\n\
         \x20   location /files/ {{ alias {dir}/files/; }}\n\
         \x20   location /uploads/ {{ alias {dir}/uploads/; dav_methods PUT; }}\n  }}\n\
         \x20 server {{\n    listen {STATUS};\n    access_log off;\n\
         \x20   location /status {{ stub_status; }}\n  }}\n}}\n"
    )
}

/// The configuration of nginx as a proxy for the TCP connections of these services. It is ready
/// when `/readyz` at [`METRICS`] answers. It is to be in the file `config`, and the folder of that
/// name with `.temp` in place of its extension must exist.
#[must_use]
pub fn stream_text(services: &[Service], config: &Path) -> String {
    let mut proxies = String::new();
    for service in services {
        let _ = writeln!(proxies, "  upstream {} {{", service.name);
        for target in &service.targets {
            let _ = writeln!(proxies, "    server {target};");
        }
        let (vip, name) = (service.vip, &service.name);
        let _ = writeln!(proxies, "  }}\n  server {{ listen {vip}; proxy_pass {name}; }}");
    }
    let process = process(&config.with_extension("pid"));
    let temps = temps(&config.with_extension("temp"));
    format!(
        "load_module {STREAM_MODULE};\n{process}stream {{\n{proxies}}}\n\
         http {{\n{temps}  access_log off;\n\
         \x20 server {{\n    listen {METRICS};\n    location /readyz {{ return 200; }}\n  }}\n}}\n"
    )
}

/// One process in the foreground.
fn process(pid: &Path) -> String {
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {};\n\
         events {{ worker_connections 8000; }}\n",
        pid.display()
    )
}

/// Where nginx puts files of its own.
fn temps(directory: &Path) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", directory.display()))
        .concat()
}
