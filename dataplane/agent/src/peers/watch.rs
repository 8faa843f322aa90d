//! The threads that watch files and query DNS.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::{PeerSource, dns, token_in_file};
use crate::local::{PublicToken, SourceIndex};
use crate::outer::Steering;
use crate::poller::Waker;

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupResult {
    /// The source.
    pub source: SourceIndex,
    /// The peer's token, or the error.
    pub result: Result<PublicToken, String>,
}

/// Watches all sources. Dropping it ends its threads.
#[derive(Debug)]
pub struct Watcher {
    /// Requests to the threads of names, by the source's number. A thread ends when its sender is
    /// dropped.
    requests: Vec<Option<SyncSender<()>>>,
    /// The thread of files polls without requests; it ends when this is dropped.
    _files: SyncSender<()>,
    results: Receiver<LookupResult>,
}

impl Watcher {
    /// Starts lookups at `sources`, with DNS queries by the mark and interface of `steering`;
    /// `waker` wakes the event loop on each result.
    ///
    /// One thread handles all tokens and files. Each name has its own: a DNS query may take long,
    /// and must not delay other lookups.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        sources: Vec<PeerSource>,
        steering: &Steering,
        waker: Arc<Waker>,
    ) -> std::io::Result<Self> {
        let (sender, results) = channel();
        // One pending request is enough: further ones are dropped.
        let (_files, file_requests) = sync_channel(1);
        let (mut files, mut requests) = (Vec::new(), Vec::new());
        for (index, source) in sources.into_iter().enumerate() {
            let by_name = matches!(source, PeerSource::Dns(_));
            let peer = (SourceIndex(index), WatchedSource::new(source));
            if by_name {
                let (request, receiver) = sync_channel(1);
                spawn(WatchThread::new(vec![peer], steering, &sender, &waker), receiver)?;
                requests.push(Some(request));
            } else {
                files.push(peer);
                requests.push(None);
            }
        }
        if !files.is_empty() {
            spawn(WatchThread::new(files, steering, &sender, &waker), file_requests)?;
        }
        Ok(Watcher { requests, _files, results })
    }

    /// The results since the last call.
    pub fn results(&self) -> impl Iterator<Item = LookupResult> + '_ {
        self.results.try_iter()
    }

    /// Requests another lookup soon, at most once in [`LOCATE_INTERVAL`].
    pub fn locate(&self, peer: SourceIndex) {
        if let Some(Some(request)) = self.requests.get(peer.0) {
            let _ = request.try_send(());
        }
    }
}

/// The process does not wait for the thread at its end: a DNS query may be in progress.
fn spawn(mut watch: WatchThread, requests: Receiver<()>) -> std::io::Result<()> {
    thread::Builder::new().name("peers".to_owned()).spawn(move || watch.run(&requests)).map(drop)
}

struct WatchThread {
    peers: Vec<(SourceIndex, WatchedSource)>,
    steering: Steering,
    results: Sender<LookupResult>,
    waker: Arc<Waker>,
}

struct WatchedSource {
    source: PeerSource,
    seen: Option<FileStamp>,
    reported: Option<Result<PublicToken, String>>,
    asked_at: Option<Instant>,
    due: Instant,
}

/// Changes when the file changes.
type FileStamp = (PathBuf, Option<SystemTime>, u64, u64);

impl WatchedSource {
    fn new(source: PeerSource) -> Self {
        WatchedSource { source, seen: None, reported: None, asked_at: None, due: Instant::now() }
    }
}

impl WatchThread {
    fn new(
        peers: Vec<(SourceIndex, WatchedSource)>,
        steering: &Steering,
        results: &Sender<LookupResult>,
        waker: &Arc<Waker>,
    ) -> Self {
        let (steering, results) = (steering.clone(), results.clone());
        WatchThread { peers, steering, results, waker: Arc::clone(waker) }
    }

    fn run(&mut self, requests: &Receiver<()>) {
        loop {
            let now = Instant::now();
            for (index, peer) in &mut self.peers {
                let Some(result) = peer.look_up(now, &self.steering) else { continue };
                if peer.reported.as_ref() == Some(&result) {
                    continue;
                }
                peer.reported = Some(result.clone());
                if self.results.send(LookupResult { source: *index, result }).is_ok() {
                    self.waker.wake();
                }
            }
            match requests.recv_timeout(FILE_INTERVAL) {
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

impl WatchedSource {
    fn look_soon(&mut self) {
        let earliest = self.asked_at.map_or(self.due, |at| at + LOCATE_INTERVAL);
        self.due = self.due.min(earliest);
    }

    /// The result of a lookup, if one is due.
    fn look_up(
        &mut self,
        now: Instant,
        steering: &Steering,
    ) -> Option<Result<PublicToken, String>> {
        match &self.source {
            PeerSource::Token(token) => self.reported.is_none().then_some(Ok(*token)),
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
                let answer = dns::lookup(name, steering);
                let keep = answer.as_ref().map_or(DNS_RETRY, |answer| answer.ttl);
                self.due = Instant::now() + keep.clamp(DNS_RETRY, DNS_KEEP_MAX);
                Some(answer.map(|answer| answer.token).map_err(|error| error.to_string()))
            }
        }
    }
}

fn stamp(path: &std::path::Path) -> FileStamp {
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

    fn wait_for(watcher: &Watcher, poller: &Poller, waker: &Waker) -> LookupResult {
        let mut ready = Vec::new();
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            poller.wait(Duration::from_millis(100), &mut ready).unwrap();
            waker.clear();
            if let Some(found) = watcher.results().next() {
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
        let watcher = Watcher::start(sources, &Steering::default(), Arc::clone(&waker)).unwrap();
        assert!(wait_for(&watcher, &poller, &waker).result.is_err());
        let (first, second) = (crate::testing::token(1), crate::testing::token(2));
        for token in [first, second] {
            crate::state::write_atomically(&path, &format!("token:{token}\n"), 0o644).unwrap();
            let found = wait_for(&watcher, &poller, &waker);
            assert_eq!(found, LookupResult { source: SourceIndex(0), result: Ok(token) });
        }
        std::fs::remove_file(&path).unwrap();
    }
}
