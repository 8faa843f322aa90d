//! QEMU's machine protocol: one JSON object a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyrelay_lab::{LabError, Result};
use serde_json::{Value, json};

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Takes the greeting and ends the negotiation.
    pub fn new(stream: UnixStream) -> Result<Qmp> {
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(LabError::io("set a time limit"))?;
        let mut qmp = Qmp { stream: BufReader::new(stream) };
        qmp.line()?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and gives what it returns.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        let sent = writeln!(self.stream.get_mut(), "{request}");
        sent.map_err(LabError::io(format!("send {command} to QEMU")))?;
        // Events may stand before the answer; each read has a limit, and QEMU sends few of them.
        for _ in 0..EVENTS_MAX {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                return Err(LabError::Unexpected(format!("QEMU refused {request}: {error}")));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
        Err(LabError::Unexpected(format!("QEMU sent events and no answer to {request}")))
    }

    /// Waits for the next event of this name.
    pub fn wait_event(&mut self, name: &str, limit: Duration) -> Result<()> {
        let timed = |qmp: &Qmp, limit| qmp.stream.get_ref().set_read_timeout(Some(limit));
        timed(self, limit).map_err(LabError::io("set a time limit"))?;
        for _ in 0..EVENTS_MAX {
            if self.line()?.get("event").is_some_and(|event| event == name) {
                return timed(self, ANSWER_MAX).map_err(LabError::io("set a time limit"));
            }
        }
        Err(LabError::Unexpected(format!("QEMU sent events, and none of them is {name}")))
    }

    fn line(&mut self) -> Result<Value> {
        let mut text = String::new();
        self.stream.read_line(&mut text).map_err(LabError::io("read from QEMU's monitor"))?;
        let parsed = serde_json::from_str(&text);
        parsed.map_err(|error| LabError::Unexpected(format!("QEMU sent {text:?}: {error}")))
    }
}

const ANSWER_MAX: Duration = Duration::from_secs(10);
const EVENTS_MAX: usize = 100;
