//! The kinds of segments, and the answer to a SYN.

use super::*;
use crate::tunnel::SegmentKind;
use crate::tunnel::handshake::{SynAck, syn_ack};
use crate::verdict::DropReason;
use crate::wire::tcp::{FIN, RST, SYN};

#[test]
fn segments_are_classified_by_flags_and_type() {
    let (service, agent) = (service(), acme("192.0.2.1:40000"));
    let keepalive = agent.keepalive(&service);
    let data = agent.data(&service, agent.token(&service), 0, b"body");
    let with = |sent: &TestSegment, flags| {
        SegmentKind::of(&sent.edit(|sent| sent.flags = flags).segment())
    };
    let empty = keepalive.edit(|sent| sent.payload.clear());

    assert_eq!(SegmentKind::of(&keepalive.segment()), Ok(SegmentKind::Keepalive));
    assert_eq!(SegmentKind::of(&data.segment()), Ok(SegmentKind::Data));
    for flags in [ACK, ACK | FIN, RST, RST | ACK, ACK | PSH] {
        assert_eq!(with(&empty, flags), Ok(SegmentKind::Empty));
    }
    for sent in [&empty, &data, &keepalive] {
        assert_eq!(with(sent, SYN), Ok(SegmentKind::Syn));
        assert_eq!(with(sent, SYN | ACK), Err(DropReason::SynAckFromClient));
    }
    for flags in [PSH, ACK | FIN, ACK | RST, RST] {
        assert_eq!(with(&data, flags), Err(DropReason::TunnelMalformed));
        assert_eq!(with(&keepalive, flags), Err(DropReason::TunnelMalformed));
    }
    let open = data.edit(|sent| sent.payload[0] = 0x50);
    assert_eq!(SegmentKind::of(&open.segment()), Ok(SegmentKind::Open));
    for kind in (0..16).filter(|kind| ![1, 3, 5].contains(kind)) {
        let other = data.edit(|sent| sent.payload[0] = kind << 4);
        assert_eq!(SegmentKind::of(&other.segment()), Err(DropReason::TunnelMalformed), "{kind}");
    }
}

#[test]
fn a_syn_is_answered_with_the_number_of_the_tick() {
    let service = service();
    for (address, mss) in [("192.0.2.1:40000", 1360), ("[2001:db8:1::7]:40000", 1340)] {
        let agent = acme(address);
        let syn = agent.segment(&service, Vec::new()).edit(|sent| {
            sent.flags = SYN;
            sent.seq = SeqNum(u32::MAX);
            sent.ack = SeqNum(0);
        });
        let expected = SynAck {
            seq: number(&service, agent.addr, 0),
            ack: SeqNum(0),
            mss,
            window_scale: false,
        };
        assert_eq!(syn_ack(&service, NOW, &syn.segment()), Ok(expected));
        // Data on a SYN is not acknowledged.
        let with_data = syn.edit(|sent| sent.payload = b"early".to_vec());
        assert_eq!(syn_ack(&service, NOW, &with_data.segment()), Ok(expected));
        // NOP, window scale, MSS.
        let scaled = syn.edit(|sent| sent.options = vec![1, 3, 3, 7, 2, 4, 5, 180]);
        let answer = syn_ack(&service, NOW, &scaled.segment()).unwrap();
        assert_eq!(answer, SynAck { window_scale: true, ..expected });
        // A 3 that is no kind; options after their end; a false length.
        for options in [vec![2, 4, 3, 3], vec![0, 3, 3, 7], vec![3, 1, 3, 3], vec![3]] {
            let unscaled = syn.edit(|sent| sent.options = options);
            assert_eq!(syn_ack(&service, NOW, &unscaled.segment()), Ok(expected));
        }
        // The same within the tick, then a stride further.
        let at = |ms| syn_ack(&service, UnixTime::from_millis(ms), &syn.segment()).unwrap().seq;
        assert_eq!(at(N * 8000), expected.seq);
        assert_eq!(at(N * 8000 + 7999), expected.seq);
        assert_eq!(at(N * 8000 + 8000), expected.seq.plus(4096));
    }
}

#[test]
fn a_service_without_the_vip_does_not_answer() {
    let full = service();
    let syn = acme("192.0.2.1:40000").segment(&full, Vec::new());
    let without = TunnelService { vip4: None, ..full };
    assert_eq!(syn_ack(&without, NOW, &syn.segment()), Err(DropReason::NotOurs));
}
