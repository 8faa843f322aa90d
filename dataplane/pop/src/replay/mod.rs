//! `replay`: the POP over a capture, offline, without DPDK.
//!
//! Both clocks are the capture's. Timers are due at the first frame that is at least
//! [`POLL_INTERVAL_NS`] later than the last time. Frames pass through the engine one at a time, in
//! the order of the capture, and its output has the time stamp of the current frame. Neighbours
//! come from the config or from ARP replies in the capture. Memory does not grow with the capture.
//! Fragments are not reassembled.

mod counts;
mod describe;
mod describe_ipv6;
mod describe_quote;
mod describe_tunnel;
mod sink;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyrelay_core::config::Fragments;
use anyrelay_core::counters::Counters;
use anyrelay_core::frame::HeapFrame;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{Arrived, BURST, Pop, SoftState};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::{Instant, Now, UnixTime};
use anyrelay_core::wire::MacAddr;
use anyrelay_core::wire::arp::Arp;
use anyrelay_core::wire::ethernet::{self, Ethernet};
use arrayvec::ArrayVec;

pub use anyrelay_capture::{CaptureError, Reader, Record, Resolution, Writer};
pub use counts::Counts;
pub use describe::Described;
use sink::Sink;

/// The interval of timers, in nanoseconds of the capture's time.
pub const POLL_INTERVAL_NS: u64 = 100_000_000;

/// The options of a replay.
#[derive(Clone, Debug, Default)]
pub struct ReplayOptions {
    /// The capture to read.
    pub input: PathBuf,
    /// The capture to write.
    pub output: PathBuf,
    /// The port of all input frames; without it, the one with their destination MAC address.
    pub port: Option<String>,
    /// Whether to explain each frame.
    pub explain: bool,
    /// The file for the counters, as JSON.
    pub counters: Option<PathBuf>,
}

/// Why a capture was not replayed completely.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The port does not exist.
    #[error("{file}: port: there is no {name}; there are: {names}")]
    NoPort {
        /// The config.
        file: String,
        /// The requested name.
        name: String,
        /// The existing names.
        names: String,
    },
    /// Frames cannot be assigned to a port.
    #[error(
        "{file}: port.{name}.mac: missing, so no frame can be told to have come in through this \
         port; state the mac, or give --port"
    )]
    NoMac {
        /// The config.
        file: String,
        /// The port's name.
        name: String,
    },
    /// The output would overwrite the input.
    #[error("--in and --out are the same file, {path}: it would be emptied before it is read")]
    SameFile {
        /// The file.
        path: String,
    },
    /// The capture or the output failed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The counters could not be written.
    #[error("{path} cannot be written: {source}")]
    Counters {
        /// The file.
        path: String,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// The explanation could not be written.
    #[error("the explanation cannot be written: {0}")]
    Explanation(std::io::Error),
}

/// Replays a capture through the POP of `snapshot`, and writes explanations to `explanation`.
///
/// # Errors
/// When the port is not determined, or a file cannot be read or written. A capture that is
/// truncated within a record is replayed up to that record.
pub fn replay(
    snapshot: &Snapshot,
    options: &ReplayOptions,
    explanation: &mut impl Write,
) -> Result<(), ReplayError> {
    let inputs = Inputs::new(snapshot, options)?;
    let mut reader = Reader::open(&options.input)?;
    if let (Ok(input), Ok(output)) = (options.input.canonicalize(), options.output.canonicalize())
        && input == output
    {
        return Err(ReplayError::SameFile { path: input.display().to_string() });
    }
    let writer = Writer::create(&options.output, reader.resolution())?;
    let mut run = Run::new(snapshot, inputs, writer, explanation, options.explain);
    let mut ended = Ok(());
    loop {
        match reader.next_record() {
            Ok(Some(record)) => run.frame(record)?,
            Ok(None) => break,
            Err(error) => {
                ended = Err(error.into());
                break;
            }
        }
    }
    run.finish(options)?;
    ended
}

