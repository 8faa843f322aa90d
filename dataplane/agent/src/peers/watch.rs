//! The threads that watch files and query DNS.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::{PeerSource, dns, token_in_file};
use crate::local::{PeerIndex, PublicToken};
use crate::poller::Waker;

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The source.
    pub peer: PeerIndex,
    /// The peer's token, or the error.
    pub result: Result<PublicToken, String>,
}

/// Watches all sources. Dropping it ends its threads.
#[derive(Debug)]
pub struct Watcher {
    /// Requests to the threads of names, by the source's number. A thread ends when its sender is
    /// dropped.
    asks: Vec<Option<SyncSender<()>>>,
    /// The thread of files polls without requests; it ends when this is dropped.
    _files: SyncSender<()>,
    found: Receiver<Found>,
}

impl Watcher {
    /// Starts lookups at `sources`; `waker` wakes the event loop on each result.
    ///
    /// One thread handles all tokens and files. Each name has its own: a DNS query may take long,
    /// and must not delay other lookups.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(sources: Vec<PeerSource>, waker: Arc<Waker>) -> std::io::Result<Self> {
        let (tell, found) = channel();
        // One pending request is enough: further ones are dropped.
        let (_files, asked_files) = sync_channel(1);
        let (mut files, mut asks) = (Vec::new(), Vec::new());
        for (index, source) in sources.into_iter().enumerate() {
            let by_name = matches!(source, PeerSource::Dns(_));
            let peer = (PeerIndex(index), Peer::new(source));
            if by_name {
                let (ask, asked) = sync_channel(1);
                spawn(Watch::new(vec![peer], &tell, &waker), asked)?;
                asks.push(Some(ask));
            } else {
                files.push(peer);
                asks.push(None);
            }
        }
        if !files.is_empty() {
            spawn(Watch::new(files, &tell, &waker), asked_files)?;
        }
        Ok(Watcher { asks, _files, found })
    }

    /// The results since the last call.
    pub fn found(&self) -> impl Iterator<Item = Found> + '_ {
        self.found.try_iter()
    }

    /// Requests another lookup soon, at most once in [`LOCATE_INTERVAL`].
    pub fn locate(&self, peer: PeerIndex) {
        if let Some(Some(ask)) = self.asks.get(peer.0) {
            let _ = ask.try_send(());
        }
    }
}

/// The process does not wait for the thread at its end: a DNS query may be in progress.
fn spawn(mut watch: Watch, asked: Receiver<()>) -> std::io::Result<()> {
    thread::Builder::new().name("peers".to_owned()).spawn(move || watch.run(&asked)).map(drop)
}

struct Watch {
    peers: Vec<(PeerIndex, Peer)>,
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

/// Changes when the file changes.
type Stamp = (PathBuf, Option<SystemTime>, u64, u64);

impl Peer {
    fn new(source: PeerSource) -> Self {
        Peer { source, seen: None, told: None, asked_at: None, due: Instant::now() }
    }
}

impl Watch {
    fn new(peers: Vec<(PeerIndex, Peer)>, tell: &Sender<Found>, waker: &Arc<Waker>) -> Self {
        Watch { peers, tell: tell.clone(), waker: Arc::clone(waker) }
    }

    fn run(&mut self, asked: &Receiver<()>) {
        loop {
            let now = Instant::now();
            for (index, peer) in &mut self.peers {
                let Some(result) = peer.look(now) else { continue };
                if peer.told.as_ref() == Some(&result) {
                    continue;
                }
                peer.told = Some(result.clone());
                if self.tell.send(Found { peer: *index, result }).is_ok() {
                    self.waker.wake();
                }
            }
            match asked.recv_timeout(FILE_INTERVAL) {
                Ok(()) => {
                    self.peers.iter_mut().for_each(|(_, peer)| peer.look_soon());
                    // Requests may come with each packet.
                    thread::sleep(ASKED_PAUSE);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Peer {
    fn look_soon(&mut self) {
        let earliest = self.asked_at.map_or(self.due, |at| at + LOCATE_INTERVAL);
        self.due = self.due.min(earliest);
    }

    /// The result of a lookup, if one is due.
    fn look(&mut self, now: Instant) -> Option<Result<PublicToken, String>> {
        match &self.source {
            PeerSource::Token(token) => self.told.is_none().then_some(Ok(*token)),
            PeerSource::File(path) => {
                let stamp = stamp(path);
                if self.seen.as_ref() == Some(&stamp) {
                    return None;
                }
                let result = token_in_file(path);
                // A file that is missing or half written is read again.
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

/// The minimum interval of lookups of a peer that does not answer.
pub const LOCATE_INTERVAL: Duration = Duration::from_secs(5);
const ASKED_PAUSE: Duration = Duration::from_millis(100);
const FILE_INTERVAL: Duration = Duration::from_millis(500);
const DNS_RETRY: Duration = Duration::from_secs(10);
const DNS_KEEP_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::Poller;

    fn wait_for(watcher: &Watcher, poller: &Poller, waker: &Waker) -> Found {
        let mut ready = Vec::new();
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            poller.wait(Duration::from_millis(100), &mut ready).unwrap();
            waker.clear();
            if let Some(found) = watcher.found().next() {
                return found;
            }
        }
        panic!("nothing found in a minute");
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
