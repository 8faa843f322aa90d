//! Runs the core alone over the frames of a work, again and again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use anyrelay_core::keys::KeyFile;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{BURST, Output};
use anyrelay_core::time::Now;
use anyrelay_kit::buffer::{Buffer, Sent};
use anyrelay_kit::pcap;
use anyrelay_kit::pop::RunningPop;
use arrayvec::ArrayVec;
use clap::{Args, ValueEnum};
use cpu_vector::Isa;

use crate::config::{self, Services};
use crate::packets::{MBUFS, Setting};
use crate::tunnel::{self, capture::Maker};
use crate::works::{CAPTURES, drops};

/// Runs the core alone over the frames of a work.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder with the captures that captures.py made.
    #[arg(long)]
    captures: PathBuf,
    /// The work, by its name.
    #[arg(long)]
    work: String,
    /// The set of vector instructions, as `layout.instructions` names it.
    #[arg(long, value_parser = isa)]
    isa: Isa,
    /// What handles the frames.
    #[arg(long, value_enum, default_value_t = Handler::Pop)]
    handler: Handler,
    /// How often the frames are handled.
    #[arg(long)]
    passes: u32,
}

/// What handles the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Handler {
    /// Nothing: what this program does itself.
    None,
    /// A POP.
    Pop,
}

fn isa(name: &str) -> Result<Isa, String> {
    name.parse().map_err(|()| format!("there is no set of instructions {name}"))
}

/// Frames that are handled.
struct Work {
    services: Services,
    frames: Vec<Vec<u8>>,
    at: Now,
    /// None of them is dropped; without it, nearly all are.
    is_sent_on: bool,
}

impl Work {
    fn of(name: &str, captures: &Path) -> anyhow::Result<Self> {
        let work = |services, frames| Work { services, frames, at: AT, is_sent_on: true };
        if let Some(capture) = CAPTURES.iter().find(|it| it.key == name) {
            let path = captures.join(format!("{}.in.pcap", capture.key));
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            return Ok(work(capture.services, pcap::frames(&bytes)));
        }
        if let Some(case) = drops::CASES.iter().find(|it| it.key == name) {
            let frames = (0..drops::PACKETS).map(case.frame).collect();
            return Ok(Work { is_sent_on: false, ..work(Services::Pool, frames) });
        }
        let case = tunnel::CASES.iter().find(|it| name.strip_prefix("tunnel_") == Some(it.key));
        let case = case.with_context(|| format!("there is no work {name}"))?;
        let maker = Maker::at(AT.unix)?;
        let frames: anyhow::Result<_> =
            (0..drops::PACKETS).map(|number| maker.datagram(case, number)).collect();
        Ok(work(Services::PoolAndTunnel, frames?))
    }
}

/// Handles all frames of the work as often as it is asked for.
///
/// # Errors
/// When the capture cannot be read, or what must be sent on is not.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { captures, work: name, isa, handler, passes } = arguments;
    let Work { services, frames, at, is_sent_on } = Work::of(name, captures)?;
    let setting = Setting {
        anyrelay: Path::new(""),
        input: Path::new(""),
        folder: Path::new(""),
        core: 0,
        window: Duration::ZERO,
        services,
        workers: 1,
        mbufs: MBUFS,
        instructions: isa.name(),
    };
    let keys = KeyFile::parse(&config::keys()).ok().context("keys")?;
    let snapshot = config::pop(&setting).snapshot(&keys, &tunnel::tenants()?);
    let mut pop = RunningPop::single(snapshot);
    let mut buffers: Vec<_> = (0..BURST).map(|_| Buffer::new()).collect();
    let (mut sent, port) = (Sent::default(), PortIndex(0));
    for _ in 0..*passes {
        for burst in frames.chunks(BURST) {
            let filled = buffers.iter_mut().zip(burst).map(|(buffer, frame)| {
                buffer.fill(frame);
                buffer
            });
            let mut filled: ArrayVec<_, BURST> = filled.collect();
            match handler {
                Handler::None => filled.drain(..).for_each(|frame| sent.transmit(port, frame)),
                Handler::Pop => pop.burst(at, 0, port, filled, &mut sent),
            }
        }
    }
    let (Sent(sent), all) = (sent, frames.len() as u64 * u64::from(*passes));
    let fast = pop.counters.fast_frames.get();
    println!("frames {all} sent {sent} fast {fast}");
    ensure!(sent == all || !is_sent_on, "{} of {all} frames were not sent on", all - sent);
    Ok(())
}

/// When all frames arrive.
const AT: Now = Now::from_millis(1_000_000_000);
