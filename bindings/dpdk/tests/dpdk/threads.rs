//! Threads: registration gives a thread a mempool cache; frames and queues move between threads.

use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{burst_of, contents, open, pool};
use dpdk::{Burst, Eal, Mbuf, Mempool, ThreadError, ThreadGuard};

#[test]
fn threads() {
    let eal = crate::common::eal();
    let pool = pool(&eal, "threads", 2047);
    main_thread_is_registered_by_eal(&eal);
    registration_makes_the_cache_used(&eal);
    lcores_run_out_with_an_error(&eal);
    frames_cross_threads(&eal, &pool);
    assert_eq!(pool.in_use(), 0);
}

fn main_thread_is_registered_by_eal(eal: &Eal) {
    let error = ThreadGuard::register(eal).unwrap_err();
    assert!(matches!(error, ThreadError::AlreadyRegistered { lcore: 0 }), "{error}");
}

fn registration_makes_the_cache_used(eal: &Eal) {
    // Frames in caches after a thread allocated and freed 20.
    let cached_by_thread = |name: &str, register: bool| {
        let pool = pool(eal, name, 255);
        let (eal, in_thread) = (eal.clone(), pool.clone());
        let work = move || {
            let guard = register.then(|| ThreadGuard::register(&eal).unwrap());
            if guard.is_some() {
                let again = ThreadGuard::register(&eal).unwrap_err();
                assert!(matches!(again, ThreadError::AlreadyRegistered { .. }), "{again}");
            }
            drop((0..20).map(|_| in_thread.alloc().unwrap()).collect::<Vec<_>>());
            in_thread.in_caches()
        };
        let cached = thread::spawn(work).join().unwrap();
        assert_eq!(pool.in_use(), 0);
        cached
    };
    assert_eq!(cached_by_thread("unregistered", false), 0);
    assert!(cached_by_thread("registered", true) >= 20);
}

fn lcores_run_out_with_an_error(eal: &Eal) {
    // Threads that register and then wait, until one is refused.
    let (registered, results) = mpsc::channel();
    let mut waiting: Vec<(SyncSender<()>, thread::JoinHandle<()>)> = Vec::new();
    let refusal = loop {
        assert!(waiting.len() < 1000, "registration never ran out");
        let (release, released) = mpsc::sync_channel::<()>(0);
        let (eal, registered) = (eal.clone(), registered.clone());
        let work = move || {
            let guard = ThreadGuard::register(&eal);
            registered.send(guard.as_ref().err().map(ToString::to_string)).unwrap();
            let _ = released.recv();
        };
        waiting.push((release, thread::spawn(work)));
        if let Some(refusal) = results.recv().unwrap() {
            break refusal;
        }
    };
    assert!(refusal.contains("at most 128 lcores exist"), "{refusal}");
    assert_eq!(waiting.len(), 128, "lcore 0 is EAL's, the 128th registration fails");
    for (release, thread) in waiting {
        drop(release);
        thread.join().unwrap();
    }
    // The end of a thread frees its lcore.
    let eal = eal.clone();
    thread::spawn(move || drop(ThreadGuard::register(&eal).unwrap())).join().unwrap();
}

/// One thread sends to a ring, one receives and hands single frames on, one checks and frees.
fn frames_cross_threads(eal: &Eal, pool: &Mempool) {
    const FRAMES: u32 = 20_000;
    // A failure of one thread must not leave the others polling for ever.
    let start = Instant::now();
    let in_time = || assert!(start.elapsed() < Duration::from_secs(120), "frames stopped coming");
    let (port, mut rx, mut tx) = open(eal, "net_ring0", pool);
    let (hand_on, handed) = mpsc::sync_channel::<Mbuf>(256);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _guard = ThreadGuard::register(eal).unwrap();
            let mut next = 0;
            while next < FRAMES {
                in_time();
                if pool.available() < 512 {
                    thread::yield_now();
                    continue;
                }
                let mut burst = burst_of(pool, next, next + 20);
                while !burst.is_empty() {
                    in_time();
                    tx.send(&mut burst);
                }
                next += 20;
            }
        });
        scope.spawn(move || {
            let _guard = ThreadGuard::register(eal).unwrap();
            let mut burst = Burst::new();
            let mut received = 0;
            while received < FRAMES as usize {
                in_time();
                received += rx.receive(&mut burst);
                burst.drain().for_each(|mbuf| hand_on.send(mbuf).unwrap());
                thread::yield_now();
            }
        });
        let mut next = 0;
        for mbuf in handed {
            assert_eq!(mbuf.data(), contents(next), "frame {next}");
            next += 1;
        }
        assert_eq!(next, FRAMES);
    });
    drop(port);
}
