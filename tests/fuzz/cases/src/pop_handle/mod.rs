//! The whole POP: bursts of changed good frames through `Pop::handle_burst`.
//!
//! Each frame starts as a good one (of the fixtures, of agents, or a plain segment of a run of
//! them). Some of its bytes and fields are changed, cut, grown or swapped, its lengths and
//! checksums are repaired or not, and it comes in through any port, with any verdict of the NIC. In
//! every case:
//!
//! - nothing panics,
//! - each frame that leaves is well-formed ([`check`], which uses no parser of the core), inside a
//!   tunnel too ([`carried`]), and has the port's own MAC address and a source address that the POP
//!   may use,
//! - an open packet leaves unchanged but for its hops and marks, only where it may go, only of an
//!   agent whose numbers are right, or down to the agent that it is for ([`open`]),
//! - frames and counters add up: each frame that came in has a verdict, and each verdict is
//!   counted,
//! - a POP that takes the same frames one by one sends the same, and so does one with other earlier
//!   traffic,
//! - a POP that takes plain segments the fast way sends and counts the same,
//! - a frame that reassembly would take as a fragment leaves no other way.
//!
//! Input: the case, then for each frame: template 2, port and flags 1, number of edits 1, edits of
//! 4 bytes each. A template above 0x7fff is a [run](plain::Run), one of whose segments is edited.

mod carried;
mod cases;
mod check;
mod edit;
mod open;
pub mod outcome;
mod plain;
pub mod seeds;

use anyrelay_core::counters::Counters;
use anyrelay_core::frame::{ChecksumVerdict, Frame, HeapFrame};
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{Arrived, BURST};
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use anyrelay_kit::pop::{Collector, Recorder, RunningPop, Sent};

use cases::Case;
use plain::Run;

/// Runs one input.
pub fn run(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let case = cases::case(first);
    together_and_one_by_one(case, &frames(case, rest));
}

/// The frames of an input, behind its case.
fn frames(case: &Case, mut rest: &[u8]) -> Vec<Input> {
    let mut frames = Vec::new();
    for _ in 0..TEMPLATES_MAX {
        if frames.len() > 2 * BURST {
            break;
        }
        let Some((&[high, low, how, edits], more)) = rest.split_first_chunk() else { break };
        rest = more;
        let (mut begun, edited) = match high & 0x80 {
            0 => {
                let template = usize::from(u16::from_be_bytes([high, low]));
                (vec![case.templates[template % case.templates.len()].clone()], 0)
            }
            _ => {
                let run = Run::new(high, low);
                (run.frames(case).collect(), usize::from(how >> 5) % run.count)
            }
        };
        let mut none = Vec::new();
        let bytes = begun.get_mut(edited).map_or(&mut none, |(_, bytes)| bytes);
        for _ in 0..edits & 15 {
            let Some((edit, more)) = rest.split_first_chunk() else { break };
            edit::apply(bytes, *edit);
            rest = more;
        }
        edit::repair(bytes, edits >> 4);
        bytes.truncate(FRAME_LEN_MAX);
        let input = |(at, (port, bytes))| Input::new(case, how, at == edited, port, bytes);
        frames.extend(begun.into_iter().enumerate().map(input));
    }
    frames
}

/// A frame that comes in.
struct Input {
    port: PortIndex,
    bytes: Vec<u8>,
    verdict: ChecksumVerdict,
    no_buffers: bool,
}

impl Input {
    /// A frame that comes in as `how` says, if it is one of those that are changed.
    fn new(case: &Case, how: u8, is_edited: bool, port: PortIndex, bytes: Vec<u8>) -> Input {
        let ports = case.snapshot.config.ports.len() as u8;
        let port = match how & 3 {
            3 if is_edited => PortIndex((port.0 + 1 + (how >> 6)) % ports),
            // Mostly the one that it belongs to.
            _ => port,
        };
        let verdict = match how >> 2 & 7 {
            0 if is_edited => ChecksumVerdict::Bad,
            1 => ChecksumVerdict::Good,
            _ => ChecksumVerdict::Unknown,
        };
        Input { port, bytes, verdict, no_buffers: how >> 5 & 7 == 7 }
    }

    /// A frame that the NIC says nothing about.
    fn plain(port: PortIndex, bytes: &[u8]) -> Input {
        let verdict = ChecksumVerdict::Unknown;
        Input { port, bytes: bytes.to_vec(), verdict, no_buffers: false }
    }

