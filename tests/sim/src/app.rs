//! Connections: what each is to do, and how far it got.
//!
//! The client sends the connection's number first, so that the target knows which it is; all bytes
//! depend on the number, the direction and the place, so that none can be taken for another.

use std::net::SocketAddr;

use crate::middlebox::Habits;
use crate::traits::Traits;

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closes when it has sent all, the target when it has read all.
    ClientCloses,
    /// The target closes when it has sent all, the client when it has read all.
    TargetCloses,
    /// The client resets when it has sent so many bytes.
    ClientResets(u32),
    /// The target resets when it has sent so many.
    TargetResets(u32),
    /// The target forgets the connection when it has sent so many.
    TargetVanishes(u32),
    /// Nobody listens.
    Refused,
    /// The target has no timestamps: it is told, the client is not (`docs/limits.md`).
    NeverMade,
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub client: SocketAddr,
    /// The service, by its place.
    pub service: usize,
    pub start_us: u64,
    /// The connection before this one from the same address and port to the same service: this one
    /// begins `start_us` after the client's stack is done with that.
    pub after: Option<usize>,
    /// Bytes to the target, the connection's number among them, and to the client.
    pub up: u32,
    pub down: u32,
    /// They take turns so often: the client sends a part, the target answers with one.
    ///
    /// Never both at once: two smoltcp 0.14 that both have lost an ack go on for ever sending each
    /// other what the other one has, with acks that it does not take because of their numbers.
    pub rounds: u32,
    /// Behind the first of them the client rests so long.
    pub rest_us: u64,
    pub ending: Ending,
    /// Nothing may listen yet when it begins.
    pub may_be_refused: bool,
    /// What the client is like, and what is in front of it.
    pub traits: Traits,
    pub habits: Habits,
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub started: bool,
    pub up_sent: u32,
    pub up_received: u32,
    pub down_sent: u32,
    pub down_received: u32,
    /// The target accepted it.
    pub accepted: bool,
    /// The client's stack had its handshake.
    pub connected: bool,
    /// Each side saw the other's end of data.
    pub client_saw_end: bool,
    pub target_saw_end: bool,
    /// The side's stack has nothing left to do; in the case of the client, whether by a reset.
    pub client_gone: Option<Gone>,
    pub target_gone: Option<Gone>,
    /// Somebody else has the same egress and target: the limit that `docs/limits.md` states.
    pub collided: bool,
    /// A change of targets may break it, as POPs know of it too late or a target is given up.
    pub excused: bool,
    /// When the memory of the changes of its targets may have ended.
    pub forgotten_us: Option<u64>,
    /// The target that has it.
    pub target: Option<SocketAddr>,
    /// New connections of its client go to another target by now.
    pub moved: bool,
    pub finished_us: Option<u64>,
}

/// How a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    Closed,
    Reset,
    /// It was told to by its own application.
    Aborted,
}

/// Bytes that name the connection.
pub const NUMBER_LEN: u32 = 8;
const MAGIC: u32 = 0x7265_6c61;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

/// The byte at `at` of what connection `number` sends one way.
pub fn byte(number: usize, way: Way, at: u32) -> u8 {
    if way == Way::Up && at < NUMBER_LEN {
        let both = u64::from(MAGIC) << 32 | number as u64;
        return both.to_be_bytes()[at as usize];
    }
    let seed = (number as u64) << 33 | u64::from(way == Way::Up) << 32 | u64::from(at >> 3);
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> (8 * (at & 7))) as u8
}

/// Writes what connection `number` sends from `at` on.
pub fn fill(number: usize, way: Way, at: u32, into: &mut [u8]) {
    for (offset, place) in (at..).zip(into) {
        *place = byte(number, way, offset);
    }
}

/// Whether `bytes` are what connection `number` sends from `at` on.
pub fn is_right(number: usize, way: Way, at: u32, bytes: &[u8]) -> bool {
    (at..).zip(bytes).all(|(offset, found)| *found == byte(number, way, offset))
}

/// The connection that begins with these bytes.
pub fn number_of(first: [u8; NUMBER_LEN as usize]) -> Option<usize> {
    let both = u64::from_be_bytes(first);
    (both >> 32 == u64::from(MAGIC)).then_some((both & 0xffff_ffff) as usize)
}

