use super::*;
use crate::keys::Secret;
use crate::net::Endpoint;

const NOW: Instant = Instant::from_millis(1000);
const TARGET: IpEndpoint = IpEndpoint::V4(Endpoint { ip: 0xc633_640a, port: 8443 });
const OTHER: IpEndpoint = IpEndpoint::V4(Endpoint { ip: 0xc633_640b, port: 8443 });
const CLIENT: u32 = 0x1234_5678;
const TAG: u32 = 77;

fn memo(syns: usize, targets: usize) -> EndpointMemo {
    EndpointMemo::new(MemoKey::new(&Secret::new([5; 32])).unwrap(), syns, targets)
}

fn place(port: u16) -> Place {
    Place { service: 3, egress: Endpoint { ip: 0x0a00_0001_u32, port }.into() }
}

fn segment(ack: Option<u32>, end: u32) -> Segment {
    Segment { ack: ack.map(SeqNum), end: SeqNum(end), tag: TAG }
}

fn bare(seq: u32) -> Rst {
    Rst::Bare { seq: SeqNum(seq) }
}

fn acknowledging(ack: u32) -> Rst {
    Rst::Acknowledging { seq: SeqNum(0), ack: SeqNum(ack) }
}

fn owned(tag: u32, end: u32) -> Owned {
    Owned { tag, end: SeqNum(end), ack: SeqNum(1) }
}

fn known(memo: &EndpointMemo, now: Instant, ack: u32) -> Option<Known> {
    memo.known(now, place(5000), TARGET, &segment(Some(ack), 1))
}

#[test]
fn a_refusal_is_for_the_client_of_the_last_syn_once() {
    let memo = memo(16, 16);
    let syn = |tag, end| Syn { tag, end: SeqNum(end) };
    memo.remember_syn(NOW, place(5000), syn(CLIENT, 8));
    for (other, rst) in [
        (place(5001), acknowledging(8)),
        (place(5000), acknowledging(9)),
        (place(5000), bare(8)),
        (Place { service: 4, ..place(5000) }, acknowledging(8)),
    ] {
        assert_eq!(memo.refused(NOW, other, rst, |_| true), None, "{other:?} {rst:?}");
    }
    // That of another target uses nothing up.
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(8), |_| false), None);
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(8), |_| true), Some(CLIENT));
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(8), |_| true), None);
    // Another SYN of the endpoint, of another client too, takes the place of the first.
    let other = 7;
    memo.remember_syn(NOW, place(5000), syn(CLIENT, 8));
    memo.remember_syn(NOW, place(5000), syn(other, 80));
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(8), |_| true), None);
    let late = NOW.plus_millis(LIFETIME_MS + 1);
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(80), |_| true), Some(other));
    memo.remember_syn(NOW, place(5000), syn(CLIENT, 8));
    assert_eq!(memo.refused(late, place(5000), acknowledging(8), |_| true), None);
    assert_eq!(memo.len(), (0, 0));
}

#[test]
fn an_older_syn_is_nowhere_left() {
    // All places share the four slots. A place gets the last one, and others are free later.
    for port in 5000..5020 {
        let memo = memo(4, 4);
        let syn = |end| Syn { tag: CLIENT, end: SeqNum(end) };
        let others = [1, 2, 3].map(place);
        others.iter().for_each(|other| memo.remember_syn(NOW, *other, syn(8)));
        memo.remember_syn(NOW, place(port), syn(8));
        for other in others {
            assert_eq!(memo.refused(NOW, other, acknowledging(8), |_| true), Some(CLIENT));
        }
        memo.remember_syn(NOW, place(port), syn(80));
        assert_eq!(memo.len(), (1, 0), "{port}");
        assert_eq!(memo.refused(NOW, place(port), acknowledging(8), |_| true), None, "{port}");
    }
}

#[test]
fn a_refused_syn_is_known_by_what_it_answers() {
    let memo = memo(16, 16);
    let rst = acknowledging(8);
    assert!(memo.remember_rst(NOW, place(5000), TARGET, rst));
    let refused = |place, target, segment| memo.refused_syn(NOW, place, target, &segment);
    assert_eq!(refused(place(5001), TARGET, segment(None, 8)), None);
    assert_eq!(refused(place(5000), OTHER, segment(None, 8)), None);
    assert_eq!(refused(place(5000), TARGET, segment(None, 9)), None);
    // The ACK of a handshake ends where its SYN did.
    assert_eq!(refused(place(5000), TARGET, segment(Some(77), 8)), None);
    assert_eq!(refused(place(5000), TARGET, segment(None, 8)), Some(rst));
    memo.forget(NOW, place(5000), TARGET);
    assert!(memo.knows_nothing());
}

