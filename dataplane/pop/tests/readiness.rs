//! Readiness through the binary: no peer of the listener makes it late.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::{Config, Folder, Pop};

/// Connections of each kind in turns. Some may have ended when the last is made, as each has its
/// time; the unit tests of the listener hold all of them.
#[test]
fn a_thousand_connections_do_not_make_readyz_late() {
    let (folder, config) = (Folder::new(), Config::new());
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    let huge = ["GET / HTTP/1.1\r\nX: ", &"a".repeat(8000)].concat();
    for text in ["", "GET /rea", &huge, "GET /metrics HTTP/1.1\r\n\r\n"] {
        let held: Vec<_> = (0..1000).map(|_| connect(config.metrics, text)).collect();
        // The best of some, as this machine may have other work.
        let once = |_| {
            let start = Instant::now();
            assert_eq!(pop.get("/readyz").unwrap().0, 200);
            start.elapsed()
        };
        let best = (0..20).map(once).min().unwrap();
        assert!(best < Duration::from_millis(100), "{best:?} with {text:.10}");
        drop(held);
    }
    pop.stop();
}

fn connect(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // The oldest may have given way.
    let _ = stream.write_all(text.as_bytes());
    stream
}
