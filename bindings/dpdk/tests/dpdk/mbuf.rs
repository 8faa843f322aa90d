//! Mbufs and bursts: bounds of growing and trimming, and ownership.
use crate::common::{burst_of, contents};
use dpdk::{BURST_CAPACITY, Burst, ChecksumVerdict, HEADROOM, Mempool};

#[test]
fn mbufs_and_bursts() {
    let eal = crate::common::eal();
    let pool = crate::common::pool(&eal, "mbuf", 255);
    grows_to_its_limits(&pool);
    trims(&pool);
    reshapes(&pool);
    pool_runs_out_and_recovers(&pool);
    bulk_allocation_is_all_or_nothing(&pool);
    burst_keeps_order(&pool);
    burst_frees_what_it_holds(&pool);
    assert_eq!(pool.in_use(), 0);
    leaked_iterator_frees_nothing_twice(&crate::common::pool(&eal, "leaked", 63));

    // A frame may outlive every handle of its pool and of EAL.
    let mbuf = pool.alloc_from(b"late").unwrap();
    drop((pool, eal));
    assert_eq!(mbuf.data(), b"late");
}

fn grows_to_its_limits(pool: &Mempool) {
    let mut mbuf = pool.alloc().unwrap();
    let room = usize::from(pool.config().data_room);
    let headroom = usize::from(HEADROOM);
    assert!(mbuf.is_empty() && mbuf.is_contiguous());
    assert_eq!((mbuf.headroom(), mbuf.tailroom()), (headroom, room));
    assert_eq!(mbuf.l4_checksum(), ChecksumVerdict::Unknown);

    assert!(!mbuf.append(room + 1));
    assert!(!mbuf.append(usize::MAX));
    assert!(mbuf.append(room));
    assert!(!mbuf.append(1));
    mbuf.data_mut().fill(7);

    assert!(!mbuf.prepend(headroom + 1));
    assert!(!mbuf.prepend(usize::MAX));
    assert!(mbuf.prepend(headroom));
    assert!(!mbuf.prepend(1));
    mbuf.data_mut()[..headroom].fill(9);

    assert_eq!((mbuf.headroom(), mbuf.tailroom()), (0, 0));
    assert_eq!((mbuf.len(), mbuf.frame_len()), (room + headroom, room + headroom));
    assert!(mbuf.data()[..headroom].iter().all(|&byte| byte == 9));
    assert!(mbuf.data()[headroom..].iter().all(|&byte| byte == 7));
    assert!(pool.alloc_from(&vec![0; room]).is_some());
    assert!(pool.alloc_from(&vec![0; room + 1]).is_none());
}

fn reshapes(pool: &Mempool) {
    let fresh = || pool.alloc_from(b"0123456789").unwrap();
    // The start moves forward, stays, moves back; the end only back.
    for (to, from, len, want) in
        [(0, 3, 4, &b"3456"[..]), (0, 3, 99, b"3456789"), (5, 5, 6, b"012345"), (0, 10, 9, b"")]
    {
        let mut mbuf = fresh();
        assert_eq!(mbuf.reshape(to, from, len).unwrap(), want);
        assert_eq!((mbuf.len(), mbuf.frame_len()), (want.len(), want.len()));
    }
    let mut mbuf = fresh();
    assert_eq!(mbuf.reshape(6, 2, 9).unwrap()[4..], b"01234"[..]);
    let headroom = usize::from(HEADROOM);
    let mut mbuf = fresh();
    assert_eq!(mbuf.reshape(headroom, 0, 12 + headroom).unwrap()[headroom..], b"0123456789"[..]);
    // Without room, or from behind the end, nothing happens.
    for (to, from) in [(headroom + 1, 0), (usize::MAX, 0), (0, 11), (11, 11)] {
        let mut mbuf = fresh();
        assert!(mbuf.reshape(to, from, 1).is_none(), "{to} {from}");
        assert_eq!(mbuf.data(), b"0123456789");
    }
}

