//! Large downloads and uploads with curl, one process and one TCP connection each.
//!
//! curl's output is read here, and its input written here, so that the body is hashed and its
//! progress is seen to a few milliseconds. curl neither retries nor resumes.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyrelay_lab::{Direction, LabError, Namespace, Process, Result};

use crate::record::{Progress, Record, index};
use anyrelay_lab::body::{Body, CHUNK, Hash, hash_of};

/// Pause after a broken transfer, so that a control that breaks everything does not spin.
const AFTER_BROKEN: Duration = Duration::from_millis(50);

/// What transfers of one run need to know.
#[derive(Debug, Clone)]
pub struct Transfers {
    /// Where curl runs.
    pub client: Arc<Namespace>,
    /// Where nginx is: what stands between `http://` and the path.
    pub server: String,
    pub record: Arc<Record>,
    /// What is moved counts as these kinds, [`index`]ed by direction.
    pub kinds: [usize; 2],
    /// Where nginx puts uploads.
    pub uploads: PathBuf,
    /// Where curl's messages go.
    pub logs: PathBuf,
    /// The hash of `/files/large`.
    pub large: Hash,
    /// The length of each body.
    pub bytes: usize,
}

/// How a transfer ended.
enum End {
    Whole,
    Corrupt,
    Broken(String),
}

impl Transfers {
    /// Moves one body after another in a direction until the run is over. `worker` is unique in the
    /// run and begins the name of each transfer.
    pub fn keep_moving(&self, direction: Direction, worker: u64) -> Result<()> {
        for n in 0.. {
            if self.record.is_over() {
                break;
            }
            let name = format!("{worker}-{n}");
            self.record.count(|counts| counts.transfers += 1);
            let end = match direction {
                Direction::Down => self.download(&name)?,
                Direction::Up => self.upload(&name, worker << 32 | n)?,
            };
            match end {
                End::Whole => {}
                End::Corrupt => {
                    self.record.count(|counts| counts.corrupt += 1);
                    self.record.note(format!("transfer {name}: wrong body"));
                }
                End::Broken(why) => {
                    self.record.count(|counts| counts.broken += 1);
                    self.record.note(format!("transfer {name}: {why}"));
                    std::thread::sleep(AFTER_BROKEN);
                }
            }
        }
        Ok(())
    }

    fn download(&self, name: &str) -> Result<End> {
        let url = format!("http://{}/files/large?{name}", self.server);
        let mut progress = Progress::start();
        let mut curl = self.curl(name, &[&url])?;
        let output = curl.stdout().ok_or(LabError::Unexpected("curl has no output".into()))?;
        let body = hash_of(output, |size| {
            progress.made();
            self.record.moved(self.kinds[index(Direction::Down)], size);
        });
        progress.finish(&self.record);
        if let Some(broken) = self.end_of(name, curl)? {
            return Ok(broken);
        }
        Ok(match body {
            Ok((hash, _)) if hash == self.large => End::Whole,
            Ok((_, length)) if length != self.bytes as u64 => {
                End::Broken(format!("{length} bytes"))
            }
            Ok(_) => End::Corrupt,
            Err(error) => End::Broken(error.to_string()),
        })
    }

    fn upload(&self, name: &str, seed: u64) -> Result<End> {
        let url = format!("http://{}/uploads/{name}", self.server);
        let mut progress = Progress::start();
        let mut curl = self.curl(name, &["-T", "-", "-H", "Expect:", &url])?;
        let mut input = curl.stdin().ok_or(LabError::Unexpected("curl has no input".into()))?;
        let mut body = Body::new(seed, self.bytes);
        let mut buffer = [0; CHUNK];
        loop {
            let chunk = body.next(&mut buffer);
            // When curl has given up, its exit status says why.
            if chunk.is_empty() || input.write_all(chunk).is_err() {
                break;
            }
            progress.made();
            self.record.moved(self.kinds[index(Direction::Up)], chunk.len());
        }
        drop(input);
        let end = self.end_of(name, curl)?;
        progress.finish(&self.record);
        let path = self.uploads.join(name);
        let arrived = File::open(&path).and_then(|file| hash_of(file, |_| {}));
        let _ = std::fs::remove_file(&path);
        if let Some(broken) = end {
            return Ok(broken);
        }
        Ok(match arrived {
            Ok((hash, _)) if hash == body.hash() => End::Whole,
            Ok(_) => End::Corrupt,
            Err(error) => End::Broken(format!("the target has no body: {error}")),
        })
    }

    fn curl(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let limit = self.record.time_left().as_secs_f64().max(1.0).to_string();
        let mut curl = self.client.command("curl");
        // -q: whatever is in a .curlrc, such as a retry, does not count here.
        curl.args(["-q", "--silent", "--show-error", "--fail", "--max-time", &limit]);
        curl.args(["--write-out", "%{stderr}%{num_connects} connections, status %{http_code}\n"]);
        curl.args(arguments);
        let path = self.log(name);
        let log = File::create(&path).map_err(LabError::io(format!("make {}", path.display())))?;
        curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        Process::spawn("curl", &mut curl, None)
    }

    /// Waits for curl; says what broke unless it succeeded over exactly one connection.
    fn end_of(&self, name: &str, mut curl: Process) -> Result<Option<End>> {
        let status = curl.wait(self.record.time_left() + Duration::from_secs(5))?;
        let path = self.log(name);
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(&path);
        if status.success() && said.contains("1 connections, status 20") {
            return Ok(None);
        }
        Ok(Some(End::Broken(said.trim().replace('\n', "; "))))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("curl-{name}.log"))
    }
}
