//! Senders at a steady rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::datagram::{MIN_BYTES, seal};
use super::record::Record;

/// A sender of one direction.
pub struct Pace {
    /// The flow.
    pub id: u32,
    /// The direction.
    pub direction: u8,
    /// Datagrams a second.
    pub per_second: u32,
    /// Bytes of each.
    pub bytes: usize,
}

impl Pace {
    /// Sends until told to stop. A datagram that the socket refuses counts as sent: it is lost.
    pub fn run(
        &self,
        start: Instant,
        sending: &AtomicBool,
        record: &Mutex<Record>,
        mut send: impl FnMut(&[u8]) -> bool,
    ) {
        let mut datagram = vec![0x5a; self.bytes.max(MIN_BYTES)];
        datagram[..4].copy_from_slice(&self.id.to_be_bytes());
        datagram[4] = self.direction;
        let began = Instant::now();
        // Datagrams that are late are left out, so that no pause is followed by a flood.
        let mut skipped = 0;
        let mut number = 0_u64;
        while sending.load(Ordering::Relaxed) {
            let due = (began.elapsed().as_secs_f64() * f64::from(self.per_second)) as u64;
            let behind = due.saturating_sub(number + skipped);
            let burst = behind.min(u64::from(self.per_second / 50).max(1));
            skipped += behind - burst;
            for _ in 0..burst {
                datagram[5..13].copy_from_slice(&number.to_be_bytes());
                seal(&mut datagram);
                // Recorded first: it must not arrive before it was sent.
                record.lock().sent.push(start.elapsed());
                send(&datagram);
                number += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
