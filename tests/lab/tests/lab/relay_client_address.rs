//! Targets that learn of a client's address by a TCP option: what the target's interface sees of
//! the kernel's connections, and that these are as good as without it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::process::Stdio;

use anyrelay_kit::frames::{ACK, SYN, Segment};
use anyrelay_lab::config::{Service, VIP_PORT};
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::packet::{MAX_FRAME_BYTES, PacketSocket};
use anyrelay_lab::traffic::Connection;
use anyrelay_lab::{Lab, topology};

use crate::common::flaps::{flip, while_flipping};
use crate::common::{
    Busy, TARGET, VIP, connect, drops, full, metric, milliseconds, netstat, serve,
};

fn telling() -> LabBuilder {
    Lab::builder().service(Service::default().telling())
}

/// A segment to the target, and the client that its option names.
struct Told {
    segment: Segment,
    client: Option<SocketAddr>,
}

/// What waits at the target's interface of segments to it.
fn arrived(seen: &PacketSocket) -> Vec<Told> {
    let (mut buffer, mut all) = ([0; MAX_FRAME_BYTES], Vec::new());
    while let Some(frame) = seen.receive(&mut buffer) {
        let segment = frame.get(14..).and_then(Segment::read);
        if let Some(segment) = segment.filter(|segment| segment.dst == TARGET.into()) {
            let client = named(&segment.options);
            all.push(Told { segment, client });
        }
    }
    all
}