#[test]
fn a_refusal_follows_the_numbers_of_segments_near_it() {
    let memo = memo(16, 16);
    let step = (1 << 24) - 1;
    memo.remember_rst(NOW, place(5000), TARGET, bare(77));
    for n in 0..5 {
        let near = SeqNum(77 + n * step);
        let refused = Known::Refused { rst: SeqNum(77), near, is_exact: true };
        assert_eq!(known(&memo, NOW, 77 + (n + 1) * step), Some(refused));
    }
    // What is far does not lead it away, nor does what has no number.
    let near = SeqNum(77 + 5 * step);
    let refused = Some(Known::Refused { rst: SeqNum(77), near, is_exact: true });
    assert_eq!(known(&memo, NOW, 77), refused);
    assert_eq!(memo.known(NOW, place(5000), TARGET, &segment(None, 1)), refused);
    assert_eq!(known(&memo, NOW, 77), refused);
    assert_eq!(memo.known(NOW, place(5000), OTHER, &segment(Some(77), 1)), None);
    // Use does not make it last.
    assert_eq!(known(&memo, NOW.plus_millis(LIFETIME_MS + 1), 77), None);
}

#[test]
fn the_last_that_is_seen_of_a_target_counts() {
    let memo = memo(16, 16);
    let (about, owned) = ((TAG, SeqNum(500)), owned(TAG, 500));
    memo.remember_rst(NOW, place(5000), TARGET, bare(77));
    memo.remember_owner(NOW, place(5000), TARGET, owned);
    assert!(matches!(known(&memo, NOW, 77), Some(Known::Owner { tag: TAG, end: SeqNum(500), .. })));
    memo.remember_unreachable(NOW, place(5000), TARGET, SeqNum(78));
    assert!(matches!(known(&memo, NOW, 1 << 30), Some(Known::Refused { is_exact: false, .. })));
    memo.remember_asked(NOW, place(5000), TARGET, about);
    let is_asked = |target| {
        matches!(memo.state(NOW, place(5000), target), Some(Known::Asked { tag: TAG, .. }))
    };
    assert!(is_asked(TARGET) && !is_asked(OTHER));
    memo.remember_owner(NOW, place(5000), TARGET, owned);
    assert!(!is_asked(TARGET));
    assert_eq!(memo.len(), (0, 1));
}

#[test]
fn an_owner_is_where_its_segments_are_and_follows_them() {
    let memo = memo(16, 16);
    memo.remember_owner(NOW, place(5000), TARGET, Owned { ack: SeqNum(7), ..owned(TAG, 500) });
    let is_owner = |ack, end, tag| {
        let segment = Segment { tag, ..segment(Some(ack), end) };
        match memo.known(NOW, place(5000), TARGET, &segment) {
            Some(Known::Owner { at, .. }) => segment.progress().is_some_and(|to| at.is_near(to)),
            _ => false,
        }
    };
    let (far, step) = (1 << 26, 1 << 24);
    assert!(is_owner(500, 7, TAG));
    assert!(!is_owner(500 + far, 7, TAG));
    assert!(!is_owner(500, 7 + far, TAG));
    // Another client's segments do not lead it away.
    is_owner(500 + step, 7, TAG + 1);
    is_owner(500 + 2 * step, 7, TAG + 1);
    assert!(!is_owner(500 + 2 * step, 7, TAG));
    (1..8).for_each(|n| assert!(is_owner(500 + n * step, 7u32.wrapping_sub(n * step), TAG)));
    assert!(!is_owner(500, 7, TAG));
    // What it has sent is what it was.
    assert_eq!(memo.told(NOW, place(5000), TARGET, bare(500)), Some(TAG));
}

#[test]
fn what_cannot_be_reached_is_asked_again_soon() {
    let memo = memo(16, 16);
    memo.remember_unreachable(NOW, place(5000), TARGET, SeqNum(77));
    let is_known = |ms| known(&memo, NOW.plus_millis(ms), 77).is_some();
    assert!(is_known(UNREACHABLE_MS));
    assert!(!is_known(UNREACHABLE_MS + 1));
}

#[test]
fn the_last_syn_is_known_by_its_client() {
    let memo = memo(16, 16);
    let other = CLIENT + 1;
    memo.remember_syn(NOW, place(5000), Syn { tag: CLIENT, end: SeqNum(1) });
    assert_eq!(memo.last_syn(NOW, place(5000), CLIENT), Some(SeqNum(1)));
    assert_eq!(memo.last_syn(NOW, place(5000), other), None);
    assert_eq!(memo.last_syn(NOW, place(5001), CLIENT), None);
    let late = NOW.plus_millis(LIFETIME_MS + 1);
    assert_eq!(memo.last_syn(late, place(5000), CLIENT), None);
}

#[test]
fn a_rst_is_told_to_the_owner_and_to_who_was_asked_about() {
    let memo = memo(16, 16);
    let (at, about) = (place(5000), (TAG, SeqNum(500)));
    type Remember = fn(&EndpointMemo, Place, (u32, SeqNum));
    let owner: Remember = |memo, at, about| {
        memo.remember_owner(NOW, at, TARGET, owned(about.0, about.1.0));
    };
    let asked: Remember = |memo, at, about| memo.remember_asked(NOW, at, TARGET, about);
    for remember in [owner, asked] {
        remember(&memo, at, about);
        for (place, target, rst) in [
            (at, TARGET, bare(501)),
            (at, TARGET, acknowledging(500)),
            (at, OTHER, bare(500)),
            (place(5001), TARGET, bare(500)),
        ] {
            assert_eq!(memo.told(NOW, place, target, rst), None);
        }
        assert_eq!(memo.told(NOW, at, TARGET, bare(500)), Some(TAG));
        assert_eq!(memo.told(NOW, at, TARGET, bare(500)), None);
        // With ACK, too.
        remember(&memo, at, about);
        let aborted = Rst::Acknowledging { seq: SeqNum(500), ack: SeqNum(9) };
        assert_eq!(memo.told(NOW, at, TARGET, aborted), Some(TAG));
        remember(&memo, at, about);
        let late = NOW.plus_millis(LIFETIME_MS + 1);
        assert_eq!(memo.told(late, at, TARGET, bare(500)), None);
    }
}

