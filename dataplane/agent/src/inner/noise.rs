//! The handshake and the cipher between two inner sides. Only this file names `snow` and `ring`.
//!
//! Noise_IK_25519_ChaChaPoly_BLAKE2s, or Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s with a pre-shared
//! key (The Noise Protocol Framework, revision 34), with the prologue "anyrelay inner v1". `snow`
//! generates no random numbers here: the caller supplies the ephemeral key of each handshake. The
//! cipher is `ring`'s, whose assembly is three to ten times as fast as `snow`'s default one.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, StatelessTransportState};

use super::keys::{PresharedKey, PrivateKey, PublicKey};
use super::message::{INITIATION_LEN, RESPONSE_LEN, STAMP_LEN, TAG};

/// An ephemeral private key, from the system's random number generator, used once.
pub type Ephemeral = [u8; 32];

/// A handshake or sealed packet is not authentic: forged, damaged, of another session, or made with
/// other keys. These cases cannot be distinguished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a handshake or packet that was not made with the keys of this peer")]
pub struct NotAuthentic;

/// The keys of one side: its own, and the one shared with the peer.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The private key of this side.
    pub private: &'a PrivateKey,
    /// The key shared with the peer, if any.
    pub preshared: Option<&'a PresharedKey>,
}

/// A handshake of this side, which waits for the response.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Starts a handshake with `peer` and writes Noise's first message, which holds `stamp`, to
    /// `out`. Returns the handshake and the length of the message.
    ///
    /// # Errors
    /// When `out` is too short or `peer` is not a valid key.
    pub fn begin(
        identity: Identity<'_>,
        peer: &PublicKey,
        ephemeral: Ephemeral,
        stamp: [u8; STAMP_LEN],
        out: &mut [u8],
    ) -> Result<(Initiator, usize), NotAuthentic> {
        let mut builder = builder(identity.preshared.is_some(), ephemeral)?
            .local_private_key(identity.private.as_bytes())?
            .remote_public_key(peer.as_bytes())?;
        if let Some(key) = identity.preshared {
            builder = builder.psk(PSK_PLACE, key.as_bytes())?;
        }
        let mut state = builder.build_initiator()?;
        let len = state.write_message(&stamp, out)?;
        Ok((Initiator(state), len))
    }

    /// Reads the response. After an error the authentic one may still follow.
    ///
    /// # Errors
    /// When the response is not authentic.
    pub fn read(&mut self, response: &[u8]) -> Result<(), NotAuthentic> {
        self.0.read_message(response, &mut [0; RESPONSE_LEN])?;
        Ok(())
    }

    /// The session, after the response was read.
    ///
    /// # Errors
    /// When the response was not read.
    pub fn finish(self) -> Result<Transport, NotAuthentic> {
        Ok(Transport(self.0.into_stateless_transport_mode()?))
    }
}

/// A handshake that a peer started.
pub struct Responder {
    state: HandshakeState,
    /// The peer's authenticated key.
    pub peer: PublicKey,
    /// Whether the peer uses the pattern with a pre-shared key.
    pub preshared: bool,
    /// The peer's time stamp.
    pub stamp: [u8; STAMP_LEN],
}

impl Responder {
    /// Reads Noise's first message. The ephemeral key is for the response.
    ///
    /// # Errors
    /// When the message is not authentic.
    pub fn read(
        private: &PrivateKey,
        preshared: bool,
        ephemeral: Ephemeral,
        initiation: &[u8],
    ) -> Result<Responder, NotAuthentic> {
        let builder = builder(preshared, ephemeral)?.local_private_key(private.as_bytes())?;
        let mut state = builder.build_responder()?;
        let mut payload = [0; INITIATION_LEN];
        if state.read_message(initiation, &mut payload)? != STAMP_LEN {
            return Err(NotAuthentic);
        }
        let peer = state.get_remote_static().and_then(|key| key.try_into().ok());
        let stamp = *payload.first_chunk().ok_or(NotAuthentic)?;
        let peer = PublicKey::new(peer.ok_or(NotAuthentic)?);
        Ok(Responder { state, peer, preshared, stamp })
    }

