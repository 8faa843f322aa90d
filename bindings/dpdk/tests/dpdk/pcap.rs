//! Ports of the driver net_pcap: a capture file in, a capture file out.

use std::fs;
use std::path::PathBuf;

use crate::common::{contents, open, pool};
use dpdk::Burst;

/// Frames in the file: more than a burst, and not a multiple of one.
const FRAMES: u32 = 1000;

/// A file that is removed on drop.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> TempFile {
        TempFile(std::env::temp_dir().join(format!("dpdk-test-{}-{name}", std::process::id())))
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn pcap_file_in_and_out() {
    let (input, output) = (TempFile::new("in.pcap"), TempFile::new("out.pcap"));
    fs::write(&input.0, capture((0..FRAMES).map(contents))).unwrap();

    let eal = crate::common::eal();
    let pool = pool(&eal, "pcap", 1023);
    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.text(), output.text());
    let (port, mut rx, mut tx) = open(&eal, &device, &pool);
    let mut burst = Burst::new();
    let mut forwarded = 0;
    // No frames follow the end of the file.
    for _ in 0..FRAMES {
        rx.receive(&mut burst);
        for mbuf in burst.as_mut_slice() {
            // Longer at the front, shorter at the end: the port must use the mbuf's own bounds.
            assert!(mbuf.prepend(4));
            mbuf.data_mut()[..4].copy_from_slice(b"mark");
            let len = mbuf.len();
            mbuf.truncate(len - 1);
        }
        forwarded += tx.send(&mut burst);
        assert!(burst.is_empty());
    }
    assert_eq!(forwarded, FRAMES as usize);
    assert_eq!(port.stats().unwrap().tx_frames, u64::from(FRAMES));
    drop((port, rx, tx));
    assert_eq!(pool.in_use(), 0);

    let expected: Vec<Vec<u8>> = (0..FRAMES)
        .map(|number| {
            let bytes = contents(number);
            [b"mark", &bytes[..bytes.len() - 1]].concat()
        })
        .collect();
    let written = frames_of(&fs::read(&output.0).unwrap());
    assert_eq!(written.len(), expected.len());
    for (number, (written, expected)) in written.iter().zip(&expected).enumerate() {
        assert_eq!(written, expected, "frame {number}");
    }
}

/// A classic pcap file, little-endian, Ethernet.
fn capture(frames: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (second, frame) in frames.enumerate() {
        let len = frame.len() as u32;
        file.extend([second as u32, 0, len, len].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(frame);
    }
    file
}

/// The frames of a little-endian pcap file.
fn frames_of(file: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut frames = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let (captured, original) = (word(at + 8), word(at + 12));
        assert_eq!(captured, original, "a frame was cut");
        frames.push(file[at + 16..at + 16 + captured].to_vec());
        at += 16 + captured;
    }
    frames
}