    fn frame(&self) -> HeapFrame {
        let mut frame = HeapFrame::new(&self.bytes);
        frame.checksum = self.verdict;
        frame
    }
}

fn together_and_one_by_one(case: &Case, frames: &[Input]) {
    let (mut single, mut bursts) = (World::new(case), World::new(case));
    let (mut old, mut fast) = (World::new(case), Fast::new(case));
    for (port, frame) in &case.past {
        old.handle(&[Input::plain(*port, frame)]);
    }
    for group in frames.chunk_by(|a, b| a.port == b.port && a.no_buffers == b.no_buffers) {
        bursts.handle(group);
        fast.handle(case, group);
        for frame in group {
            single.handle(std::slice::from_ref(frame));
            check::all(case, frame.port, &frame.bytes, frame.verdict, &single.out.sent);
            single.set_aside(frame);
            old.handle(std::slice::from_ref(frame));
            // What becomes of a RST without a tag depends on the past: it goes on, or it waits.
            if !single.asked_memo() && !old.asked_memo() {
                let (of_old, of_single) = (&old.out.sent, &single.out.sent);
                let same = without_questions(of_old) == without_questions(of_single);
                assert!(same, "with a past: {of_old:02x?}, without: {of_single:02x?}");
            }
        }
    }
    assert_eq!(bursts.sent, single.sent, "alone and in a burst");
    fast.compare(&bursts);
}

/// A POP that does not explain: what is plain goes the fast way.
struct Fast {
    pop: RunningPop,
    out: Collector,
}

impl Fast {
    fn new(case: &Case) -> Self {
        let pop = RunningPop::new(case.snapshot.clone(), case.macs.clone(), 1);
        Fast { pop, out: Collector::default() }
    }

    /// Hands over the same bursts as [`World::handle`].
    fn handle(&mut self, case: &Case, group: &[Input]) {
        for group in group.chunks(BURST) {
            let Some(first) = group.first() else { return };
            self.out.frames_left = first.no_buffers.then_some(0);
            let frames = group.iter().map(Input::frame);
            self.pop.burst(case.now, 0, first.port, frames, &mut self.out);
        }
    }

    /// Compares it with one that had the same bursts and explains.
    fn compare(&self, general: &World<'_>) {
        assert_eq!(self.out.sent, general.sent, "the fast way and the general way");
        let (fast, general) = (&self.pop.counters, &general.pop.counters);
        assert!(
            fast.agrees(general),
            "the fast way counts {fast:#?}, the general way {general:#?}"
        );
    }
}

/// What a POP sent, without the questions for hardware addresses, which it asks so often only.
fn without_questions(sent: &[(PortIndex, Vec<u8>)]) -> Vec<&(PortIndex, Vec<u8>)> {
    sent.iter().filter(|(_, frame)| !check::is_address_query(frame)).collect()
}

/// A POP, and what it sends and says.
struct World<'a> {
    case: &'a Case,
    pop: RunningPop,
    /// What came of the last burst.
    out: Recorder,
    /// All that was sent.
    sent: Sent,
}

impl<'a> World<'a> {
    fn new(case: &'a Case) -> Self {
        let pop = RunningPop::new(case.snapshot.clone(), case.macs.clone(), 1);
        World { case, pop, out: Recorder::default(), sent: Sent::new() }
    }

    /// Hands over a burst, and checks that what became of it adds up.
    fn handle(&mut self, group: &[Input]) {
        for group in group.chunks(BURST) {
            let before = Counts::of(&self.pop.counters, self.case);
            let Some(first) = group.first() else { return };
            self.out.clear();
            self.out.frames_left = first.no_buffers.then_some(0);
            let frames = group.iter().map(Input::frame);
            self.pop.burst(self.case.now, 0, first.port, frames, &mut self.out);
            let after = Counts::of(&self.pop.counters, self.case);
            self.add_up(group, &before, &after);
            self.sent.extend(self.out.sent.iter().cloned());
        }
    }

    /// Whether a RST waits since the last frame, or answered it.
    fn asked_memo(&self) -> bool {
        let waits = Verdict::Absorb(AbsorbKind::PendingRst);
        self.out.replies().any(|kind| kind == ReplyKind::PendingRst)
            || self.out.verdicts().any(|verdict| verdict == waits)
    }