    /// Writes Noise's second message to `out`; returns the session and the length of the message.
    ///
    /// # Errors
    /// When `out` is too short or the pre-shared key is missing.
    pub fn respond(
        mut self,
        preshared: Option<&PresharedKey>,
        out: &mut [u8],
    ) -> Result<(Transport, usize), NotAuthentic> {
        if let Some(key) = preshared {
            self.state.set_psk(usize::from(PSK_PLACE), key.as_bytes())?;
        }
        let len = self.state.write_message(&[], out)?;
        Ok((Transport(self.state.into_stateless_transport_mode()?), len))
    }
}

/// The keys of a session. The caller must not seal twice with one counter.
pub struct Transport(StatelessTransportState);

impl Transport {
    /// Seals `packet` into `out`; returns the length.
    ///
    /// # Errors
    /// When `out` is too short.
    pub fn seal(&self, counter: u64, packet: &[u8], out: &mut [u8]) -> Result<usize, NotAuthentic> {
        Ok(self.0.write_message(counter, packet, out)?)
    }

    /// Opens `sealed` into `out`; returns the length.
    ///
    /// # Errors
    /// When `sealed` is not authentic, or `out` is too short.
    pub fn open(&self, counter: u64, sealed: &[u8], out: &mut [u8]) -> Result<usize, NotAuthentic> {
        Ok(self.0.read_message(counter, sealed, out)?)
    }
}

/// The public key of a private one; `None` if X25519 is missing from the build.
pub fn public_key(private: &PrivateKey) -> Option<PublicKey> {
    let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519)?;
    dh.set(private.as_bytes());
    dh.pubkey().try_into().ok().map(PublicKey::new)
}

impl From<snow::Error> for NotAuthentic {
    fn from(_: snow::Error) -> Self {
        NotAuthentic
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator(..)")
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport(..)")
    }
}

fn builder<'a>(preshared: bool, ephemeral: Ephemeral) -> Result<Builder<'a>, NotAuthentic> {
    let name = if preshared {
        "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
    } else {
        "Noise_IK_25519_ChaChaPoly_BLAKE2s"
    };
    let params: NoiseParams = name.parse()?;
    Ok(Builder::with_resolver(params, Box::new(Resolver { ephemeral })).prologue(PROLOGUE)?)
}

/// The default primitives, but the caller's random numbers and the cipher of `ring`.
struct Resolver {
    ephemeral: Ephemeral,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(None))),
            CipherChoice::AESGCM => None,
        }
    }
}

/// Yields the ephemeral key once: a second request must not get the same key.
struct Once(Option<Ephemeral>);

impl Random for Once {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let key = self.0.take().filter(|key| key.len() == out.len()).ok_or(snow::Error::Rng)?;
        out.copy_from_slice(&key);
        Ok(())
    }
}

/// ChaCha20-Poly1305 (RFC 8439) as Noise uses it (section 12.3): the nonce is 32 zero bits and the
/// counter, little-endian.
struct ChaChaPoly(Option<LessSafeKey>);

impl ChaChaPoly {
    fn nonce(counter: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new);
    }

    /// Writes nothing without a key or without room; `snow` checks both before.
    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let room = out.split_at_mut_checked(plaintext.len());
        let (Some(key), Some((text, rest))) = (&self.0, room) else {
            return 0;
        };
        let Some(tag_room) = rest.get_mut(..TAG) else {
            return 0;
        };
        text.copy_from_slice(plaintext);
        match key.seal_in_place_separate_tag(Self::nonce(nonce), Aad::from(authtext), text) {
            Ok(tag) => {
                tag_room.copy_from_slice(tag.as_ref());
                plaintext.len() + TAG
            }
            Err(_) => {
                // Not sealed: the plaintext must not be sent.
                text.fill(0);
                0
            }
        }
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let key = self.0.as_ref().ok_or(snow::Error::Decrypt)?;
        // The tag is checked in place, so that `out` needs no room for it.
        let (text, tag) = ciphertext.split_last_chunk::<TAG>().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(text);
        let (nonce, authtext) = (Self::nonce(nonce), Aad::from(authtext));
        key.open_in_place_separate_tag(nonce, authtext, (*tag).into(), out, 0..)
            .map(|opened| opened.len())
            .map_err(|_| snow::Error::Decrypt)
    }
}

