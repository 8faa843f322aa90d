//! `iperf3 -u` between the inner addresses of the TUN devices.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyrelay_lab::tunnel::TunnelLab;
use anyrelay_lab::{LabError, Process, Result};
use serde_json::Value;

use super::net::{CONNECTING, INNER_SERVER, SERVING};
use crate::record::Record;

const BITS_PER_SECOND: &str = "4M";
/// Fits the device's MTU.
const DATAGRAM_BYTES: &str = "1200";

/// What iperf3 says, as the receiver saw it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Whether both ends ran to their end.
    pub complete: bool,
    pub sent: u64,
    pub lost: u64,
    pub out_of_order: u64,
}

/// A running pair of iperf3.
pub struct Iperf {
    server: Process,
    client: Process,
    work: PathBuf,
    began: Duration,
}

impl Iperf {
    pub fn start(lab: &TunnelLab, length: Duration, record: &Arc<Record>) -> Result<Self> {
        let work = lab.work().to_owned();
        let log = |name: &str| work.join(format!("iperf3-{name}.json"));
        let mut server = lab.site(SERVING).host.command("iperf3");
        server.args(["-s", "-1", "-J", "-i", "0.1", "-B", INNER_SERVER]);
        let server = Process::spawn("iperf3 -s", &mut server, Some(&log("server")))?;
        wait_for_listener(lab)?;
        let mut client = lab.site(CONNECTING).host.command("iperf3");
        let seconds = length.as_secs().to_string();
        client.args(["-c", INNER_SERVER, "-u", "-J", "-b", BITS_PER_SECOND, "-l", DATAGRAM_BYTES]);
        client.args(["-t", &seconds]);
        let client = Process::spawn("iperf3 -c", &mut client, Some(&log("client")))?;
        Ok(Self { server, client, work, began: record.now() })
    }

    /// Waits for both ends; what arrived counts as traffic of this kind.
    pub fn finish(mut self, record: &Record, kind: usize) -> Result<Outcome> {
        let mut ended = true;
        for process in [&mut self.client, &mut self.server] {
            ended &= process.wait(record.time_left()).is_ok_and(|status| status.success());
        }
        let path = self.work.join("iperf3-server.json");
        let file = File::open(&path).map_err(LabError::io(format!("open {}", path.display())))?;
        let Ok(said) = serde_json::from_reader::<_, Value>(file) else {
            record.note(format!("iperf3: {}{}", self.client.log_tail(5), self.server.log_tail(5)));
            return Ok(Outcome::default());
        };
        for interval in said["intervals"].as_array().into_iter().flatten() {
            let sum = &interval["sum"];
            let middle = (number(&sum["start"]) + number(&sum["end"])) / 2.0;
            let time = self.began + Duration::from_secs_f64(middle.max(0.0));
            record.moved_at(time, kind, number(&sum["bytes"]) as u64);
        }
        let complete = ended && said["error"].is_null();
        if !complete {
            record.note(format!("iperf3: {}; {}", said["error"], self.client.log_tail(5)));
        }
        let all = &said["end"]["streams"][0]["udp"];
        let count = |name: &str| number(&all[name]) as u64;
        let (sent, lost, out_of_order) =
            (count("packets"), count("lost_packets"), count("out_of_order"));
        Ok(Outcome { complete, sent, lost, out_of_order })
    }
}

fn wait_for_listener(lab: &TunnelLab) -> Result<()> {
    let host = &lab.site(SERVING).host;
    for _ in 0..200 {
        let mut ss = host.command("ss");
        if anyrelay_lab::command::run(ss.args(["-Hltn", "sport", "=", ":5201"]))?.contains("5201") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(LabError::Unexpected("iperf3 does not listen".into()))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}
