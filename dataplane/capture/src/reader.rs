//! The reader of captures.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use crate::{
    BUFFER_LEN, CaptureError, FILE_HEADER_LEN, LINK_TYPE_ETHERNET, MAGIC_MICRO, MAGIC_NANO,
    MAGIC_PCAPNG, NANOS, RECORD_HEADER_LEN, RECORD_LEN_MAX, Record, Resolution,
};

/// Reads a capture.
#[derive(Debug)]
pub struct Reader<R> {
    path: String,
    input: R,
    swapped: bool,
    resolution: Resolution,
    records: u64,
    buffer: Vec<u8>,
}

impl Reader<BufReader<File>> {
    /// Opens the capture at `path`.
    ///
    /// # Errors
    /// When it cannot be opened, or is not a pcap of Ethernet frames.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Reader::new(&name, BufReader::with_capacity(BUFFER_LEN, file)),
            Err(source) => Err(CaptureError::Open { path: name, source }),
        }
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header of the capture in `input`; errors call it `path`.
    ///
    /// # Errors
    /// When it is not a pcap of Ethernet frames.
    pub fn new(path: &str, mut input: R) -> Result<Self, CaptureError> {
        let path = path.to_owned();
        let mut header = [0; FILE_HEADER_LEN];
        if let Err(source) = input.read_exact(&mut header) {
            return Err(CaptureError::Io { path, source });
        }
        let magic = word(&header, 0, false);
        let (swapped, resolution) = match (magic, magic.swap_bytes()) {
            (MAGIC_MICRO, _) => (false, Resolution::Micro),
            (MAGIC_NANO, _) => (false, Resolution::Nano),
            (_, MAGIC_MICRO) => (true, Resolution::Micro),
            (_, MAGIC_NANO) => (true, Resolution::Nano),
            (MAGIC_PCAPNG, _) => return Err(CaptureError::PcapNg { path }),
            _ => return Err(CaptureError::Magic { path, magic }),
        };
        // The high bits describe the frame check sequences.
        let link_type = word(&header, 20, swapped) & 0x0fff_ffff;
        if link_type != LINK_TYPE_ETHERNET {
            return Err(CaptureError::LinkType { path, link_type });
        }
        Ok(Reader { path, input, swapped, resolution, records: 0, buffer: Vec::new() })
    }

    /// The resolution of the time stamps.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// When reading fails, a record is too long, or the file ends within one.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let mut header = [0; RECORD_HEADER_LEN];
        self.records += 1;
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        let field = |at| word(&header, at, self.swapped);
        let (seconds, fraction) = (u64::from(field(0)), u64::from(field(4)));
        let (len, wire_len) = (field(8), field(12));
        if len as usize > RECORD_LEN_MAX {
            return Err(CaptureError::RecordLen {
                path: self.path.clone(),
                record: self.records,
                len,
            });
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(len as usize, 0);
        let whole = buffer.is_empty() || self.fill(&mut buffer)?;
        self.buffer = buffer;
        if !whole {
            return Err(self.cut_off());
        }
        let time_ns = seconds * NANOS + fraction * self.resolution.nanos();
        Ok(Some(Record { time_ns, wire_len, bytes: &self.buffer }))
    }

    /// Reads all of `bytes`; returns false at the end of the file.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, CaptureError> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.cut_off()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(CaptureError::Io { path: self.path.clone(), source }),
            }
        }
        Ok(true)
    }

    fn cut_off(&self) -> CaptureError {
        CaptureError::CutOff { path: self.path.clone(), record: self.records }
    }
}

fn word(bytes: &[u8], at: usize, swapped: bool) -> u32 {
    let found = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let word = found.map_or(0, |chunk| u32::from_le_bytes(*chunk));
    if swapped { word.swap_bytes() } else { word }
}
