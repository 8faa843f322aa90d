//! The writer of captures.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{
    BUFFER_LEN, CaptureError, LINK_TYPE_ETHERNET, MAGIC_MICRO, MAGIC_NANO, NANOS, RECORD_LEN_MAX,
    Resolution,
};

/// Writes a capture.
#[derive(Debug)]
pub struct Writer<W: Write> {
    path: String,
    output: W,
    resolution: Resolution,
}

impl Writer<BufWriter<File>> {
    /// Creates the capture at `path`, or truncates an existing file.
    ///
    /// # Errors
    /// When it cannot be created or written.
    pub fn create(path: &Path, resolution: Resolution) -> Result<Self, CaptureError> {
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Writer::new(&name, BufWriter::with_capacity(BUFFER_LEN, file), resolution),
            Err(source) => Err(CaptureError::Open { path: name, source }),
        }
    }
}

impl<W: Write> Writer<W> {
    /// Writes the header of a capture to `output`; errors call it `path`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(path: &str, output: W, resolution: Resolution) -> Result<Self, CaptureError> {
        let mut writer = Writer { path: path.to_owned(), output, resolution };
        let magic = match resolution {
            Resolution::Micro => MAGIC_MICRO,
            Resolution::Nano => MAGIC_NANO,
        };
        // Version 2.4, no time zone, no accuracy.
        let words = [magic, 2 | 4 << 16, 0, 0, RECORD_LEN_MAX as u32, LINK_TYPE_ETHERNET];
        writer.write_words(&words)?;
        Ok(writer)
    }

    /// The resolution of the time stamps.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&mut self, time_ns: u64, frame: &[u8]) -> Result<(), CaptureError> {
        let seconds = (time_ns / NANOS) as u32;
        let fraction = (time_ns % NANOS / self.resolution.nanos()) as u32;
        let len = frame.len() as u32;
        self.write_words(&[seconds, fraction, len, len])?;
        let written = self.output.write_all(frame);
        self.checked(written)
    }

    /// Writes the buffered bytes.
    ///
    /// # Errors
    /// When writing fails.
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        let flushed = self.output.flush();
        self.checked(flushed)
    }

    fn write_words(&mut self, words: &[u32]) -> Result<(), CaptureError> {
        for word in words {
            let written = self.output.write_all(&word.to_le_bytes());
            self.checked(written)?;
        }
        Ok(())
    }

    fn checked(&self, result: std::io::Result<()>) -> Result<(), CaptureError> {
        result.map_err(|source| CaptureError::Io { path: self.path.clone(), source })
    }
}