/// Determines the ports of input frames.
struct Inputs {
    macs: Vec<MacAddr>,
    only: Option<PortIndex>,
}

impl Inputs {
    fn new(snapshot: &Snapshot, options: &ReplayOptions) -> Result<Self, ReplayError> {
        let config = &snapshot.config;
        let file = || config.file.clone();
        let mut macs: Vec<_> =
            config.ports.iter().map(|port| port.mac.unwrap_or_default()).collect();
        let Some(name) = &options.port else {
            let silent = config.ports.iter().find(|port| port.mac.is_none());
            return match silent {
                Some(port) => Err(ReplayError::NoMac { file: file(), name: port.name.clone() }),
                None => Ok(Inputs { macs, only: None }),
            };
        };
        let Some(place) = config.ports.iter().position(|port| port.name == *name) else {
            let names: Vec<_> = config.ports.iter().map(|port| port.name.as_str()).collect();
            let (name, names) = (name.clone(), names.join(", "));
            return Err(ReplayError::NoPort { file: file(), name, names });
        };
        if let Some(mac) = macs.get_mut(place)
            && config.ports.get(place).is_some_and(|port| port.mac.is_none())
        {
            *mac = first_destination(&options.input)?;
        }
        Ok(Inputs { macs, only: Some(PortIndex(place as u8)) })
    }

    /// The port of `frame`: the requested one, else the one with the frame's destination MAC
    /// address. A frame for none of them belongs to the port whose address an ARP packet requests,
    /// else to the first port, which drops it.
    fn port(&self, snapshot: &Snapshot, frame: &[u8]) -> PortIndex {
        if let Some(port) = self.only {
            return port;
        }
        let Some(ethernet) = Ethernet::parse(frame) else { return PortIndex(0) };
        let to = |mac: &MacAddr| *mac == ethernet.dst;
        let asked = || {
            let payload = frame.get(ethernet.header_len()..)?;
            let is_arp = ethernet.ethertype == ethernet::TYPE_ARP;
            let ip = is_arp.then(|| Arp::parse(payload)).flatten()?.target_ip;
            let ports = &snapshot.config.ports;
            ports.iter().position(|port| port.nets::<u32>().any(|net| net.contains(ip)))
        };
        let place = self.macs.iter().position(to).or_else(asked);
        PortIndex(place.unwrap_or_default() as u8)
    }
}

/// The first destination MAC address of a capture that is not a group address.
fn first_destination(path: &Path) -> Result<MacAddr, CaptureError> {
    let mut reader = Reader::open(path)?;
    while let Some(record) = reader.next_record()? {
        match Ethernet::parse(record.bytes) {
            Some(ethernet) if ethernet.dst.is_unicast() => return Ok(ethernet.dst),
            _ => {}
        }
    }
    Ok(MacAddr::default())
}

/// A replay in progress.
struct Run<'a, T> {
    snapshot: &'a Snapshot,
    inputs: Inputs,
    writer: Writer<BufWriter<File>>,
    explanation: &'a mut T,
    explain: bool,
    counters: Arc<Counters>,
    pop: Pop,
    sink: Sink<'a>,
    frames: ArrayVec<HeapFrame, BURST>,
    number: u64,
    now_ns: u64,
    poll_at_ns: u64,
}

impl<'a, T: Write> Run<'a, T> {
    fn new(
        snapshot: &'a Snapshot,
        inputs: Inputs,
        writer: Writer<BufWriter<File>>,
        explanation: &'a mut T,
        explain: bool,
    ) -> Self {
        let counters = Arc::new(Counters::new(snapshot.slots()));
        let soft = Arc::new(SoftState::new(snapshot, &inputs.macs));
        Run {
            snapshot,
            inputs,
            writer,
            explanation,
            explain,
            pop: Pop::new(soft, Arc::clone(&counters)),
            counters,
            sink: Sink::new(snapshot, explain),
            frames: ArrayVec::new(),
            number: 0,
            now_ns: 0,
            poll_at_ns: 0,
        }
    }

