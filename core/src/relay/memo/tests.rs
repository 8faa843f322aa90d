use super::*;

const NOW: Instant = Instant::from_millis(1000);
const TARGET: Endpoint = Endpoint { ip: 0xc633_640a, port: 8443 };
const CLIENT: Endpoint = Endpoint { ip: 0xc612_0509, port: 40_001 };

fn place(port: u16) -> Place {
    Place { service: 3, address: 0x0a00_0001, port }
}

fn segment(ack: Option<u32>, end: u32) -> Segment {
    Segment { ack: ack.map(SeqNum), end: SeqNum(end), target: TARGET }
}

fn bare(seq: u32) -> Rst {
    Rst::Bare { seq: SeqNum(seq) }
}

fn acknowledging(ack: u32) -> Rst {
    Rst::Acknowledging { seq: SeqNum(0), ack: SeqNum(ack) }
}

#[test]
fn a_refusal_is_for_the_client_of_the_last_syn_once() {
    let memo = EndpointMemo::new(16, 16);
    let syn = |client, end| Syn { client, end: SeqNum(end) };
    memo.remember_syn(NOW, place(5000), syn(CLIENT, 8));
    for (other, rst) in [
        (place(5001), acknowledging(8)),
        (place(5000), acknowledging(9)),
        (place(5000), bare(8)),
        (Place { service: 4, ..place(5000) }, acknowledging(8)),
    ] {
        assert_eq!(memo.refused(NOW, other, rst), None, "{other:?} {rst:?}");
    }
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(8)), Some(CLIENT));
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(8)), None);
    // Another SYN of the endpoint, of another client too, takes the place of the first.
    let other = Endpoint { port: 7, ..CLIENT };
    memo.remember_syn(NOW, place(5000), syn(CLIENT, 8));
    memo.remember_syn(NOW, place(5000), syn(other, 80));
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(8)), None);
    let late = NOW.plus_millis(LIFETIME_MS + 1);
    assert_eq!(memo.refused(NOW, place(5000), acknowledging(80)), Some(other));
    memo.remember_syn(NOW, place(5000), syn(CLIENT, 8));
    assert_eq!(memo.refused(late, place(5000), acknowledging(8)), None);
    assert_eq!(memo.len(), (0, 0));
}

#[test]
fn an_older_syn_is_nowhere_left() {
    // All places share the four slots. A place gets the last one, and others are free later.
    for port in 5000..5020 {
        let memo = EndpointMemo::new(4, 4);
        let syn = |end| Syn { client: CLIENT, end: SeqNum(end) };
        let others = [1, 2, 3].map(place);
        others.iter().for_each(|other| memo.remember_syn(NOW, *other, syn(8)));
        memo.remember_syn(NOW, place(port), syn(8));
        for other in others {
            assert_eq!(memo.refused(NOW, other, acknowledging(8)), Some(CLIENT));
        }
        memo.remember_syn(NOW, place(port), syn(80));
        assert_eq!(memo.len(), (1, 0), "{port}");
        assert_eq!(memo.refused(NOW, place(port), acknowledging(8)), None, "{port}");
    }
}

#[test]
fn a_closed_port_is_told_to_the_syn_that_hit_it() {
    let memo = EndpointMemo::new(16, 16);
    let rst = acknowledging(8);
    assert!(memo.remember_rst(NOW, place(5000), TARGET, rst));
    assert_eq!(memo.take_rst(NOW, place(5001), segment(None, 8)), None);
    assert_eq!(memo.take_rst(NOW, place(5000), segment(None, 9)), None);
    let elsewhere = Segment { target: CLIENT, ..segment(None, 8) };
    assert_eq!(memo.take_rst(NOW, place(5000), elsewhere), None);
    // The ACK of a handshake ends where its SYN did.
    assert_eq!(memo.take_rst(NOW, place(5000), segment(Some(77), 8)), None);
    assert_eq!(memo.take_rst(NOW, place(5000), segment(None, 8)), Some(rst));
    assert!(memo.has_no_rsts());
    assert_eq!(memo.take_rst(NOW, place(5000), segment(None, 8)), None);
}

#[test]
fn a_vanished_socket_is_told_to_the_segment_that_hit_it() {
    let memo = EndpointMemo::new(16, 16);
    memo.remember_rst(NOW, place(5000), TARGET, bare(77));
    assert_eq!(memo.take_rst(NOW, place(5000), segment(None, 77)), None);
    assert_eq!(memo.take_rst(NOW, place(5000), segment(Some(78), 77)), None);
    assert_eq!(memo.take_rst(NOW, place(5000), segment(Some(77), 1)), Some(bare(77)));
    // A new connection from the same endpoint is not told of what was before it.
    memo.remember_rst(NOW, place(5000), TARGET, bare(77));
    memo.remember_rst(NOW, place(5000), TARGET, acknowledging(77));
    memo.forget_rsts(NOW, place(5000));
    assert_eq!(memo.take_rst(NOW, place(5000), segment(Some(77), 77)), None);
}

#[test]
fn the_same_rst_is_news_again_after_a_while() {
    let memo = EndpointMemo::new(16, 16);
    let after = |ms, rst| memo.remember_rst(NOW.plus_millis(ms), place(5000), TARGET, rst);
    assert!(after(0, acknowledging(8)));
    assert!(!after(0, acknowledging(8)));
    assert!(after(1, acknowledging(9)));
    assert!(!after(REPEAT_MS, acknowledging(9)));
    assert!(after(2 * REPEAT_MS, acknowledging(9)));
    assert!(after(2 * REPEAT_MS, bare(9)));
}

#[test]
fn old_ones_are_forgotten() {
    let memo = EndpointMemo::new(16, 16);
    memo.remember_rst(NOW, place(1), TARGET, bare(1));
    memo.remember_rst(NOW, place(2), TARGET, bare(2));
    memo.remember_syn(NOW, place(2), Syn { client: CLIENT, end: SeqNum(1) });
    assert_eq!(memo.len(), (1, 2));
    let later = NOW.plus_millis(LIFETIME_MS + 1);
    assert_eq!(memo.take_rst(later, place(1), segment(Some(1), 0)), None);
    memo.expire(later);
    assert_eq!(memo.len(), (0, 0));
}

#[test]
fn it_is_bounded_and_the_newest_stay() {
    let memo = EndpointMemo::new(8, 8);
    for port in 0..1000u16 {
        let now = NOW.plus_millis(port.into());
        memo.remember_rst(now, place(port), TARGET, bare(port.into()));
        memo.remember_syn(now, place(port), Syn { client: CLIENT, end: SeqNum(port.into()) });
    }
    let held = (0..1000u16).filter(|&port| {
        let segment = segment(Some(port.into()), 0);
        port != 999 && memo.take_rst(NOW, place(port), segment).is_some()
    });
    assert!(held.count() < 8);
    assert_eq!(memo.take_rst(NOW, place(999), segment(Some(999), 0)), Some(bare(999)));
    assert!(memo.has_no_rsts());
    assert!(memo.len().0 <= 8);
    assert_eq!(memo.refused(NOW, place(999), acknowledging(999)), Some(CLIENT));
}

#[test]
fn a_large_table_is_swept_in_parts() {
    let parts = 3;
    let memo = EndpointMemo::new(parts * slots::SWEEP as usize, 4);
    for number in 0..6000u16 {
        memo.remember_syn(NOW, place(number), Syn { client: CLIENT, end: SeqNum(1) });
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