#[test]
fn whatever_is_remembered_of_a_target_may_be_known_at_its_place_alone() {
    type Remember = fn(&EndpointMemo);
    let all: [Remember; 5] = [
        |memo| _ = memo.remember_rst(NOW, place(5000), TARGET, bare(8)),
        |memo| _ = memo.remember_rst(NOW, place(5000), TARGET, acknowledging(8)),
        |memo| memo.remember_unreachable(NOW, place(5000), TARGET, SeqNum(8)),
        |memo| _ = memo.remember_owner(NOW, place(5000), TARGET, owned(TAG, 8)),
        |memo| memo.remember_asked(NOW, place(5000), TARGET, (TAG, SeqNum(8))),
    ];
    for remember in all {
        let memo = memo(16, 4096);
        assert!(!memo.may_know(NOW, place(5000).egress));
        remember(&memo);
        assert!(memo.may_know(NOW.plus_millis(LIFETIME_MS), place(5000).egress));
        assert!(!memo.may_know(NOW, place(5001).egress));
        memo.expire(NOW.plus_millis(LIFETIME_MS + 1));
        assert!(!memo.may_know(NOW, place(5000).egress));
    }
}

#[test]
fn the_same_rst_is_news_again_after_a_while() {
    let memo = memo(16, 16);
    let after = |ms, rst| memo.remember_rst(NOW.plus_millis(ms), place(5000), TARGET, rst);
    assert!(after(0, acknowledging(8)));
    assert!(!after(0, acknowledging(8)));
    assert!(after(1, acknowledging(9)));
    assert!(!after(REPEAT_MS, acknowledging(9)));
    assert!(after(2 * REPEAT_MS, acknowledging(9)));
    assert!(after(2 * REPEAT_MS, bare(9)));
}

#[test]
fn an_owner_is_news_again_after_a_while_and_another_at_once() {
    let memo = memo(16, 16);
    let after = |ms, tag, end| {
        let now = NOW.plus_millis(ms);
        memo.remember_owner(now, place(5000), TARGET, owned(tag, end))
    };
    assert!(after(0, TAG, 1));
    assert!(!after(0, TAG, 1));
    assert!(!after(1000, TAG, 2));
    assert!(!after(OWNER_REPEAT_MS - 1, TAG, 3));
    assert!(after(OWNER_REPEAT_MS, TAG, 4));
    assert!(!after(OWNER_REPEAT_MS + 2000, TAG, 5));
    assert!(after(OWNER_REPEAT_MS + 2001, TAG + 1, 6));
}

#[test]
fn old_ones_are_forgotten() {
    let memo = memo(16, 16);
    memo.remember_rst(NOW, place(1), TARGET, bare(1));
    memo.remember_rst(NOW, place(2), TARGET, bare(2));
    memo.remember_syn(NOW, place(2), Syn { tag: CLIENT, end: SeqNum(1) });
    assert_eq!(memo.len(), (1, 2));
    memo.expire(NOW.plus_millis(LIFETIME_MS + 1));
    assert_eq!(memo.len(), (0, 0));
}

#[test]
fn it_is_bounded_and_the_newest_stay() {
    let memo = memo(8, 8);
    for port in 0..1000u16 {
        let now = NOW.plus_millis(port.into());
        memo.remember_rst(now, place(port), TARGET, bare(port.into()));
        memo.remember_syn(now, place(port), Syn { tag: CLIENT, end: SeqNum(port.into()) });
    }
    let known =
        |port: u16| memo.known(NOW, place(port), TARGET, &segment(Some(port.into()), 0)).is_some();
    assert!((0..1000).filter(|port| known(*port)).count() <= 8);
    assert!(known(999));
    assert!(memo.len().0 <= 8);
    assert_eq!(memo.refused(NOW, place(999), acknowledging(999), |_| true), Some(CLIENT));
}

#[test]
fn a_large_table_is_swept_in_parts() {
    let parts = 3;
    let memo = memo(parts * slots::SWEEP as usize, 4);
    for number in 0..6000u16 {
        memo.remember_syn(NOW, place(number), Syn { tag: CLIENT, end: SeqNum(1) });
    }
    let later = NOW.plus_millis(LIFETIME_MS + 1);
    let mut before = memo.len().0;
    for _ in 0..parts {
        memo.expire(later);
        let after = memo.len().0;
        assert!(after < before, "{before} before, {after} after");
        before = after;
    }
    assert_eq!(before, 0);
}
