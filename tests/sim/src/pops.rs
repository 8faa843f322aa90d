//! The POPs: the core's own `Pop`, each with its config, soft state and clock. Beside each are two
//! twins of the same history: one is handed one at a time the frames that the POP takes in bursts,
//! the other takes the same bursts, but does not explain, so that plain segments go the fast way.
//! And a judge of another history is asked what it would have done.

use std::sync::Arc;

use anyrelay_core::config::{Config, kept_epochs};
use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_core::keys::KeyFile;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::Output;
use anyrelay_core::relay::hints::{Hint, HintKey};
use anyrelay_core::snapshot::{Conflict, ConflictKind, Snapshot, reload_conflicts};
use anyrelay_core::time::{Instant, Now, UnixTime};
use anyrelay_core::verdict::DropReason;
use anyrelay_kit::pop::{Collector, Recorder, RunningPop, Sent};

use crate::carried::Tunnels;
use crate::checks::At;
use crate::mutants::Mutant;
use crate::setup::{self, Port, Revision, Rollout, Service, Setup};
use crate::tally::Tally;
use crate::targets::TargetList;

/// Workers of a POP: any of them may meet any frame.
pub const WORKERS: usize = 2;

fn start(snapshot: impl Into<Arc<Snapshot>>, index: usize) -> RunningPop {
    let macs = [Port::Wan, Port::Lan].map(|port| setup::mac(index, port));
    RunningPop::new(snapshot, macs.to_vec(), WORKERS)
}

/// What is between a POP and its ports.
#[derive(Clone, Debug)]
struct Ports {
    /// All POPs are wrong in the same way.
    mutant: Option<Mutant>,
    tunnels: Tunnels,
}

/// Hands frames that came in through a port to a worker, as one burst.
fn hand(
    running: &mut RunningPop,
    ports: &Ports,
    now: Now,
    (worker, port): (usize, Port),
    frames: &[Vec<u8>],
    out: &mut impl Output<HeapFrame>,
) {
    let frames = frames.iter().map(|frame| {
        let carried = (port == Port::Lan).then(|| ports.tunnels.enter(frame)).flatten();
        let mut frame = HeapFrame::new(carried.as_ref().unwrap_or(frame));
        if let Some(mutant) = &ports.mutant {
            mutant.enter(port, frame.bytes_mut());
        }
        frame
    });
    running.burst(now, worker, PortIndex(port as u8), frames, out);
}

/// What a POP sent leaves it, and a tunnel if it is in one: how many frames were, or an error if a
/// tunnel is wrong.
fn leave(ports: &Ports, sent: &mut Sent) -> Result<u64, String> {
    let mut carried = 0;
    for (port, frame) in sent {
        let port = if port.0 == 0 { Port::Wan } else { Port::Lan };
        if let Some(mutant) = &ports.mutant {
            mutant.leave(port, frame);
        }
        if port == Port::Lan
            && let Some(taken) = ports.tunnels.leave(frame)?
        {
            *frame = taken;
            carried += 1;
        }
    }
    Ok(carried)
}

/// An error if what came the fast way, which is then forgotten, is not what came the general way.
fn is_same(fast: &mut Collector, general: &Recorder) -> Result<(), String> {
    if fast.sent != general.sent || fast.hints != general.hints {
        return Err(format!("the fast way leads elsewhere: {fast:02x?}, not {general:02x?}"));
    }
    fast.clear();
    Ok(())
}

/// Whether a frame was dropped for want of a neighbour's address.
pub fn is_unresolved(out: &Recorder) -> bool {
    out.drops().any(|reason| reason == DropReason::NeighbourUnresolved)
}

/// A POP of the simulation.
#[derive(Debug)]
pub struct SimPop {
    pub index: usize,
    pub revision: Revision,
    /// Its targets, of each service.
    pub targets: Vec<TargetList>,
    /// Frames to it are lost until then.
    pub down_until_us: u64,
    /// Its wall clock is ahead by that.
    pub ahead_ms: i64,
    /// Its monotonic clock began so long before the run.
    pub up_since_us: u64,
    keys: KeyFile,
    live: RunningPop,
    twin: RunningPop,
    fast: RunningPop,
    judge: RunningPop,
    ports: Ports,
    // What a whole burst came to, and the fast way.
    whole: Recorder,
    fast_whole: Collector,
    /// Frames that went the fast way.
    pub fast_frames: u64,
    /// Datagrams that it sent to targets in tunnels.
    pub carried: u64,
    tally: Tally,
}

