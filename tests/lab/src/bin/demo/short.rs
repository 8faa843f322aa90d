//! Small requests over sockets of our own: short connections, and the idle-then-active one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyrelay_lab::{Namespace, Result};

use crate::record::{Progress, Record, SLOW};

/// Short connections begin at this distance: 50 per second.
pub const SHORT_INTERVAL: Duration = Duration::from_millis(20);

/// A SYN that is lost three times is sent again after 7 s; a connection that fails says so earlier.
const TIMEOUT: Duration = Duration::from_secs(15);
const ACTIVE_INTERVAL: Duration = Duration::from_millis(20);

/// Begins short connections at a steady rate until the run is over, and waits for all of them.
pub fn short_connections(
    client: &Namespace,
    vip: SocketAddr,
    record: &Arc<Record>,
    body: &Arc<[u8]>,
) -> Result<()> {
    let mut threads = Vec::new();
    let mut at = SHORT_INTERVAL;
    while !record.is_over() {
        record.sleep_until(at);
        at += SHORT_INTERVAL;
        record.count(|counts| counts.short_connections += 1);
        let (record, body) = (record.clone(), body.clone());
        threads.push(client.thread(move || one_short(vip, &record, &body))?);
        threads.retain(|thread| !thread.is_finished());
    }
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

fn one_short(vip: SocketAddr, record: &Record, body: &[u8]) {
    let begun = Instant::now();
    match connect(vip).and_then(|mut stream| request(&mut stream, "close", body.len())) {
        Ok(got) if got == body => {
            let slow = u64::from(begun.elapsed() >= SLOW);
            record.count(|counts| counts.short_slow += slow);
        }
        Ok(_) => {
            record.count(|counts| counts.corrupt += 1);
            record.note("short connection: wrong body".to_owned());
        }
        Err(error) => {
            record.count(|counts| counts.short_broken += 1);
            record.note(format!("short connection: {error}"));
        }
    }
}

/// One connection that is used at the start, rests while routes move, and is used again after each
/// of the `active` times for a while. It counts as one transfer.
pub fn idle_then_active(vip: SocketAddr, record: &Record, active: &[Duration], body: &[u8]) {
    record.count(|counts| counts.transfers += 1);
    let mut progress = Progress::start();
    let outcome = connect(vip).and_then(|mut stream| {
        let mut wrong = 0;
        for start in [Duration::ZERO].iter().chain(active) {
            record.sleep_until(*start);
            for _ in 0..50 {
                progress.resume();
                wrong += u64::from(request(&mut stream, "keep-alive", body.len())? != body);
                progress.made();
                std::thread::sleep(ACTIVE_INTERVAL);
            }
        }
        progress.resume();
        Ok(wrong)
    });
    progress.finish(record);
    match outcome {
        Ok(wrong) => record.count(|counts| counts.corrupt += wrong),
        Err(error) => {
            record.count(|counts| counts.broken += 1);
            record.note(format!("idle connection: {error}"));
        }
    }
}

fn connect(vip: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&vip, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request on an open connection; gives the body, which must be of this size.
fn request(stream: &mut TcpStream, connection: &str, size: usize) -> io::Result<Vec<u8>> {
    let request =
        format!("GET /files/small HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => answer.extend_from_slice(&buffer[..got]),
        }
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(body_start) = head_end.map(|position| position + 4) else { continue };
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
        if answer.len() >= body_start + size {
            return Ok(answer.split_off(body_start));
        }
    }
}
