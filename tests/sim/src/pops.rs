//! The POPs: the core's own `Pop`, each with its config, soft state and clock; and beside each a
//! judge, another `Pop` with another history that is asked what it would have done.

use std::sync::Arc;

use anyrelay_core::config::{Config, Snapshot, reload_conflicts};
use anyrelay_core::counters::Counters;
use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_core::keys::KeyFile;
use anyrelay_core::pop::{BURST, Note, Output, Pop, SoftState};
use anyrelay_core::time::{Instant, Now, UnixTime};
use anyrelay_core::verdict::{DropReason, PortIndex, ReplyKind, Verdict};
use anyrelay_core::wire::MacAddr;
use arrayvec::ArrayVec;

use crate::setup::{self, Port, Setup};

/// Frames that a POP sent, and what it said about the frame in hand.
#[derive(Debug, Default)]
pub struct Sink {
    pub sent: Vec<(PortIndex, Vec<u8>)>,
    pub verdicts: Vec<Verdict>,
    pub replies: Vec<ReplyKind>,
    pub unresolved: bool,
}

impl Sink {
    pub fn clear(&mut self) {
        self.sent.clear();
        self.verdicts.clear();
        self.replies.clear();
        self.unresolved = false;
    }
}

impl Output<HeapFrame> for Sink {
    const EXPLAINS: bool = true;

    fn transmit(&mut self, port: PortIndex, frame: HeapFrame) {
        self.sent.push((port, frame.bytes().to_vec()));
    }

    fn allocate(&mut self) -> Option<HeapFrame> {
        Some(HeapFrame::new(&[]))
    }

    fn explain(&mut self, note: Note<'_>) {
        match note {
            Note::Verdict(verdict) => {
                self.unresolved |= verdict == Verdict::Drop(DropReason::NeighbourUnresolved);
                self.verdicts.push(verdict);
            }
            Note::Sent(kind) => self.replies.push(kind),
            _ => {}
        }
    }
}

/// A POP's config in one version, its state, and its counters.
#[derive(Debug)]
struct Running {
    snapshot: Snapshot,
    soft: Arc<SoftState>,
    counters: Arc<Counters>,
    /// One for each worker.
    pops: [Pop; WORKERS],
}

/// Workers of a POP: any of them may meet any frame.
pub const WORKERS: usize = 2;

impl Running {
    fn start(snapshot: Snapshot, index: usize) -> Self {
        let macs = [Port::Wan, Port::Lan].map(|port| MacAddr::new(setup::mac(index, port)));
        let soft = Arc::new(SoftState::new(&snapshot, &macs));
        let counters = Arc::new(Counters::default());
        let pops = [(); WORKERS].map(|()| Pop::new(soft.clone(), counters.clone()));
        Running { snapshot, soft, counters, pops }
    }

    fn handle(&mut self, now: Now, (worker, port): (usize, Port), frame: &[u8], sink: &mut Sink) {
        let port = PortIndex(port as u8);
        let mut frames: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        frames.push(HeapFrame::new(frame));
        self.pops[worker].handle_burst(now, &self.snapshot, port, &mut frames, sink);
    }
}

/// A POP of the simulation.
#[derive(Debug)]
pub struct SimPop {
    pub index: usize,
    pub version: u32,
    /// Frames to it are lost until then.
    pub down_until_us: u64,
    /// Its wall clock is ahead by that.
    pub ahead_ms: i64,
    /// Its monotonic clock began so long before the run.
    pub up_since_us: u64,
    pub drops: u64,
    keys: KeyFile,
    live: Running,
    judge: Running,
}

impl SimPop {
    pub fn new(setup: &Setup, index: usize, keys: &KeyFile) -> Result<Self, String> {
        let (live, judge) = snapshots(setup, index, 0, keys, None)?;
        Ok(SimPop {
            index,
            version: 0,
            down_until_us: 0,
            ahead_ms: 0,
            up_since_us: 0,
            drops: 0,
            keys: keys.clone(),
            live: Running::start(live, index),
            judge: Running::start(judge, index),
        })
    }

    /// What its clocks say.
    pub fn now(&self, now_us: u64, unix_ms: u64) -> Now {
        let unix_ms = (unix_ms + now_us / 1000).saturating_add_signed(self.ahead_ms);
        let instant = Instant::from_nanos((self.up_since_us + now_us) * 1000);
        Now { instant, unix: UnixTime::from_millis(unix_ms) }
    }

    /// Hands one of its workers one frame that came in through a port.
    pub fn handle(&mut self, now: Now, at: (usize, Port), frame: &[u8], sink: &mut Sink) {
        sink.clear();
        self.live.handle(now, at, frame, sink);
        let drops = sink.verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Drop(_)));
        self.drops += drops.count() as u64;
    }

    /// Asks its judge the same: another history, and neighbours that are always known.
    pub fn ask_judge(&mut self, now: Now, port: Port, frame: &[u8], sink: &mut Sink) {
        sink.clear();
        self.judge.handle(now, (0, port), frame, sink);
    }

    /// What is due without a frame.
    pub fn poll(&mut self, now: Now, sink: &mut Sink) {
        sink.clear();
        self.live.pops[0].poll(now, sink);
    }

    /// Begins anew: all that it remembered is gone.
    pub fn restart(&mut self, up_since_us: u64) {
        self.up_since_us = up_since_us;
        self.live = Running::start(self.live.snapshot.clone(), self.index);
    }

    /// Only a worker begins anew, with the POP's soft state.
    pub fn new_worker(&mut self) {
        self.live.pops[0] = Pop::new(self.live.soft.clone(), self.live.counters.clone());
    }

    /// Goes over to another version of the config while it runs.
    pub fn reload(&mut self, setup: &Setup, version: u32, now: Now) -> Result<(), String> {
        let old = &self.live.snapshot;
        if let (1.., Some(tokens)) = (version, &setup.rotated) {
            self.keys.tokens.clone_from(tokens);
        }
        let (live, judge) = snapshots(setup, self.index, version, &self.keys, Some(old))?;
        if let Some(conflict) = reload_conflicts(old, &live, now.unix).first() {
            return Err(format!("reload of POP {} is refused: {}", self.index, conflict.problem));
        }
        (self.live.snapshot, self.judge.snapshot) = (live, judge);
        self.version = version;
        Ok(())
    }
}

fn snapshots(
    setup: &Setup,
    index: usize,
    version: u32,
    keys: &KeyFile,
    previous: Option<&Snapshot>,
) -> Result<(Snapshot, Snapshot), String> {
    let build = |fixed_macs| {
        let text = setup.config(index, version, fixed_macs);
        let config = Config::parse("pop.toml", &text).map_err(|problems| problems.to_string())?;
        Snapshot::build(&config, keys, &setup.tenants, previous)
            .map_err(|problems| problems.to_string())
    };
    Ok((build(false)?, build(true)?))
}
