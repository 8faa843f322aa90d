//! Captures, as `anyrelay replay` reads them: any file is read to its end or refused, and a written
//! capture reads as it was written.
//!
//! Input: the file.

use anyrelay_capture::{Reader, Writer};

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(mut reader) = Reader::new("in", input) else { return };
    let resolution = reader.resolution();
    let (mut written, mut records) = (Vec::new(), Vec::new());
    let mut writer = Writer::new("out", &mut written, resolution).unwrap();
    let whole = loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                writer.write(record.time_ns, record.bytes).unwrap();
                records.push((record.time_ns, record.bytes.to_vec()));
                assert!(records.len() <= input.len() / 16);
            }
            Ok(None) => break true,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break false;
            }
        }
    };
    writer.flush().unwrap();
    drop(writer);
    let mut again = Reader::new("out", &written[..]).unwrap();
    for (_, bytes) in &records {
        assert_eq!(again.next_record().unwrap().unwrap().bytes, bytes);
    }
    assert!(again.next_record().unwrap().is_none() || !whole);
}
