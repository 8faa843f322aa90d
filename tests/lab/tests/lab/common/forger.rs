//! Somebody on the POPs' network who sends what no POP has sent, and what one has sent before.

use std::net::UdpSocket;
use std::time::{SystemTime, UNIX_EPOCH};

use anyrelay_core::keys::{KeyFile, Secret};
use anyrelay_core::relay::hints::{Hint, HintKey};
use anyrelay_core::time::UnixTime;
use anyrelay_kit::rng::Rng;
use anyrelay_lab::Lab;
use anyrelay_lab::hints::listens;

/// Sends from a POP's namespace to the POPs' own addresses, past what loses and delays hints.
pub struct Forger {
    socket: UdpSocket,
    /// The POPs' key.
    pub own: HintKey,
    /// A key that no POP has.
    pub strange: HintKey,
    rng: Rng,
}

impl Forger {
    pub fn new(lab: &Lab) -> Self {
        let keys = std::fs::read_to_string(lab.work().join("keys.toml")).unwrap();
        let own = HintKey::new(&KeyFile::parse(&keys).unwrap().relay).unwrap();
        let strange = HintKey::new(&Secret::new([9; 32])).unwrap();
        let socket = lab.pops[2].namespace().run(|| UdpSocket::bind("0.0.0.0:0"));
        Self { socket: socket.unwrap().unwrap(), own, strange, rng: Rng(1) }
    }

    pub fn send(&self, pop: usize, datagram: &[u8]) {
        let sent = self.socket.send_to(datagram, listens(pop)).unwrap();
        assert_eq!(sent, datagram.len());
    }

    /// Datagrams that resemble one of a POP's and must not be believed, and random bytes.
    pub fn forge(&mut self, genuine: &[u8], count: usize) -> Vec<Vec<u8>> {
        let hints = self.own.open(now(), genuine);
        (0..count)
            .map(|number| match number % 4 {
                0 => {
                    let length = self.rng.index(1300);
                    self.rng.vec(length)
                }
                // Its hints under a strange key; or, when it is too old to be read, none.
                1 => self.strange.seal(now(), hints.as_deref().unwrap_or_default()).to_vec(),
                2 => {
                    let mut damaged = genuine.to_vec();
                    let bit = self.rng.index(8 * damaged.len());
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    damaged
                }
                _ => genuine[..self.rng.index(genuine.len())].to_vec(),
            })
            .collect()
    }

    /// Tells a POP something under a key.
    pub fn tell(&self, pop: usize, key: &HintKey, hint: Hint) {
        self.send(pop, &key.seal(now(), &[hint]));
    }
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime::from_millis(since.as_millis() as u64)
}