impl Plan {
    /// What is wrong with how the connection ended; `None` when it went as planned, or is not over.
    pub fn judge(&self, progress: &Progress) -> Option<&'static str> {
        let whole = progress.up_received == self.up && progress.down_received == self.down;
        let ended = progress.client_saw_end && progress.target_saw_end;
        match self.ending {
            _ if progress.collided || progress.excused || self.was_refused(progress) => None,
            Ending::ClientCloses | Ending::TargetCloses => {
                if whole && ended {
                    return None;
                }
                match (progress.client_gone, progress.target_gone) {
                    (Some(Gone::Reset), _) => Some("the client was reset"),
                    (_, Some(Gone::Reset)) => Some("the target was reset"),
                    (Some(Gone::Closed), _) => Some("the client is done before all is delivered"),
                    (_, Some(Gone::Closed)) => Some("the target is done before all is delivered"),
                    _ => None,
                }
            }
            Ending::ClientResets(_) if progress.client_gone == Some(Gone::Reset) => {
                Some("the client was reset before it reset")
            }
            Ending::TargetResets(_) | Ending::TargetVanishes(_)
                if progress.target_gone == Some(Gone::Reset) =>
            {
                Some("the target was reset before it went")
            }
            Ending::TargetResets(_) | Ending::TargetVanishes(_)
                if progress.client_gone == Some(Gone::Reset) && progress.target_gone.is_none() =>
            {
                Some("the client was reset before the target went")
            }
            Ending::Refused | Ending::NeverMade if progress.connected || progress.accepted => {
                Some("a connection was made that cannot be")
            }
            _ => None,
        }
    }

    /// How many bytes one side may have sent when it has received so many.
    pub fn turn(&self, is_client: bool, received: u32) -> u32 {
        let part = |of: u32, round: u32| {
            (u64::from(of) * u64::from(round) / u64::from(self.rounds)) as u32
        };
        // The connection's number is a part of the first.
        let up = |round| match round {
            0 => 0,
            _ => NUMBER_LEN + part(self.up - NUMBER_LEN, round),
        };
        let last_done = |of: &dyn Fn(u32) -> u32| {
            (0..=self.rounds).rev().find(|round| received >= of(*round)).unwrap_or(0)
        };
        let down = |round| part(self.down, round);
        match is_client {
            true => up((last_done(&down) + 1).min(self.rounds)),
            false => down(last_done(&up)),
        }
    }

    /// Whether the first round is over, as the client sees it.
    pub fn begins_rest(&self, sent: u32, received: u32) -> bool {
        let first = self.turn(true, 0);
        self.rest_us > 0 && sent >= first && received >= self.turn(false, first)
    }

    /// Whether the client's stack comes to its end for sure, so that another connection from its
    /// port can be waited for.
    pub fn ends(&self) -> bool {
        matches!(self.ending, Ending::ClientCloses | Ending::TargetCloses | Ending::ClientResets(_))
    }

    /// Whether the client was told that nothing listens, when that was so.
    fn was_refused(&self, progress: &Progress) -> bool {
        let reset = progress.client_gone == Some(Gone::Reset);
        self.may_be_refused && reset && !progress.connected
    }

    /// Whether nothing more is to be waited for. A lost RST is not repeated: that the other side
    /// hears of it is not promised.
    pub fn is_over(&self, progress: &Progress) -> bool {
        match self.ending {
            _ if self.was_refused(progress) => true,
            Ending::ClientCloses | Ending::TargetCloses => {
                progress.client_saw_end && progress.target_saw_end
            }
            Ending::ClientResets(_) => progress.client_gone.is_some(),
            Ending::TargetResets(_) => progress.target_gone.is_some(),
            // A client that probes its peer hears of it.
            Ending::TargetVanishes(_) => {
                let told = progress.client_gone.is_some() || self.traits.keepalive_us.is_none();
                progress.target_gone.is_some() && told
            }
            Ending::Refused => progress.client_gone.is_some(),
            Ending::NeverMade => progress.started,
        }
    }
}
