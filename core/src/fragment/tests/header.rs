//! The headers of reassembled datagrams.

use super::*;

#[test]
fn headers_of_reassembled_datagrams_are_completed() {
    let reassembled = Reassembled { port: PortIndex(0), fragments: 2, len: 24, is_marked: true };
    // As librte_ip_frag returns them: length and fragment word are right, the checksum is not.
    let mut bytes = ipv4_frame(1, 6, 0, 24, false);
    put_u16(&mut bytes[14..], 10, 0);
    let mut frame = HeapFrame::new(&bytes);
    assert!(complete_header(&mut frame, &reassembled));
    assert!(Ipv4::parse(&frame.bytes()[14..]).is_ok());
    assert_eq!(frame.bytes()[15] & 3, 3);
    for wrong in [23, 25] {
        let reassembled = Reassembled { len: wrong, ..reassembled };
        assert!(!complete_header(&mut HeapFrame::new(&bytes), &reassembled), "{wrong}");
    }
    assert!(!complete_header(&mut HeapFrame::new(&ipv4_frame(1, 6, 0, 24, true)), &reassembled));
}