/// The first option of kind 254, as a walk over the options finds it.
fn experiment(mut options: &[u8]) -> Option<&[u8]> {
    loop {
        match options {
            [] | [0, ..] => return None,
            [1, rest @ ..] => options = rest,
            [254, len, ..] => return options.get(..usize::from(*len)),
            [_, len, ..] if *len >= 2 => options = options.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

/// What a kernel module finds as it walks over the options.
fn named(options: &[u8]) -> Option<SocketAddr> {
    match experiment(options)? {
        [254, 8, high, low, a, b, c, d] => {
            Some(SocketAddr::from(([*a, *b, *c, *d], u16::from_be_bytes([*high, *low]))))
        }
        _ => None,
    }
}

/// A connection of a client's kernel, whose SYN and whose ACK that ends the handshake tell the
/// target of it.
fn handshake_tells(seen: &PacketSocket, connection: &Connection) {
    let local = connection.stream().local_addr().unwrap();
    std::thread::sleep(milliseconds(200));
    let all = arrived(seen);
    let of = |flags: u8| all.iter().filter(move |told| told.segment.flags & (SYN | ACK) == flags);
    let syn = of(SYN).next().expect("a SYN");
    let ack = of(ACK).next().expect("the ACK that ends the handshake");
    assert_eq!((syn.client, ack.client), (Some(local), Some(local)));
    assert_eq!(ack.segment.seq, syn.segment.seq.wrapping_add(1));
    assert!(ack.segment.data.is_empty());
    assert_ne!(syn.segment.src, local, "a pool stands between them");
}

/// Transfers go on while routes flip, and every segment without data tells the target.
fn transfers_go_on(builder: LabBuilder) {
    let mut lab = builder.build().unwrap();
    let seen = PacketSocket::open(&lab.topology.target, "net0").unwrap();
    let server = serve(&lab);
    let mut connection = connect(&lab);
    handshake_tells(&seen, &connection);
    drop(seen);
    let local = connection.stream().local_addr().unwrap();
    let mut all_acks = 0;
    for round in 0..4 {
        for direction in anyrelay_lab::Direction::BOTH {
            lab.routes.to(direction, round % 3).unwrap();
        }
        let seen = PacketSocket::open(&lab.topology.target, "net0").unwrap();
        connection.download(round as u64, 300_000).unwrap();
        connection.upload(round as u64, 300_000).unwrap();
        let all = arrived(&seen);
        let (acks, data): (Vec<_>, Vec<_>) =
            all.iter().partition(|told| told.segment.data.is_empty());
        println!("round {round}: {} without data, {} with", acks.len(), data.len());
        // A busy host acknowledges little, as it takes in much at a time.
        all_acks += acks.len();
        assert!(data.len() > 100);
        // Three blocks of SACK and timestamps fill the options.
        let has_room = |told: &&&Told| told.client.is_some() || told.segment.options.len() <= 32;
        for told in acks.iter().filter(has_room) {
            assert_eq!(told.client, Some(local), "{:?}", told.segment);
        }
        assert!(data.iter().all(|told| told.client.is_none()));
    }
    assert!(all_acks > 10);
    let busy = Busy::start(&lab);
    flip(&mut lab, if full() { 300 } else { 30 });
    println!("longest stall {:?}", busy.finish());
    assert_eq!(server.accepted(), 3, "one connection each");
    assert_eq!(drops(&lab, "bad_tag"), 0.0);
    assert_eq!(metric(&lab, "anyrelay_syns_without_client_address_total", &[]), 0.0);
    assert!(metric(&lab, "anyrelay_fast_frames_total", &[]) > 0.0);
}

#[test]
fn the_target_reads_the_client_and_transfers_go_on() {
    transfers_go_on(telling());
}

#[test]
fn the_target_reads_clients_without_timestamps() {
    transfers_go_on(telling().client_timestamps(false));
}

/// The target's kernel keeps nothing of the SYN, so that only the ACK tells it.
#[test]
fn syn_cookies_and_the_option_get_along() {
    let mut lab = telling().build().unwrap();
    lab.topology.target.sysctl("net.ipv4.tcp_syncookies", "2").unwrap();
    let server = serve(&lab);
    let seen = PacketSocket::open(&lab.topology.target, "net0").unwrap();
    let mut connection = connect(&lab);
    handshake_tells(&seen, &connection);
    drop(seen);
    assert!(netstat(&lab.topology.target, "SyncookiesRecv") > 0, "a cookie came back");
    while_flipping(&mut lab.routes, || {
        connection.download(1, 2_000_000).unwrap();
        connection.upload(2, 2_000_000).unwrap();
    });
    assert_eq!(server.accepted(), 1);
}

/// A program that reads it of the SYN, which the kernel keeps for it, and needs no module; also
/// where the kernel drops the ACK that ends the handshake, since accepting waits for data.
#[test]
fn a_program_reads_the_client_of_the_saved_syn() {
    const SERVER: &str = "
import socket
IPPROTO_TCP, TCP_DEFER_ACCEPT, TCP_SAVE_SYN, TCP_SAVED_SYN = 6, 9, 27, 28
listener = socket.create_server(('198.51.100.10', 8080))
listener.setsockopt(IPPROTO_TCP, TCP_SAVE_SYN, 1)
for seconds in (0, 5):
    listener.setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds)
    print('listens', flush=True)
    accepted, _ = listener.accept()
    print(accepted.getsockopt(IPPROTO_TCP, TCP_SAVED_SYN, 200).hex(), flush=True)
    accepted.close()
";
    let lab = telling().build().unwrap();
    let mut server = lab.topology.target.command("python3");
    let mut server = server.args(["-c", SERVER]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut line = || lines.next().expect("a line of the server").unwrap();
    for deferred in [false, true] {
        assert_eq!(line(), "listens");
        let connection = connect(&lab);
        let local = connection.stream().local_addr().unwrap();
        std::thread::sleep(milliseconds(100));
        (&mut connection.stream()).write_all(b"data").unwrap();
        let saved = line();
        let byte = |at| u8::from_str_radix(&saved[at..at + 2], 16).unwrap();
        let saved: Vec<u8> = (0..saved.len()).step_by(2).map(byte).collect();
        let syn = Segment::read(&saved).expect("the headers of a SYN");
        assert_eq!((syn.flags, named(&syn.options)), (SYN, Some(local)), "{deferred}");
        let dropped = netstat(&lab.topology.target, "TCPDeferAcceptDrop");
        assert_eq!(dropped > 0, deferred, "{dropped} ACKs without data were dropped");
    }
    assert!(server.wait().unwrap().success());
}

/// The option of a client at this port begins as that of an experiment with TCP Fast Open.
#[test]
fn a_port_that_looks_like_fast_open_connects() {
    const FAST_OPEN_MAGIC: u16 = 0xf989;
    let lab = telling().build().unwrap();
    // For clients and servers, and at sockets that do not ask for it.
    lab.topology.target.sysctl("net.ipv4.tcp_fastopen", "1027").unwrap();
    let _server = serve(&lab);
    let seen = PacketSocket::open(&lab.topology.target, "net0").unwrap();
    let near = PacketSocket::open(&lab.topology.client, "net0").unwrap();
    let from = SocketAddrV4::new(topology::CLIENT, FAST_OPEN_MAGIC);
    let client = lab.topology.client.thread(move || Connection::open_from(from, VIP)).unwrap();
    let mut connection = client.join().unwrap().unwrap().unwrap();
    handshake_tells(&seen, &connection);
    connection.download(1, 100_000).unwrap();
    connection.upload(2, 100_000).unwrap();
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut syn_acks = 0;
    while let Some(frame) = near.receive(&mut buffer) {
        let segment = frame.get(14..).and_then(Segment::read);
        let is_syn_ack = |it: &Segment| it.src.port() == VIP_PORT && it.flags & SYN != 0;
        if let Some(segment) = segment.filter(is_syn_ack) {
            syn_acks += 1;
            println!("to the client: {:02x?}", segment.options);
            assert_eq!(experiment(&segment.options), None, "{segment:?}");
        }
    }
    assert_eq!(syn_acks, 1);
    println!("{} passive", netstat(&lab.topology.target, "TCPFastOpenPassive"));
    println!("{} cookies asked for", netstat(&lab.topology.target, "TCPFastOpenCookieReqd"));
}
