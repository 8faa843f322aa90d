//! The thread that watches files and asks DNS.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::{PeerSource, dns, token_in_file};
use crate::local::{PeerIndex, PublicToken};
use crate::poller::Waker;

/// What a look for a peer brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which peer.
    pub peer: PeerIndex,
    /// Where it is, or why that is not known.
    pub result: Result<PublicToken, String>,
}

/// Watches the sources of all peers. Dropped, it stops.
#[derive(Debug)]
pub struct Watcher {
    // Dropped first: that ends the thread.
    asks: Option<Sender<PeerIndex>>,
    found: Receiver<Found>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts looking for the peers at `sources`; `waker` wakes the loop when there is news.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(sources: Vec<PeerSource>, waker: Arc<Waker>) -> std::io::Result<Self> {
        let (asks, asked) = channel();
        let (tell, found) = channel();
        let mut watch = Watch { peers: sources.into_iter().map(Peer::new).collect(), tell, waker };
        let thread = thread::Builder::new().name("peers".to_owned()).spawn(move || {
            watch.run(&asked);
        })?;
        Ok(Watcher { asks: Some(asks), found, thread: Some(thread) })
    }

    /// What was found since the last call.
    pub fn found(&self) -> impl Iterator<Item = Found> + '_ {
        self.found.try_iter()
    }

    /// Asks to look for a peer again soon: at most once in [`LOCATE_INTERVAL`].
    pub fn locate(&self, peer: PeerIndex) {
        if let Some(asks) = &self.asks {
            let _ = asks.send(peer);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.asks.take());
        // A question to DNS under way may take seconds: the process does not wait for it.
        drop(self.thread.take());
    }
}

struct Watch {
    peers: Vec<Peer>,
    tell: Sender<Found>,
    waker: Arc<Waker>,
}

struct Peer {
    source: PeerSource,
    seen: Option<Stamp>,
    told: Option<Result<PublicToken, String>>,
    asked_at: Option<Instant>,
    due: Instant,
}

/// Tells whether a file changed.
type Stamp = (PathBuf, Option<SystemTime>, u64, u64);

impl Peer {
    fn new(source: PeerSource) -> Self {
        Peer { source, seen: None, told: None, asked_at: None, due: Instant::now() }
    }
}

impl Watch {
    fn run(&mut self, asked: &Receiver<PeerIndex>) {
        loop {
            let now = Instant::now();
            for index in 0..self.peers.len() {
                self.look(PeerIndex(index), now);
            }
            match asked.recv_timeout(FILE_INTERVAL) {
                Ok(PeerIndex(index)) => self.look_soon(index),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look_soon(&mut self, index: usize) {
        if let Some(peer) = self.peers.get_mut(index) {
            let earliest = peer.asked_at.map_or(peer.due, |at| at + LOCATE_INTERVAL);
            peer.due = peer.due.min(earliest);
        }
    }

    fn look(&mut self, index: PeerIndex, now: Instant) {
        let Some(peer) = self.peers.get_mut(index.0) else { return };
        let Some(result) = peer.look(now) else { return };
        if peer.told.as_ref() == Some(&result) {
            return;
        }
        peer.told = Some(result.clone());
        if self.tell.send(Found { peer: index, result }).is_ok() {
            self.waker.wake();
        }
    }
}

impl Peer {
    /// Where the peer is, if this is the time to look.
    fn look(&mut self, now: Instant) -> Option<Result<PublicToken, String>> {
        match &self.source {
            PeerSource::Token(token) => self.told.is_none().then_some(Ok(*token)),
            PeerSource::File(path) => {
                let stamp = stamp(path);
                if self.seen.as_ref() == Some(&stamp) {
                    return None;
                }
                let result = token_in_file(path);
                // A file caught half written, or not there yet, is looked at again.
                self.seen = result.is_ok().then_some(stamp);
                Some(result)
            }
            PeerSource::Dns(name) => {
                if now < self.due {
                    return None;
                }
                self.asked_at = Some(now);
                let answer = dns::lookup(name);
                let keep = answer.as_ref().map_or(DNS_RETRY, |answer| answer.ttl);
                self.due = Instant::now() + keep.clamp(DNS_RETRY, DNS_KEEP_MAX);
                Some(answer.map(|answer| answer.token).map_err(|error| error.to_string()))
            }
        }
    }
}

fn stamp(path: &std::path::Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok();
    let modified = meta.as_ref().and_then(|meta| meta.modified().ok());
    let (inode, len) = meta.map_or((0, 0), |meta| (meta.ino(), meta.len()));
    (path.to_owned(), modified, inode, len)
}

/// How soon a peer that does not answer is looked for again.
pub const LOCATE_INTERVAL: Duration = Duration::from_secs(5);
const FILE_INTERVAL: Duration = Duration::from_millis(500);
const DNS_RETRY: Duration = Duration::from_secs(10);
const DNS_KEEP_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::Poller;

    fn wait_for(watcher: &Watcher, poller: &Poller, waker: &Waker) -> Found {
        let mut ready = Vec::new();
        for _ in 0..100 {
            poller.wait(Duration::from_millis(100), &mut ready).unwrap();
            waker.clear();
            if let Some(found) = watcher.found().next() {
                return found;
            }
        }
        panic!("nothing found in 10 s");
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let name = format!("anyrelay-peer-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let poller = Poller::new().unwrap();
        let waker = Arc::new(Waker::new(&poller, 1).unwrap());
        let sources = vec![PeerSource::File(path.clone())];
        let watcher = Watcher::start(sources, Arc::clone(&waker)).unwrap();
        assert!(wait_for(&watcher, &poller, &waker).result.is_err());
        let (first, second) = (crate::testing::token(1), crate::testing::token(2));
        for token in [first, second] {
            crate::state::write_atomically(&path, &format!("token:{token}\n"), 0o644).unwrap();
            let found = wait_for(&watcher, &poller, &waker);
            assert_eq!(found, Found { peer: PeerIndex(0), result: Ok(token) });
        }
        std::fs::remove_file(&path).unwrap();
    }
}
