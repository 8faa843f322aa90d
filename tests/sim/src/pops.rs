//! The POPs: the core's own `Pop`, each with its config, soft state and clock. Beside each are a twin
//! of the same history, which is handed one at a time the frames that the POP takes in bursts, and a
//! judge of another history, which is asked what it would have done.

use std::sync::Arc;

use anyrelay_core::config::Config;
use anyrelay_core::counters::Counters;
use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_core::keys::KeyFile;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{BURST, Note, Output, Pop, SoftState};
use anyrelay_core::snapshot::{Snapshot, reload_conflicts};
use anyrelay_core::time::{Instant, Now, UnixTime};
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};
use anyrelay_core::wire::MacAddr;
use arrayvec::ArrayVec;

use crate::setup::{self, Port, Setup};
use crate::tally::Tally;

/// Frames that a POP sent, and what it said about the frame in hand.
#[derive(Debug, Default)]
pub struct Sink {
    pub sent: Vec<(PortIndex, Vec<u8>)>,
    pub verdicts: Vec<Verdict>,
    pub replies: Vec<ReplyKind>,
    /// Answers that a limit held back.
    pub withheld: Vec<ReplyKind>,
    pub unresolved: bool,
    /// The service that the frame is of, if it is of one.
    pub service: Option<String>,
    /// Which worker had it.
    pub worker: usize,
}

impl Sink {
    pub fn clear(&mut self) {
        self.sent.clear();
        self.verdicts.clear();
        self.replies.clear();
        self.withheld.clear();
        self.unresolved = false;
        self.service = None;
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
            Note::Withheld(kind) => self.withheld.push(kind),
            Note::Service(name) => self.service = Some(name.to_owned()),
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

    fn handle(
        &mut self,
        now: Now,
        (worker, port): (usize, Port),
        frames: &[Vec<u8>],
        sink: &mut Sink,
    ) {
        let port = PortIndex(port as u8);
        let mut burst: ArrayVec<HeapFrame, BURST> =
            frames.iter().map(|frame| HeapFrame::new(frame)).collect();
        self.pops[worker].handle_burst(now, &self.snapshot, port, &mut burst, sink);
    }

    fn renew_worker(&mut self) {
        self.pops[0] = Pop::new(self.soft.clone(), self.counters.clone());
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
    keys: KeyFile,
    live: Running,
    twin: Running,
    judge: Running,
    // What a burst came to, taken together.
    whole: Sink,
    tally: Tally,
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
            keys: keys.clone(),
            twin: Running::start(live.clone(), index),
            live: Running::start(live, index),
            judge: Running::start(judge, index),
            whole: Sink::default(),
            tally: Tally::default(),
        })
    }

    /// What its clocks say.
    pub fn now(&self, now_us: u64, unix_ms: u64) -> Now {
        let unix_ms = (unix_ms + now_us / 1000).saturating_add_signed(self.ahead_ms);
        let instant = Instant::from_nanos((self.up_since_us + now_us) * 1000);
        Now { instant, unix: UnixTime::from_millis(unix_ms) }
    }

    /// Hands one of its workers all of `frames`, which came in through a port, at once. `sinks` gets
    /// what came of each, as the twin has it, which is handed them one by one: an error if that is not
    /// the same.
    pub fn handle(
        &mut self,
        now: Now,
        at: (usize, Port),
        frames: &[Vec<u8>],
        sinks: &mut Vec<Sink>,
    ) -> Result<(), String> {
        self.whole.clear();
        self.live.handle(now, at, frames, &mut self.whole);
        sinks.resize_with(frames.len(), Sink::default);
        for (frame, sink) in frames.iter().zip(&mut *sinks) {
            sink.clear();
            sink.worker = at.0;
            self.twin.handle(now, at, std::slice::from_ref(frame), sink);
            self.tally.add(at.1, sink);
        }
        let whole = &self.whole;
        let same = whole.sent.iter().eq(sinks.iter().flat_map(|one| &one.sent))
            && whole.verdicts.iter().eq(sinks.iter().flat_map(|one| &one.verdicts))
            && whole.replies.iter().eq(sinks.iter().flat_map(|one| &one.replies));
        if same {
            return Ok(());
        }
        let singly: Vec<_> = sinks.iter().map(|one| (&one.verdicts, one.sent.len())).collect();
        Err(format!(
            "a burst of {} comes to {:?} and {} frames, one by one to {singly:?}",
            frames.len(),
            whole.verdicts,
            whole.sent.len(),
        ))
    }

    /// Asks its judge the same: another history, and neighbours that are always known.
    pub fn ask_judge(&mut self, now: Now, port: Port, frame: &[u8], sink: &mut Sink) {
        sink.clear();
        self.judge.handle(now, (0, port), &[frame.to_vec()], sink);
    }

    /// What is due without a frame.
    pub fn poll(&mut self, now: Now, sink: &mut Sink) {
        self.whole.clear();
        self.twin.pops[0].poll(now, &mut self.whole);
        sink.clear();
        self.live.pops[0].poll(now, sink);
    }

    /// Begins anew: all that it remembered is gone.
    pub fn restart(&mut self, up_since_us: u64) -> Result<(), String> {
        self.judge_counters()?;
        self.up_since_us = up_since_us;
        self.live = Running::start(self.live.snapshot.clone(), self.index);
        self.twin = Running::start(self.live.snapshot.clone(), self.index);
        self.tally = Tally::default();
        Ok(())
    }

    /// Only a worker begins anew, with the POP's soft state.
    pub fn new_worker(&mut self) {
        self.live.renew_worker();
        self.twin.renew_worker();
    }

    /// Whether its counters say what was seen to happen, each service's under its name.
    pub fn judge_counters(&self) -> Result<(), String> {
        let text = |error| format!("counters of POP {}: {error}", self.index);
        [&self.live, &self.twin].into_iter().try_for_each(|running| {
            self.tally.check(&running.counters, running.snapshot.names()).map_err(text)
        })
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
        self.twin.snapshot = live.clone();
        (self.live.snapshot, self.judge.snapshot) = (live, judge);
        self.version = version;
        // They follow the services' names.
        self.judge_counters()
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