    /// Checks a frame, which was handled, against what is done with fragments before that.
    fn set_aside(&self, input: &Input) {
        let mut frame = input.frame();
        match self.pop.workers[0].incoming(&self.case.snapshot, input.port, &mut frame) {
            Arrived::Whole => assert_eq!(frame.bytes(), input.bytes),
            Arrived::Fragment(fragment) => {
                let len = fragment.l3 + fragment.headers_len + fragment.len;
                assert_eq!(frame.bytes(), &input.bytes[..len]);
                // Those of echo requests are answered one by one.
                let mut sent = self.out.sent.iter().map(|(_, frame)| frame);
                let answered = sent.all(|frame| check::mirrors(&input.bytes, frame));
                assert!(answered, "{fragment:?} is sent on alone");
            }
            Arrived::Refused(reason) => {
                assert_eq!(frame.bytes(), input.bytes);
                assert!(self.out.sent.is_empty(), "what is refused with {reason:?} is sent on");
            }
        }
    }

    fn add_up(&self, group: &[Input], before: &Counts, after: &Counts) {
        let (frames, out) = (group.len(), &self.out);
        let count = |is: fn(&Verdict) -> bool| out.verdicts().filter(is).count();
        let forwarded = count(|verdict| matches!(verdict, Verdict::Forward(_)));
        let absorbed_said = count(|verdict| matches!(verdict, Verdict::Absorb(_)));
        let (dropped, own) = (out.drops().count(), out.replies().count());
        let verdicts = out.verdicts().count();
        assert_eq!(verdicts, frames, "verdicts on frames");
        let [drops, absorbed, replies, packets] = [
            after.drops - before.drops,
            after.absorbed - before.absorbed,
            after.replies - before.replies,
            after.packets - before.packets,
        ];
        assert_eq!((absorbed, replies), (absorbed_said, own));
        // A query that found no buffer is counted, and is no verdict on any frame.
        assert!(
            drops == dropped || out.frames_left.is_some() && drops > dropped,
            "{drops} {dropped}"
        );
        assert!(packets >= forwarded, "{packets} packets counted of {forwarded}");
        // A fragment of an echo reply is an answer of its own.
        let is_mirror =
            |frame: &[u8]| group.iter().any(|input| check::mirrors(&input.bytes, frame));
        let more = |frame: &[u8]| {
            check::is_address_query(frame)
                || check::is_later_fragment(self.case, frame) && !is_mirror(frame)
        };
        let questions = out.sent.iter().filter(|(_, frame)| more(frame)).count();
        assert_eq!(out.sent.len(), forwarded + own + questions, "frames that left");
    }
}

/// Sums of counters.
struct Counts {
    drops: usize,
    absorbed: usize,
    replies: usize,
    packets: usize,
}

impl Counts {
    fn of(counters: &Counters, case: &Case) -> Counts {
        let ports = (0..case.snapshot.config.ports.len() as u8).map(PortIndex);
        let drops = ports.flat_map(|port| {
            DropReason::ALL.iter().map(move |reason| counters.drops(port, *reason))
        });
        let packets = case.snapshot.services().iter().map(|service| {
            let service = counters.service(service.slot());
            service.up.packets.get() + service.down.packets.get()
        });
        Counts {
            drops: drops.sum::<u64>() as usize,
            absorbed: AbsorbKind::ALL.iter().map(|kind| counters.absorbed(*kind)).sum::<u64>()
                as usize,
            replies: ReplyKind::ALL.iter().map(|kind| counters.replies(*kind)).sum::<u64>()
                as usize,
            packets: packets.sum::<u64>() as usize,
        }
    }
}

const TEMPLATES_MAX: usize = 12;
const FRAME_LEN_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use anyrelay_kit::rng::Rng;

    use super::*;

    /// What is compared is not the general way with itself.
    #[test]
    fn most_frames_of_random_inputs_go_the_fast_way() {
        let (mut rng, mut all, mut fast_frames, mut full) = (Rng(1), 0, 0, 0);
        for _ in 0..200 {
            let case = cases::case(rng.next() as u8);
            let input = rng.vec(200);
            let frames = frames(case, &input);
            together_and_one_by_one(case, &frames);
            let mut fast = Fast::new(case);
            for group in frames.chunk_by(|a, b| a.port == b.port) {
                fast.handle(case, group);
                full += u64::from(group.len() >= BURST);
            }
            all += frames.len() as u64;
            fast_frames += fast.pop.counters.fast_frames.get();
        }
        println!("{fast_frames} of {all} frames went the fast way; {full} bursts were full");
        assert!(fast_frames > all / 2, "{fast_frames} of {all}");
        assert!(full > 20, "{full}");
    }
}
