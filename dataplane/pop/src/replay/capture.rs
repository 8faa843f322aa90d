//! Captures: classic pcap files, read and written record by record (the format of libpcap's
//! `pcap-savefile(5)`).
//!
//! Both byte orders and both resolutions are read; Ethernet is the only link type. Memory does not
//! grow with the file.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened or created.
    #[error("{path} cannot be opened: {source}")]
    Open {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It begins like no pcap file.
    #[error("{path} is no pcap file: it begins with {magic:#010x}")]
    Magic {
        /// The file.
        path: String,
        /// Its first four bytes.
        magic: u32,
    },
    /// It is of the newer format.
    #[error(
        "{path} is a pcapng file, which is not read here; `editcap -F pcap IN OUT` makes a pcap of it"
    )]
    PcapNg {
        /// The file.
        path: String,
    },
    /// Its frames are not Ethernet's.
    #[error("{path} has link type {link_type}; only Ethernet (1) can be replayed")]
    LinkType {
        /// The file.
        path: String,
        /// The number in its header.
        link_type: u32,
    },
    /// A record claims to be longer than any frame.
    #[error("{path}: record {record} claims {len} bytes, more than {RECORD_LEN_MAX}")]
    RecordLen {
        /// The file.
        path: String,
        /// Which record, from 1.
        record: u64,
        /// The length that it claims, in bytes.
        len: u32,
    },
    /// The file ends within a record.
    #[error("{path} ends in the middle of record {record}; what came before it was done")]
    CutOff {
        /// The file.
        path: String,
        /// Which record, from 1.
        record: u64,
    },
}

/// What one unit of a record's time stamp is, below the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A microsecond.
    Micro,
    /// A nanosecond.
    Nano,
}

impl Resolution {
    const fn nanos(self) -> u64 {
        match self {
            Resolution::Micro => 1_000,
            Resolution::Nano => 1,
        }
    }

    /// Digits after the point of a second.
    pub const fn digits(self) -> usize {
        match self {
            Resolution::Micro => 6,
            Resolution::Nano => 9,
        }
    }

    /// `time_ns` as seconds with all digits that this resolution has.
    pub fn seconds(self, time_ns: u64) -> String {
        let (seconds, rest) = (time_ns / NANOS, time_ns % NANOS / self.nanos());
        format!("{seconds}.{rest:0digits$}", digits = self.digits())
    }
}

/// One frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was captured, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Its length on the wire, in bytes.
    pub wire_len: u32,
    /// What was captured of it.
    pub bytes: &'a [u8],
}

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
        // The high bits say whether and how long check sequences follow the frames.
        let link_type = word(&header, 20, swapped) & 0x0fff_ffff;
        if link_type != LINK_TYPE_ETHERNET {
            return Err(CaptureError::LinkType { path, link_type });
        }
        Ok(Reader { path, input, swapped, resolution, records: 0, buffer: Vec::new() })
    }

    /// The resolution of its time stamps.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// When reading fails, a record claims too much, or the file ends within one.
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

    /// Reads all of `bytes`, or nothing at the end of the file: false.
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

/// Writes a capture.
#[derive(Debug)]
pub struct Writer<W: Write> {
    path: String,
    output: W,
    resolution: Resolution,
}

impl Writer<BufWriter<File>> {
    /// Creates the capture at `path`, or empties what is there.
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

    /// The resolution of its time stamps.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Writes a whole frame.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(&mut self, time_ns: u64, frame: &[u8]) -> Result<(), CaptureError> {
        let seconds = (time_ns / NANOS) as u32;
        let fraction = (time_ns % NANOS / self.resolution.nanos()) as u32;
        let len = frame.len() as u32;
        self.write_words(&[seconds, fraction, len, len])?;
        let written = self.output.write_all(frame);
        self.told(written)
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// When writing fails.
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        let flushed = self.output.flush();
        self.told(flushed)
    }

    fn write_words(&mut self, words: &[u32]) -> Result<(), CaptureError> {
        for word in words {
            let written = self.output.write_all(&word.to_le_bytes());
            self.told(written)?;
        }
        Ok(())
    }

    fn told(&self, result: std::io::Result<()>) -> Result<(), CaptureError> {
        result.map_err(|source| CaptureError::Io { path: self.path.clone(), source })
    }
}

fn word(bytes: &[u8], at: usize, swapped: bool) -> u32 {
    let found = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    let word = found.map_or(0, |chunk| u32::from_le_bytes(*chunk));
    if swapped { word.swap_bytes() } else { word }
}

