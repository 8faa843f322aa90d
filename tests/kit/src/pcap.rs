//! Captures (pcap) whole in memory; [`anyrelay_capture`] has the format.

use std::io::Write;

use anyrelay_capture::{CaptureError, Reader, Resolution, Writer};

/// All frames of a capture, each behind its time in nanoseconds.
pub fn read(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::new("capture", file).unwrap();
    let mut frames = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        frames.push((record.time_ns, record.bytes.to_vec()));
    }
    frames
}

/// All frames of a capture, without their times.
pub fn frames(file: &[u8]) -> Vec<Vec<u8>> {
    read(file).into_iter().map(|(_, frame)| frame).collect()
}

/// Writes frames, each behind its time in microseconds, as a capture.
///
/// # Errors
/// When writing fails.
pub fn write<F: AsRef<[u8]>>(
    out: impl Write,
    frames: impl IntoIterator<Item = (u64, F)>,
) -> Result<(), CaptureError> {
    let mut writer = Writer::new("capture", out, Resolution::Micro)?;
    for (time_us, frame) in frames {
        writer.write(time_us * 1000, frame.as_ref())?;
    }
    writer.flush()
}
