//! Tests of reader and writer.

use crate::*;

/// A capture of one frame of 60 bytes, truncated to three, in the byte order of `bytes`.
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