const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
const MAGIC_NANO: u32 = 0xa1b2_3c4d;
const MAGIC_PCAPNG: u32 = 0x0a0d_0d0a;
const LINK_TYPE_ETHERNET: u32 = 1;
const FILE_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;
const NANOS: u64 = 1_000_000_000;
const BUFFER_LEN: usize = 256 * 1024;

/// The longest record that libpcap itself writes (`MAXIMUM_SNAPLEN`).
const RECORD_LEN_MAX: usize = 262_144;

#[cfg(test)]
mod tests {
    use super::*;

    /// A capture of one frame of 60 bytes, of which three are kept, in the byte order of `bytes`.
    fn sample(bytes: fn(u32) -> [u8; 4], magic: u32, fraction: u32) -> Vec<u8> {
        let half = if bytes(1) == 1u32.to_le_bytes() { 2 | 4 << 16 } else { 2 << 16 | 4 };
        let words = [magic, half, 0, 0, 65535, 1, 7, fraction, 3, 60];
        let mut file: Vec<u8> = words.into_iter().flat_map(bytes).collect();
        file.extend([1, 2, 3]);
        file
    }

    fn read(file: &[u8]) -> Result<Reader<&[u8]>, CaptureError> {
        Reader::new("a.pcap", file)
    }

    #[test]
    fn both_orders_and_resolutions_are_read() {
        let expected = Record { time_ns: 7_000_123_000, wire_len: 60, bytes: &[1, 2, 3] };
        for bytes in [u32::to_le_bytes, u32::to_be_bytes] {
            for (magic, fraction) in [(MAGIC_MICRO, 123), (MAGIC_NANO, 123_000)] {
                let file = sample(bytes, magic, fraction);
                let mut reader = read(&file).unwrap();
                assert_eq!(reader.next_record().unwrap(), Some(expected));
                assert_eq!(reader.next_record().unwrap(), None);
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_with_its_record() {
        let file = sample(u32::to_le_bytes, MAGIC_MICRO, 1);
        for len in 0..24 {
            assert!(matches!(read(&file[..len]), Err(CaptureError::Io { .. })), "{len}");
        }
        for len in 25..file.len() {
            let error = read(&file[..len]).unwrap().next_record().unwrap_err();
            assert!(matches!(error, CaptureError::CutOff { record: 1, .. }), "{len}: {error}");
        }
        assert_eq!(read(&file[..24]).unwrap().next_record().unwrap(), None);
    }

    #[test]
    fn what_is_no_ethernet_pcap_is_named() {
        let mut file = sample(u32::to_le_bytes, MAGIC_MICRO, 1);
        file[20] = 113;
        assert!(matches!(read(&file), Err(CaptureError::LinkType { link_type: 113, .. })));
        file[..4].copy_from_slice(&MAGIC_PCAPNG.to_le_bytes());
        assert!(matches!(read(&file), Err(CaptureError::PcapNg { .. })));
        file[..4].copy_from_slice(b"#!/b");
        assert!(matches!(read(&file), Err(CaptureError::Magic { .. })));
        let mut file = sample(u32::to_le_bytes, MAGIC_MICRO, 1);
        file[32..36].copy_from_slice(&[0xff; 4]);
        let error = read(&file).unwrap().next_record().unwrap_err();
        assert!(matches!(error, CaptureError::RecordLen { record: 1, .. }));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for resolution in [Resolution::Micro, Resolution::Nano] {
            let mut file = Vec::new();
            let mut writer = Writer::new("b.pcap", &mut file, resolution).unwrap();
            writer.write(1_700_000_000_123_456_000, &[9; 60]).unwrap();
            writer.write(1_700_000_001_000_000_000, &[]).unwrap();
            writer.flush().unwrap();
            let mut reader = read(&file).unwrap();
            assert_eq!(reader.resolution(), resolution);
            let first = reader.next_record().unwrap().unwrap();
            assert_eq!((first.time_ns, first.bytes), (1_700_000_000_123_456_000, &[9; 60][..]));
            assert!(reader.next_record().unwrap().unwrap().bytes.is_empty());
            assert_eq!(reader.next_record().unwrap(), None);
        }
    }

    #[test]
    fn times_are_shown_with_their_digits() {
        assert_eq!(Resolution::Micro.seconds(7_000_123_000), "7.000123");
        assert_eq!(Resolution::Nano.seconds(7_000_123_004), "7.000123004");
    }
}