    fn frame(&mut self, record: Record<'_>) -> Result<(), ReplayError> {
        self.number += 1;
        // The engine's monotonic clock must not run backwards, though a capture's time may.
        self.now_ns = self.now_ns.max(record.time_ns);
        let unix = UnixTime::from_millis(record.time_ns / 1_000_000);
        let now = Now { instant: Instant::from_nanos(self.now_ns), unix };
        if self.now_ns >= self.poll_at_ns {
            self.poll_at_ns = self.now_ns + POLL_INTERVAL_NS;
            self.pop.poll(now, self.snapshot, &mut self.sink);
            if !self.sink.sent.is_empty() {
                let time = self.writer.resolution().seconds(record.time_ns);
                self.send(record.time_ns, &format!("timer {time}"))?;
            }
        }
        let port = self.inputs.port(self.snapshot, record.bytes);
        self.counters.port(port).rx.add(1, record.bytes.len() as u64);
        let would_wait = self.explain && self.would_wait(port, record.bytes);
        // It has room: every call empties it.
        let _ = self.frames.try_push(HeapFrame::new(record.bytes));
        self.pop.handle_burst(now, self.snapshot, port, &mut self.frames, &mut self.sink);
        if !self.explain {
            return self.send(record.time_ns, "");
        }
        let name = self.sink.port_name(port.0);
        let time = self.writer.resolution().seconds(record.time_ns);
        let mut line = format!("{} {time} {name}: {}", self.number, Described(record.bytes));
        if record.wire_len as usize > record.bytes.len() {
            line += &format!(" (captured {} of {})", record.bytes.len(), record.wire_len);
        }
        if would_wait {
            line += " | a fragment: run reassembles its datagram, replay does not";
        }
        self.send(record.time_ns, &line)
    }

    /// Whether `run` sets a frame aside, as a fragment of a datagram that it reassembles.
    fn would_wait(&self, port: PortIndex, bytes: &[u8]) -> bool {
        let reassembles = matches!(self.snapshot.config.pop.fragments, Fragments::Reassemble(_));
        let arrived = || self.pop.incoming(self.snapshot, port, &mut HeapFrame::new(bytes));
        reassembles && matches!(arrived(), Arrived::Fragment(_))
    }

    /// Writes the engine's output, and with `--explain` a line that starts with `about`.
    fn send(&mut self, time_ns: u64, about: &str) -> Result<(), ReplayError> {
        let mut line = std::mem::take(&mut self.sink.reasons);
        for (port, frame) in self.sink.sent.drain(..) {
            let bytes = anyrelay_core::frame::Frame::bytes(&frame);
            self.counters.port(port).tx.add(1, bytes.len() as u64);
            self.writer.write(time_ns, bytes)?;
            if self.explain {
                let name = port_name(self.snapshot, port.0);
                line += &format!(" | out {name}: {}", Described(bytes));
            }
        }
        if self.explain {
            writeln!(self.explanation, "{about}{line}").map_err(ReplayError::Explanation)?;
        }
        Ok(())
    }

    fn finish(mut self, options: &ReplayOptions) -> Result<(), ReplayError> {
        self.writer.flush()?;
        let counts = Counts::new(self.snapshot, &self.counters);
        for line in counts.lines() {
            writeln!(self.explanation, "{line}").map_err(ReplayError::Explanation)?;
        }
        self.explanation.flush().map_err(ReplayError::Explanation)?;
        let Some(path) = &options.counters else { return Ok(()) };
        let text = serde_json::to_string_pretty(&counts).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(path, text + "\n"))
            .map_err(|source| ReplayError::Counters { path: path.display().to_string(), source })
    }
}

fn port_name(snapshot: &Snapshot, port: u8) -> String {
    snapshot.config.ports.get(usize::from(port)).map_or("?", |port| &port.name).to_owned()
}