const PROLOGUE: &[u8] = b"anyrelay inner v1";
/// The place of the pre-shared key in IKpsk2: at the end of the second message.
const PSK_PLACE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn private(byte: u8) -> PrivateKey {
        PrivateKey::new([byte; 32])
    }

    fn psk(byte: u8) -> PresharedKey {
        PresharedKey::new([byte; 32])
    }

    /// A handshake from key 1 to key 2, with the pre-shared keys of both sides.
    fn handshake(ours: Option<u8>, theirs: Option<u8>) -> Result<[Transport; 2], NotAuthentic> {
        let (alice, bob) = (private(1), private(2));
        let (ours, theirs) = (ours.map(psk), theirs.map(psk));
        let mut buffer = [0; 256];
        let identity = Identity { private: &alice, preshared: ours.as_ref() };
        let bob_public = public_key(&bob).unwrap();
        let (mut initiator, len) =
            Initiator::begin(identity, &bob_public, [3; 32], [9; 8], &mut buffer)?;
        let responder = Responder::read(&bob, theirs.is_some(), [4; 32], &buffer[..len])?;
        assert_eq!((responder.peer, responder.stamp), (public_key(&alice).unwrap(), [9; 8]));
        let (responder, len) = responder.respond(theirs.as_ref(), &mut buffer)?;
        initiator.read(&buffer[..len])?;
        Ok([initiator.finish()?, responder])
    }

    #[test]
    fn both_sides_agree_with_and_without_a_preshared_key() {
        for psk in [None, Some(5)] {
            let [a, b] = handshake(psk, psk).unwrap();
            let (mut sealed, mut opened) = ([0; 100], [0; 100]);
            let len = a.seal(7, b"inner", &mut sealed).unwrap();
            assert_eq!(len, 5 + 16);
            assert_eq!(b.open(7, &sealed[..len], &mut opened), Ok(5));
            assert_eq!(&opened[..5], b"inner");
            assert_eq!(b.open(8, &sealed[..len], &mut opened), Err(NotAuthentic));
            assert_eq!(a.open(7, &sealed[..len], &mut opened), Err(NotAuthentic));
            sealed[2] ^= 1;
            assert_eq!(b.open(7, &sealed[..len], &mut opened), Err(NotAuthentic));
        }
    }

    #[test]
    fn different_preshared_keys_fail() {
        for (ours, theirs) in [(None, Some(5)), (Some(5), None), (Some(5), Some(6))] {
            assert_eq!(handshake(ours, theirs).err(), Some(NotAuthentic), "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn the_cipher_agrees_with_another_implementation() {
        let mut ours = ChaChaPoly(None);
        assert_eq!(ours.encrypt(0, &[], b"secret", &mut [0; 22]), 0, "without a key");
        let mut other = DefaultResolver.resolve_cipher(&CipherChoice::ChaChaPoly).unwrap();
        for round in 0..600usize {
            let key = [round as u8; 32];
            ours.set(&key);
            other.set(&key);
            let text: Vec<u8> = (0..round).map(|at| (at * round) as u8).collect();
            let (authtext, nonce) = (&text[..round % 40], u64::MAX / (round as u64 + 1));
            let (mut sealed, mut expected) = (vec![0; round + TAG], vec![0; round + TAG]);
            assert_eq!(ours.encrypt(nonce, authtext, &text, &mut sealed), round + TAG);
            other.encrypt(nonce, authtext, &text, &mut expected);
            assert_eq!(sealed, expected);
            let mut opened = vec![0; round];
            assert_eq!(ours.decrypt(nonce, authtext, &sealed, &mut opened), Ok(round));
            assert_eq!(opened, text);
            sealed[round / 2] ^= 1;
            assert!(ours.decrypt(nonce, authtext, &sealed, &mut opened).is_err());
        }
    }

    #[test]
    fn public_keys_agree_with_another_implementation() {
        // Calculated with RFC 7748's ladder in Python.
        let expected = "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209";
        assert_eq!(public_key(&private(1)).unwrap().to_string(), expected);
    }
}
