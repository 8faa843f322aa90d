//! Runs the core alone over a capture, again and again.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use anyrelay_core::frame::Frame;
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{BURST, Output, Pop};
use anyrelay_core::time::Now;
use anyrelay_kit::pcap;
use anyrelay_kit::pop::RunningPop;
use arrayvec::ArrayVec;
use clap::{Args, ValueEnum};
use cpu_vector::Isa;

use super::WORKS;
use crate::config;
use crate::packets::{MBUFS, Setting};

/// Runs the core alone over a capture.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder with the captures that captures.py made.
    #[arg(long)]
    captures: PathBuf,
    /// The capture, by its name.
    #[arg(long)]
    work: String,
    /// The set of vector instructions: baseline, avx2, avx512.
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
    let work = WORKS.iter().find(|it| it.capture == work).context("there is no such work")?;
    let path = captures.join(format!("{}.in.pcap", work.capture));
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
    let mut buffers = vec![[0; BUFFER]; BURST];
    let mut plain = Plain(0);
    for _ in 0..*passes {
        for burst in frames.chunks(BURST) {
            let mut slots: ArrayVec<Slot<'_>, BURST> = ArrayVec::new();
            for (buffer, frame) in buffers.iter_mut().zip(burst) {
                let room = buffer.get_mut(HEADROOM..HEADROOM + frame.len());
                room.context("a frame is too long")?.copy_from_slice(frame);
                slots.push(Slot { buffer, start: HEADROOM, end: HEADROOM + frame.len() });
            }
            let (now, port) = (Now::from_millis(1_000_000), PortIndex(0));
            match handler {
                Handler::None => slots.drain(..).for_each(|slot| plain.transmit(port, slot)),
                Handler::Pop => pop.burst(now, 0, port, slots, &mut plain),
            }
        }
    }
    let (sent, all) = (plain.0, frames.len() * *passes as usize);
    let fast = pop.counters.fast_frames.get();
    println!("frames {all} sent {sent} fast {fast}");
    ensure!(sent == all, "{} of {all} frames were not sent on", all - sent);
    Ok(())
}

const HEADROOM: usize = 128;
/// Bytes of a buffer.
const BUFFER: usize = 512;

/// A frame in a buffer that is used again.
struct Slot<'a> {
    buffer: &'a mut [u8; BUFFER],
    start: usize,
    end: usize,
}

impl Frame for Slot<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        let start = self.start.checked_sub(count);
        self.start = start.unwrap_or(self.start);
        start.is_some()
    }

    #[inline]
    fn append(&mut self, count: usize) -> bool {
        let fits = self.end + count <= BUFFER;
        self.end += if fits { count } else { 0 };
        fits
    }

    #[inline]
    fn trim_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// Counts what is sent.
struct Plain(usize);

impl<'a> Output<Slot<'a>> for Plain {
    #[inline]
    fn transmit(&mut self, _: PortIndex, frame: Slot<'a>) {
        black_box(frame.bytes());
        self.0 += 1;
    }

    fn allocate(&mut self) -> Option<Slot<'a>> {
        None
    }
}
