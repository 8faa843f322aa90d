//! The rules that a POP may lack.

/// A condition for a refusal to be believed, for a client to be told, and for a segment to go to no
/// more targets than need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A RST with ACK goes to a client at once only if it acknowledges the end of the SYN.
    SynEnd,
    /// And only if it comes from a target that the client's segments may go to.
    SynTarget,
    /// The SYN is forgotten then.
    SynOnce,
    /// Only the last SYN of an egress endpoint is remembered.
    SynLast,
    /// For 120 s.
    SynLifetime,
    /// A RST with ACK answers a segment whose end it acknowledges.
    RstEnd,
    /// And whose acknowledgment number it has, if the segment has one.
    RstAck,
    /// A RST without ACK has the acknowledgment number of the segment that it answers.
    RstSeq,
    /// A RST answers segments to the target that sent it.
    RstTarget,
    /// Once.
    RstOnce,
    /// For 120 s.
    RstLifetime,
    /// A SYN that no RST answers makes a POP forget what is known of its client's targets.
    SynClears,
    /// A RST of a client's is not answered.
    ClientRst,
    /// A damaged RST is not believed.
    DamagedRst,
    /// A damaged segment is not answered.
    DamagedSegment,
    /// A refusal is one of segments with acknowledgment numbers near its own.
    Near,
    /// A client is told only if every candidate has refused its segment.
    Every,
    /// And after one more target was asked.
    NextAsked,
    /// An owner has the client's tag.
    OwnerTag,
    /// It is at the stage of the client's segment, in both directions.
    OwnerStage,
    /// Its segment acknowledges the client's last SYN.
    OwnerSyn,
    /// Segments go to the targets of all epochs that count.
    Candidates,
    /// A hint has a MAC under the key of all POPs.
    HintMac,
    /// It is not older than 5 s.
    HintTime,
    /// It is taken.
    HintTaken,
    /// It is not hinted again.
    HintOnce,
}
