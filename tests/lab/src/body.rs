//! Bodies that are moved through a lab, and their hashes.

use std::io::Read;
use std::path::Path;

use anyrelay_kit::rng::Rng;
use sha2::{Digest, Sha256};

use crate::{LabError, Result};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Chunk of reading and writing.
pub const CHUNK: usize = 64 * 1024;

/// Bytes that depend on a seed only, in chunks, with their hash.
#[derive(Debug)]
pub struct Body {
    rng: Rng,
    left: usize,
    hash: Sha256,
}

impl Body {
    /// A body of `bytes` bytes.
    #[must_use]
    pub fn new(seed: u64, bytes: usize) -> Self {
        Self { rng: Rng(seed), left: bytes, hash: Sha256::new() }
    }

    /// The next chunk, into `buffer`; empty at the end.
    pub fn next<'b>(&mut self, buffer: &'b mut [u8; CHUNK]) -> &'b [u8] {
        let size = self.left.min(CHUNK);
        let chunk = &mut buffer[..size];
        self.rng.fill(chunk);
        self.hash.update(&*chunk);
        self.left -= size;
        chunk
    }

    /// The hash of what [`Self::next`] gave.
    #[must_use]
    pub fn hash(self) -> Hash {
        self.hash.finalize().into()
    }

    /// Writes the whole body to a file and gives its hash.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_to(mut self, path: &Path) -> Result<Hash> {
        let mut bytes = Vec::with_capacity(self.left);
        let mut buffer = [0; CHUNK];
        while self.left > 0 {
            bytes.extend_from_slice(self.next(&mut buffer));
        }
        std::fs::write(path, bytes).map_err(LabError::io(format!("write {}", path.display())))?;
        Ok(self.hash())
    }
}

/// The hash and length of everything a reader gives; `seen` is told the size of each piece.
///
/// # Errors
/// Those of the reader.
pub fn hash_of(mut reader: impl Read, mut seen: impl FnMut(usize)) -> std::io::Result<(Hash, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = [0; CHUNK];
    let mut length = 0;
    loop {
        let size = reader.read(&mut buffer)?;
        if size == 0 {
            return Ok((hash.finalize().into(), length));
        }
        seen(size);
        hash.update(&buffer[..size]);
        length += size as u64;
    }
}
