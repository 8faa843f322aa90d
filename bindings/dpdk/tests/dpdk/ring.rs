//! Ports of the driver net_ring, whose TX ring is its RX ring: frames pass through a forwarding
//! loop between two of them.
use crate::common::{burst_of, contents, open, pool};
use dpdk::{Burst, Eal, Mempool, Port, RxQueue, TxQueue};

struct RingPort {
    port: Port,
    rx: RxQueue,
    tx: TxQueue,
}

fn ring(eal: &Eal, device: &str, pool: &Mempool) -> RingPort {
    let (port, rx, tx) = open(eal, device, pool);
    RingPort { port, rx, tx }
}

#[test]
fn ring_ports() {
    let eal = crate::common::eal();
    let pool = pool(&eal, "ring", 4095);
    let mut left = ring(&eal, "net_ring0", &pool);
    let mut right = ring(&eal, "net_ring1", &pool);
    forwards_in_order_with_contents(&pool, &mut left, &mut right);
    counts_what_it_carries(&left.port);
    full_ring_hands_the_rest_back(&pool, &mut left);
    drop((left, right));
    assert_eq!(pool.in_use(), 0, "frames were lost");
}

fn forwards_in_order_with_contents(pool: &Mempool, left: &mut RingPort, right: &mut RingPort) {
    let mut burst = Burst::new();
    let mut next = 0;
    for round in 0..500 {
        let first = round * 20;
        let mut sent = burst_of(pool, first, first + 20);
        assert_eq!(left.tx.send(&mut sent), 20);
        assert!(sent.is_empty());

        assert_eq!(left.rx.receive(&mut burst), 20);
        assert_eq!(right.tx.send(&mut burst), 20);
        assert_eq!(right.rx.receive(&mut burst), 20);
        for mbuf in burst.drain() {
            assert!(mbuf.is_contiguous());
            assert_eq!(mbuf.data(), contents(next), "frame {next}");
            next += 1;
        }
    }
    assert_eq!(next, 10_000);
    assert_eq!(left.rx.receive(&mut burst), 0);
    assert_eq!(pool.in_use(), 0);
}

fn counts_what_it_carries(port: &Port) {
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_frames, stats.tx_frames), (10_000, 10_000));
    let xstats = port.xstats().unwrap();
    let good = xstats.iter().find(|(name, _)| name == "rx_good_packets").unwrap();
    assert_eq!(good.1, 10_000);
    port.reset_stats().unwrap();
    assert_eq!(port.stats().unwrap().rx_frames, 0);
}

fn full_ring_hands_the_rest_back(pool: &Mempool, ring: &mut RingPort) {
    let mut accepted = 0;
    let rest = loop {
        let mut burst = burst_of(pool, accepted, accepted + 64);
        accepted += ring.tx.send(&mut burst) as u32;
        if !burst.is_empty() {
            break burst;
        }
        assert!(accepted < 4000, "the ring never filled up");
    };
    let first_back = accepted;
    for (offset, mbuf) in rest.as_slice().iter().enumerate() {
        assert_eq!(mbuf.data(), contents(first_back + offset as u32));
    }
    assert_eq!(pool.in_use(), accepted + rest.len() as u32);
    drop(rest);
    assert_eq!(pool.in_use(), accepted);

    // Half of the frames are received again; closing the port frees the others.
    let mut burst = Burst::new();
    let mut next = 0;
    while next < accepted / 2 {
        assert!(ring.rx.receive_up_to(&mut burst, 8) > 0);
        for mbuf in burst.drain() {
            assert_eq!(mbuf.data(), contents(next));
            next += 1;
        }
    }
    assert_eq!(pool.in_use(), accepted - next);
}
