//! Runs the core alone over a capture, again and again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{BURST, Output, Pop};
use anyrelay_core::time::Now;
use anyrelay_kit::buffer::{Buffer, Sink};
use anyrelay_kit::pcap;
use anyrelay_kit::pop::RunningPop;
use arrayvec::ArrayVec;
use clap::{Args, ValueEnum};
use cpu_vector::Isa;

use crate::config;
use crate::packets::{MBUFS, Setting};
use crate::works::CAPTURES;

/// Runs the core alone over a capture.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder with the captures that captures.py made.
    #[arg(long)]
    captures: PathBuf,
    /// The capture, by its name.
    #[arg(long)]
    work: String,
    /// The set of vector instructions, as `layout.instructions` names it.
    #[arg(long, value_parser = isa)]
    isa: Isa,
    /// What handles the frames.
    #[arg(long, value_enum, default_value_t = Handler::Pop)]
    handler: Handler,
    /// How often the frames of the capture are handled.
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

/// Handles all frames of the capture as often as it is asked for.
///
/// # Errors
/// When the capture cannot be read, or a frame is not sent on.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { captures, work, isa, handler, passes } = arguments;
    let work = CAPTURES.iter().find(|it| it.key == work).context("there is no such capture")?;
    let path = captures.join(format!("{}.in.pcap", work.key));
    let capture = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let frames = pcap::frames(&capture);
    let setting = Setting {
        anyrelay: Path::new(""),
        input: &path,
        folder: Path::new(""),
        core: 0,
        window: Duration::ZERO,
        services: work.services,
        workers: 1,
        mbufs: MBUFS,
        instructions: "auto",
    };
    let keys = KeyFile::parse(&config::keys());
    let (keys, tenants) = (keys.ok().context("keys")?, Tenants::default());
    let snapshot = config::pop(&setting).snapshot(&keys, &tenants);
    let mut pop = RunningPop::single(snapshot);
    pop.workers[0] = Pop::with_isa(*isa, Arc::clone(&pop.soft), Arc::clone(&pop.counters));
    let free = (0..BURST).map(|_| Buffer::new()).collect();
    let mut sink = Sink { free, sent: [0; 2] };
    let (now, port) = (Now::from_millis(1_000_000), PortIndex(0));
    for _ in 0..*passes {
        for burst in frames.chunks(BURST) {
            let mut filled = ArrayVec::<Buffer, BURST>::new();
            for frame in burst {
                let mut buffer = sink.free.pop().context("a frame was not sent on")?;
                buffer.fill(frame);
                filled.push(buffer);
            }
            match handler {
                Handler::None => filled.drain(..).for_each(|frame| sink.transmit(port, frame)),
                Handler::Pop => pop.burst(now, 0, port, filled, &mut sink),
            }
        }
    }
    let (sent, all) = (sink.sent.iter().sum::<u64>(), frames.len() as u64 * u64::from(*passes));
    let fast = pop.counters.fast_frames.get();
    println!("frames {all} sent {sent} fast {fast}");
    ensure!(sent == all, "{} of {all} frames were not sent on", all - sent);
    Ok(())
}
