//! A device in the test's own network namespace. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::{Duration, Instant};

use linux_tun::{Tun, TunError};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs `test` in a new network namespace.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace of this thread changes, which no memory depends on.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace; run as root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn packets_go_in_and_out() {
    in_namespace(|| {
        let tun = Tun::open("test0").unwrap();
        assert_eq!(tun.name(), "test0");
        tun.set_mtu(1288).unwrap();
        assert!(ip("link show test0").contains("mtu 1288"));
        ip("address add 10.9.0.1/24 dev test0");
        ip("link set test0 up");
        let socket = std::net::UdpSocket::bind("10.9.0.1:1000").unwrap();
        socket.send_to(b"hello", "10.9.0.2:2000").unwrap();
        let mut packet = [0; 2000];
        // The kernel's router solicitations may come first, and keep it busy with them.
        let end = Instant::now() + Duration::from_secs(60);
        let len = loop {
            match tun.read(&mut packet).unwrap() {
                Some(len) if packet[0] == 0x45 => break len,
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(1)),
            }
            assert!(Instant::now() < end, "no packet came");
        };
        assert_eq!((len, &packet[28..len]), (33, &b"hello"[..]));
        assert_eq!(&packet[12..20], [10, 9, 0, 1, 10, 9, 0, 2]);
        // Source and destination swapped, the packet returns as the answer: the checksums stay
        // right.
        packet.copy_within(12..20, 40);
        packet[12..16].copy_from_slice(&[10, 9, 0, 2]);
        packet[16..20].copy_from_slice(&[10, 9, 0, 1]);
        packet[20..24].copy_from_slice(&[2000u16.to_be_bytes(), 1000u16.to_be_bytes()].concat());
        tun.write(&packet[..33]).unwrap();
        let mut answer = [0; 100];
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(socket.recv(&mut answer).unwrap(), 5);
    });
}

#[test]
fn a_device_has_one_owner_and_goes_with_it() {
    in_namespace(|| {
        let tun = Tun::open("test0").unwrap();
        assert!(matches!(Tun::open("test0"), Err(TunError::InUse { .. })));
        assert!(matches!(Tun::open("a/b"), Err(TunError::Name { .. })));
        drop(tun);
        assert!(!ip("link show").contains("test0"));
        Tun::open("test0").unwrap();
    });
}
