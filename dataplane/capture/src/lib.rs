//! Captures: classic pcap files, read and written record by record (the format of libpcap's
//! `pcap-savefile(5)`).
//!
//! Both byte orders and both resolutions are read; Ethernet is the only link type. Memory does not
//! grow with the file. This is a crate, so that tests and fuzz targets use it without DPDK.
#![deny(unsafe_code)]

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

/// Why a capture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened or created.
    #[error("{path} cannot be opened: {source}")]
    Open {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file does not start with the magic number of a pcap file.
    #[error("{path} is no pcap file: it begins with {magic:#010x}")]
    Magic {
        /// The file.
        path: String,
        /// The first four bytes.
        magic: u32,
    },
    /// The file is a pcapng file.
    #[error(
        "{path} is a pcapng file, which is not read here; \
         `editcap -F pcap IN OUT` makes a pcap of it"
    )]
    PcapNg {
        /// The file.
        path: String,
    },
    /// The link type is not Ethernet.
    #[error("{path} has link type {link_type}; only Ethernet (1) can be replayed")]
    LinkType {
        /// The file.
        path: String,
        /// The number in its header.
        link_type: u32,
    },
    /// The length of a record exceeds that of any frame.
    #[error("{path}: record {record} claims {len} bytes, more than {RECORD_LEN_MAX}")]
    RecordLen {
        /// The file.
        path: String,
        /// The number of the record, from 1.
        record: u64,
        /// The length in the record's header, in bytes.
        len: u32,
    },
    /// The file ends inside a record.
    #[error("{path} ends in the middle of record {record}; what came before it was done")]
    CutOff {
        /// The file.
        path: String,
        /// The number of the record, from 1.
        record: u64,
    },
}

/// The resolution of time stamps.
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

    /// The number of decimal places of a second.
    pub const fn digits(self) -> usize {
        match self {
            Resolution::Micro => 6,
            Resolution::Nano => 9,
        }
    }

    /// `time_ns` as seconds, with all digits of this resolution.
    pub fn seconds(self, time_ns: u64) -> String {
        let (seconds, rest) = (time_ns / NANOS, time_ns % NANOS / self.nanos());
        format!("{seconds}.{rest:0digits$}", digits = self.digits())
    }
}

/// One frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The time of capture, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The length on the wire, in bytes.
    pub wire_len: u32,
    /// The captured bytes, which may be fewer.
    pub bytes: &'a [u8],
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