impl SimPop {
    pub fn new(
        setup: &Setup,
        index: usize,
        revision: Revision,
        (keys, mutant): (&KeyFile, Option<Mutant>),
    ) -> Result<Self, String> {
        let (live, judge) = snapshots(setup, index, revision, keys, None)?;
        let of = |service: &Service| service.list(revision.known);
        Ok(SimPop {
            index,
            revision,
            targets: setup.services.iter().map(of).collect(),
            down_until_us: 0,
            ahead_ms: 0,
            up_since_us: 0,
            keys: keys.clone(),
            twin: start(live.clone(), index),
            fast: start(live.clone(), index),
            live: start(live, index),
            judge: start(judge, index),
            ports: Ports { mutant, tunnels: Tunnels::of(&setup.services) },
            whole: Recorder::default(),
            fast_whole: Collector::default(),
            fast_frames: 0,
            carried: 0,
            tally: Tally::default(),
        })
    }

    /// What its clocks say.
    pub fn now(&self, now_us: u64, unix_ms: u64) -> Now {
        let unix_ms = (unix_ms + now_us / 1000).saturating_add_signed(self.ahead_ms);
        let instant = Instant::from_nanos((self.up_since_us + now_us) * 1000);
        Now { instant, unix: UnixTime::from_millis(unix_ms) }
    }

    /// The POP as the checks see it.
    pub fn at(&self, now_us: u64, unix_ms: u64) -> At<'_> {
        let now = self.now(now_us, unix_ms);
        let (pop, version, targets) = (self.index, self.revision.version, &*self.targets);
        let (now_ms, unix_ms) = (now.instant.as_millis(), now.unix.as_millis());
        At { pop, version, now_ms, unix_ms, targets }
    }

    /// Hands one of its workers all of `frames`, which came in through a port, at once. `sinks`
    /// gets what came of each, as the twin has it, which is handed them one by one: an error if
    /// that is not the same, or not what comes of them the fast way.
    pub fn handle(
        &mut self,
        now: Now,
        at: (usize, Port),
        frames: &[Vec<u8>],
        sinks: &mut Vec<Recorder>,
    ) -> Result<(), String> {
        self.whole.clear();
        let ports = &self.ports;
        hand(&mut self.live, ports, now, at, frames, &mut self.whole);
        let before = self.fast.counters.fast_frames.get();
        hand(&mut self.fast, ports, now, at, frames, &mut self.fast_whole);
        self.fast_frames += self.fast.counters.fast_frames.get() - before;
        is_same(&mut self.fast_whole, &self.whole)?;
        self.carried += leave(ports, &mut self.whole.sent)?;
        sinks.resize_with(frames.len(), Recorder::default);
        for (frame, sink) in frames.iter().zip(&mut *sinks) {
            sink.clear();
            let frame = std::slice::from_ref(frame);
            hand(&mut self.twin, ports, now, at, frame, sink);
            leave(ports, &mut sink.sent)?;
            self.tally.add(at.1, sink);
        }
        let whole = &self.whole;
        let same = whole.sent.iter().eq(sinks.iter().flat_map(|one| &one.sent))
            && whole.verdicts().eq(sinks.iter().flat_map(Recorder::verdicts))
            && whole.replies().eq(sinks.iter().flat_map(Recorder::replies))
            && whole.hints.iter().eq(sinks.iter().flat_map(|one| &one.hints));
        if same {
            return Ok(());
        }
        let verdicts = |out: &Recorder| out.verdicts().collect::<Vec<_>>();
        let singly: Vec<_> = sinks.iter().map(|one| (verdicts(one), one.sent.len())).collect();
        Err(format!(
            "a burst of {} comes to {:?} and {} frames, one by one to {singly:?}",
            frames.len(),
            verdicts(whole),
            whole.sent.len(),
        ))
    }

    /// What seals its hints, and opens those of others.
    pub fn hint_key(&self) -> &HintKey {
        &self.live.snapshot.hint_key
    }

    /// Hands a hint about the service of that name, if it has that, to its first worker; `sink`
    /// gets what comes of it. An error if it comes to something else at its twin.
    pub fn take_hint(
        &mut self,
        now: Now,
        hint: &Hint,
        name: Option<&str>,
        sink: &mut Recorder,
    ) -> Result<(), String> {
        let unresolved = DropReason::NeighbourUnresolved;
        let drops = |pop: &RunningPop| pop.counters.drops(PortIndex(Port::Wan as u8), unresolved);
        let before = drops(&self.twin);
        self.whole.clear();
        self.live.hint(now, 0, hint, &mut self.whole);
        self.fast.hint(now, 0, hint, &mut self.fast_whole);
        is_same(&mut self.fast_whole, &self.whole)?;
        sink.clear();
        self.twin.hint(now, 0, hint, sink);
        self.tally.add_hint(name, drops(&self.twin) > before, sink);
        let same = self.whole.sent == sink.sent && self.whole.hints == sink.hints;
        if same { Ok(()) } else { Err("a hint comes to something else at its twin".into()) }
    }

    /// Asks its judge the same: another history, and neighbours that are always known.
    pub fn ask_judge(&mut self, now: Now, port: Port, frame: &[u8], sink: &mut Recorder) {
        sink.clear();
        let frames = [frame.to_vec()];
        hand(&mut self.judge, &self.ports, now, (0, port), &frames, sink);
        // If a tunnel of it is wrong, it is not what the POP sent.
        let _ = leave(&self.ports, &mut sink.sent);
    }

    /// What is due without a frame.
    pub fn poll(&mut self, now: Now, sink: &mut Recorder) -> Result<(), String> {
        self.whole.clear();
        self.twin.poll(now, 0, &mut self.whole);
        self.fast.poll(now, 0, &mut self.fast_whole);
        sink.clear();
        self.live.poll(now, 0, sink);
        is_same(&mut self.fast_whole, sink)
    }

    /// Begins anew: all that it remembered is gone.
    pub fn restart(&mut self, up_since_us: u64) -> Result<(), String> {
        self.judge_counters()?;
        self.up_since_us = up_since_us;
        self.live = start(self.live.snapshot.clone(), self.index);
        self.twin = start(self.live.snapshot.clone(), self.index);
        self.fast = start(self.live.snapshot.clone(), self.index);
        self.tally = Tally::default();
        Ok(())
    }

    /// Only a worker begins anew, with the POP's soft state.
    pub fn new_worker(&mut self) {
        self.live.restart_worker(0);
        self.twin.restart_worker(0);
        self.fast.restart_worker(0);
    }

    /// Whether its counters say what was seen to happen, each service's under its name.
    pub fn judge_counters(&self) -> Result<(), String> {
        let text = |error| format!("counters of POP {}: {error}", self.index);
        for running in [&self.live, &self.twin] {
            self.tally.check(&running.counters, running.snapshot.names()).map_err(text)?;
        }
        let (general, fast) = (&self.live.counters, &self.fast.counters);
        if general.agrees(fast) {
            return Ok(());
        }
        Err(text(format!("those of the fast way differ: {fast:#?}, not {general:#?}")))
    }

    /// Goes over to another version of the config while it runs.
    pub fn reload(&mut self, setup: &Setup, revision: Revision, now: Now) -> Result<(), String> {
        let old = Arc::clone(&self.live.snapshot);
        if let (1.., Some(tokens)) = (revision.version, &setup.rotated) {
            self.keys.tokens.clone_from(tokens);
        }
        let (index, before) = (self.index, Some((&*old, now.unix)));
        let (live, judge) = snapshots(setup, index, revision, &self.keys, before)?;
        let may_break = setup.rollout == Rollout::Late && revision.known > self.revision.known;
        let conflicts = reload_conflicts(&old, &live, now.unix);
        let is_meant = |one: &&Conflict| may_break && one.kind == ConflictKind::BreaksConnections;
        if let Some(conflict) = conflicts.iter().find(|one| !is_meant(one)) {
            return Err(format!("reload of POP {index} is refused: {}", conflict.problem));
        }
        let live = Arc::new(live);
        self.twin.reload(Arc::clone(&live));
        self.fast.reload(Arc::clone(&live));
        self.live.reload(live);
        self.judge.reload(judge.into());
        for (service, list) in setup.services.iter().zip(&mut self.targets) {
            *list = list.replaced(service.list(revision.known), now.unix.as_millis());
        }
        self.revision = revision;
        // They follow the services' names.
        self.judge_counters()
    }
}

