//! What a run leaves behind: counts, a digest of all frames, and on demand the frames themselves.

use std::fmt;
use std::io::Write;

use anyrelay_kit::pcap;

use crate::moved::MovedCounts;
use crate::told::{HintCounts, Refused};

/// What happened in a run, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were begun.
    pub connections: u64,
    /// Those from an address and port that had an earlier one to the same service.
    pub reused: u64,
    /// SYNs of theirs that came to a target whose old connection was not over.
    pub challenged: u64,
    /// Those whose egress was another's too (`docs/limits.md`): their end is not judged.
    pub collided: u64,
    /// Frames that POPs took in or sent.
    pub frames: u64,
    /// Calls in which a POP was handed several frames.
    pub bursts: u64,
    /// Frames of these.
    pub in_bursts: u64,
    /// Datagrams that came to POPs.
    pub handled: u64,
    /// Those that went the fast way at the POPs that do not explain.
    pub fast: u64,
    /// Those that POPs sent to targets in tunnels.
    pub carried: u64,
    /// Datagrams of agents.
    pub datagrams: u64,
    /// Connections over open addresses, those over one of the second epoch, and over one that its
    /// agent lost.
    pub talks: [u64; 3],
    /// Keepalive requests of agents that somebody else sent once more.
    pub stolen: u64,
    /// Damaged segments that came as far as a host, and were found out there.
    pub damage_seen: u64,
    /// Segments of clients that middleboxes made bare.
    pub made_bare: u64,
    /// Keepalive probes.
    pub probes: u64,
    /// ICMP errors of routers that came to the right host.
    pub errors_seen: u64,
    /// Segments with IPv6 extension headers that were passed on.
    pub extended: u64,
    /// Datagrams that had to be dropped, and were, for the right reason: extension headers beyond
    /// the bound, quotes too short to map.
    pub refused: u64,
    /// SYNs that were dropped for a rate limit.
    pub limited: u64,
    /// Refusals of targets, and how many of them clients were told of.
    pub refusals: Refused,
    /// Hints between POPs.
    pub hints: HintCounts,
    /// Connections that changes of targets have moved.
    pub moved: MovedCounts,
    /// How long runs took of their own time.
    pub simulated_us: u64,
}

impl Counts {
    /// A POP was handed so many frames at once.
    pub(crate) fn burst(&mut self, frames: u64) {
        self.handled += frames;
        if frames > 1 {
            self.bursts += 1;
            self.in_bursts += frames;
        }
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Counts) {
        self.connections += other.connections;
        self.reused += other.reused;
        self.challenged += other.challenged;
        self.collided += other.collided;
        self.frames += other.frames;
        self.bursts += other.bursts;
        self.in_bursts += other.in_bursts;
        self.handled += other.handled;
        self.fast += other.fast;
        self.carried += other.carried;
        self.datagrams += other.datagrams;
        self.talks = [0, 1, 2].map(|at| self.talks[at] + other.talks[at]);
        self.stolen += other.stolen;
        self.damage_seen += other.damage_seen;
        self.made_bare += other.made_bare;
        self.probes += other.probes;
        self.errors_seen += other.errors_seen;
        self.extended += other.extended;
        self.refused += other.refused;
        self.limited += other.limited;
        self.refusals.add(&other.refusals);
        self.hints.add(&other.hints);
        self.moved.add(&other.moved);
        self.simulated_us += other.simulated_us;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames, {} of them in {} bursts; {} of {} that came to POPs went the fast way; \
             {} datagrams to targets in tunnels; {} datagrams of agents, {} of their keepalives \
             sent by others; {} connections over open addresses, {} of the second \
             epoch and {} of one that was lost; {} damaged segments found out by hosts; {} \
             segments made bare, {} keepalive probes; {} ICMP errors passed on; {} segments \
             passed with extension headers, {} headers and quotes refused; {} SYNs limited; {} \
             connections from a port used before, {} of their SYNs challenged, {} with another's \
             egress; told of refusals: {}; {}; moved by changes of targets: {}; {} hours simulated",
            self.frames,
            self.in_bursts,
            self.bursts,
            self.fast,
            self.handled,
            self.carried,
            self.datagrams,
            self.stolen,
            self.talks[0],
            self.talks[1],
            self.talks[2],
            self.damage_seen,
            self.made_bare,
            self.probes,
            self.errors_seen,
            self.extended,
            self.refused,
            self.limited,
            self.reused,
            self.challenged,
            self.collided,
            self.refusals,
            self.hints,
            self.moved,
            self.simulated_us / 3_600_000_000,
        )
    }
}

/// A digest of frames, and their record.
#[derive(Clone, Debug)]
pub struct Record {
    digest: u64,
    frames: u64,
    kept: Option<Vec<(u64, Vec<u8>)>>,
}

impl Record {
    /// Of nothing yet; frames are kept if they are to be written.
    pub fn new(keep: bool) -> Self {
        Record { digest: 0xcbf2_9ce4_8422_2325, frames: 0, kept: keep.then(Vec::new) }
    }

    /// A frame that a POP took in or sent, at that time.
    pub fn frame(&mut self, at_us: u64, pop: usize, bytes: &[u8]) {
        self.frames += 1;
        self.mix(at_us);
        self.mix((pop as u64) << 32 | bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.mix(u64::from_le_bytes(eight));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.mix(u64::from_le_bytes(last));
        if let Some(kept) = &mut self.kept {
            kept.push((at_us, bytes.to_vec()));
        }
    }

    fn mix(&mut self, word: u64) {
        self.digest = (self.digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.digest ^= self.digest >> 32;
    }

    /// Of all frames, their times and their POPs.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many there were.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Writes the frames that were kept as a capture (pcap, microseconds). Their MAC addresses say
    /// which POP and port each belongs to.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write_pcap(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let kept = self.kept.iter().flatten();
        Ok(pcap::write(out, kept.map(|(at_us, bytes)| (*at_us, bytes)))?)
    }
}
