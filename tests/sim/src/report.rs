//! What a run leaves behind: a digest of all frames, and on demand the frames themselves.

use std::io::{self, Write};

/// A digest of frames, and their record.
#[derive(Clone, Debug)]
pub struct Record {
    digest: u64,
    frames: u64,
    kept: Option<Vec<(u64, Vec<u8>)>>,
}

impl Record {
    /// Of nothing yet; frames are kept if they are to be written.
    pub fn new(keep: bool) -> Self {
        Record { digest: 0xcbf2_9ce4_8422_2325, frames: 0, kept: keep.then(Vec::new) }
    }

    /// A frame that a POP took in or sent, at that time.
    pub fn frame(&mut self, at_us: u64, pop: usize, bytes: &[u8]) {
        self.frames += 1;
        self.mix(at_us);
        self.mix((pop as u64) << 32 | bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.mix(u64::from_le_bytes(eight));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.mix(u64::from_le_bytes(last));
        if let Some(kept) = &mut self.kept {
            kept.push((at_us, bytes.to_vec()));
        }
    }

    fn mix(&mut self, word: u64) {
        self.digest = (self.digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.digest ^= self.digest >> 32;
    }

    /// Of all frames, their times and their POPs.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many there were.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Writes the frames that were kept as a capture of Ethernet (pcap, microseconds). Which POP and
    /// port a frame is of is in its MAC addresses.
    pub fn write_pcap(&self, out: &mut impl Write) -> io::Result<()> {
        let mut header = Vec::new();
        header.extend_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
        header.extend_from_slice(&2u16.to_le_bytes());
        header.extend_from_slice(&4u16.to_le_bytes());
        for word in [0u32, 0, 65_535, 1] {
            header.extend_from_slice(&word.to_le_bytes());
        }
        out.write_all(&header)?;
        for (at_us, bytes) in self.kept.iter().flatten() {
            let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
            let len = bytes.len() as u32;
            for word in [seconds as u32, micros as u32, len, len] {
                out.write_all(&word.to_le_bytes())?;
            }
            out.write_all(bytes)?;
        }
        out.flush()
    }
}