/// What a POP is configured with.
pub fn snapshot(
    setup: &Setup,
    index: usize,
    revision: Revision,
    keys: &KeyFile,
) -> Result<Snapshot, String> {
    snapshots(setup, index, revision, keys, None).map(|(live, _)| live)
}

/// The snapshots of a POP and of its judge, which may take the place of one before at a time.
fn snapshots(
    setup: &Setup,
    index: usize,
    revision: Revision,
    keys: &KeyFile,
    before: Option<(&Snapshot, UnixTime)>,
) -> Result<(Snapshot, Snapshot), String> {
    let build = |fixed_macs| {
        let text = setup.config(index, revision, fixed_macs).text();
        let mut config =
            Config::parse("pop.toml", &text).map_err(|problems| problems.to_string())?;
        for relay in &mut config.relays {
            let old = before.and_then(|(old, now)| {
                let old = old.config.relays.iter().find(|old| old.vip == relay.vip)?;
                Some((old, now))
            });
            if let Some((old, now)) = old {
                relay.kept = kept_epochs(&old.targets, &old.kept, &relay.targets, now);
            }
        }
        let previous = before.map(|(old, _)| old);
        Snapshot::build(&config, keys, &setup.tenants, previous)
            .map_err(|problems| problems.to_string())
    };
    Ok((build(false)?, build(true)?))
}