fn trims(pool: &Mempool) {
    let mut mbuf = pool.alloc_from(b"0123456789").unwrap();
    mbuf.trim_front(3);
    assert_eq!(mbuf.data(), b"3456789");
    mbuf.truncate(5);
    assert_eq!(mbuf.data(), b"34567");
    mbuf.truncate(6);
    assert_eq!((mbuf.len(), mbuf.frame_len()), (5, 5));
    assert!(mbuf.prepend(2));
    assert_eq!(mbuf.data(), b"1234567");
    mbuf.trim_front(100);
    assert!(mbuf.is_empty());
    assert_eq!((mbuf.frame_len(), mbuf.headroom()), (0, usize::from(HEADROOM) + 8));
}

fn pool_runs_out_and_recovers(pool: &Mempool) {
    let mut held: Vec<_> = (0..255).map(|_| pool.alloc().unwrap()).collect();
    assert!(pool.alloc().is_none());
    assert_eq!((pool.in_use(), pool.available()), (255, 0));
    held.truncate(100);
    assert_eq!(pool.in_use(), 100);
    assert!(pool.alloc().is_some());
    drop(held);
    assert_eq!(pool.available(), 255);
}

fn bulk_allocation_is_all_or_nothing(pool: &Mempool) {
    let mut burst = Burst::new();
    assert!(pool.alloc_bulk(&mut burst, 40));
    assert!(!pool.alloc_bulk(&mut burst, BURST_CAPACITY - 39), "more than the burst can hold");
    assert_eq!((burst.len(), pool.in_use()), (40, 40));
    assert!(pool.alloc_bulk(&mut burst, BURST_CAPACITY - 40));
    assert!(burst.is_full());
    assert!(burst.as_slice().iter().all(|mbuf| mbuf.is_empty()));

    let mut others = [const { Burst::new() }; 2];
    assert!(others.iter_mut().all(|other| pool.alloc_bulk(other, 64)));
    let mut last = Burst::new();
    assert!(!pool.alloc_bulk(&mut last, 64), "255 mbufs cannot fill four bursts");
    assert!(last.is_empty());
    assert_eq!(pool.in_use(), 192);
}

fn burst_keeps_order(pool: &Mempool) {
    let mut burst = burst_of(pool, 0, 64);
    let back = burst.push(pool.alloc_from(b"one too many").unwrap()).unwrap_err();
    assert_eq!(back.data(), b"one too many");
    assert_eq!(burst.pop().unwrap().data(), contents(63));

    let mut other = burst_of(pool, 100, 110);
    assert_eq!(burst.append(&mut other), 1, "there was room for one");
    assert_eq!((burst.len(), other.len()), (64, 9));
    assert_eq!(other.as_slice()[0].data(), contents(101));
    burst.as_mut_slice().swap(0, 1);

    let order: Vec<u32> = burst
        .drain()
        .map(|mbuf| u32::from_be_bytes(mbuf.data()[..4].try_into().unwrap()))
        .collect();
    let expected: Vec<u32> = [1, 0].into_iter().chain(2..63).chain([100]).collect();
    assert_eq!(order, expected);
    assert!(burst.is_empty() && burst.pop().is_none());
}

fn burst_frees_what_it_holds(pool: &Mempool) {
    let mut burst = burst_of(pool, 0, 50);
    let kept: Vec<_> = burst.drain().take(10).collect();
    assert_eq!(pool.in_use(), 10, "what was not taken is freed with the iterator");
    assert!(burst.is_empty());
    drop(kept);
}

fn leaked_iterator_frees_nothing_twice(pool: &Mempool) {
    let mut burst = burst_of(pool, 0, 50);
    std::mem::forget(burst.drain().take(10));
    assert!(burst.is_empty());
    drop(burst);
    assert_eq!(pool.in_use(), 50);
}
