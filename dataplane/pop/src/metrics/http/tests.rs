use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use super::*;

struct Pages;

impl Site for Pages {
    fn page(&self, path: &str) -> Page {
        match path {
            "/known" => Page::Ready(Response::text(200, "here\n")),
            "/computed" => Page::Computed,
            _ => Page::Ready(Response::text(404, "no such page\n")),
        }
    }

    fn compute(&self) -> Response {
        thread::sleep(COMPUTATION);
        Response::text(200, "a".repeat(COMPUTED_LEN))
    }
}

const COMPUTATION: Duration = Duration::from_millis(300);
/// More than sockets buffer.
const COMPUTED_LEN: usize = 16 << 20;
const LONG: Duration = Duration::from_secs(600);

fn served(connections: usize, deadline: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, Limits { connections, deadline }, Pages).unwrap();
    address
}

fn connect(address: SocketAddr, text: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(text).unwrap();
    stream
}

/// Sends `request` and returns the whole response.
fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut answer = String::new();
    connect(address, request).read_to_string(&mut answer).unwrap();
    answer
}

/// Sends `request` to a new listener and returns the whole response.
fn exchange(request: &[u8]) -> String {
    ask(served(8, LONG), request)
}

/// Whether the server has ended the connection: by a FIN or a RST, within a minute.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 65536];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// Whether the connection is open, and nothing has come.
fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn answers_get_and_head() {
    let answer = exchange(b"GET /known?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("Content-Length: 5\r\n") && answer.ends_with("\r\n\r\nhere\n"));
    let answer = exchange(b"HEAD /known HTTP/1.1\r\n\r\n");
    assert!(answer.contains("Content-Length: 5\r\n") && answer.ends_with("\r\n\r\n"));
    assert!(exchange(b"GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
}

#[test]
fn answers_with_the_computed_page() {
    let answer = exchange(b"GET /computed HTTP/1.1\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {COMPUTED_LEN}")), "{head}");
    assert!(body.len() == COMPUTED_LEN && body.bytes().all(|byte| byte == b'a'));
    let answer = exchange(b"HEAD /computed HTTP/1.1\r\n\r\n");
    assert!(answer.contains("Content-Length: 16777216\r\n") && answer.ends_with("\r\n\r\n"));
}

#[test]
fn refuses_other_requests() {
    let answer = exchange(b"POST /known HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Allow: GET, HEAD"));
    assert!(exchange(b"GET\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(exchange(b"GET /a HTTP/3\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(exchange(b"\xff\xfe / \r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = [b"GET /".as_slice(), &[b'a'; HEAD_MAX], b" HTTP/1.1\r\n\r\n"].concat();
    assert!(exchange(&long).starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_request_in_parts_is_answered() {
    let mut stream = connect(served(8, LONG), b"GET /kno");
    for part in [&b"wn HTTP/1.1\r"[..], b"\n\r", b"\n"] {
        thread::sleep(Duration::from_millis(50));
        stream.write_all(part).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_peer_that_drips_is_cut_off() {
    let deadline = Duration::from_secs(1);
    let address = served(8, deadline);
    let start = Instant::now();
    let mut stream = connect(address, b"");
    let mut failed = false;
    // A full head takes far longer at this pace.
    while start.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(50));
        if stream.write_all(b"G").is_err() {
            failed = true;
            break;
        }
    }
    assert!(failed && start.elapsed() >= deadline);
}

/// Idle ones, some within a request, some within an endless head, and some that do not read what
/// they asked for: all are held, and others are answered.
#[test]
fn a_thousand_connections_are_held_and_others_answered() {
    let address = served(1024, LONG);
    let huge = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; HEAD_MAX - 100]].concat();
    let mut held = Vec::new();
    for text in [&b""[..], b"GET /kno", &huge] {
        held.extend((0..333).map(|_| connect(address, text)));
    }
    let mut computed: Vec<_> =
        (0..COMPUTED_MAX).map(|_| connect(address, b"GET /computed HTTP/1.1\r\n\r\n")).collect();
    // The best of some, as this machine may have other work.
    let once = || {
        let start = Instant::now();
        assert!(ask(address, b"GET /known HTTP/1.1\r\n\r\n").ends_with("here\n"));
        start.elapsed()
    };
    let best = (0..20).map(|_| once()).min().unwrap();
    assert!(best < Duration::from_millis(100), "{best:?}");
    assert!(held.iter_mut().all(is_open));
    // One more who asks for the computed page takes the place of the first who did.
    assert!(ask(address, b"GET /computed HTTP/1.1\r\n\r\n").ends_with("aaa"));
    assert!(is_closed(&mut computed[0]));
    assert!(computed[1].read(&mut [0; 8]).is_ok_and(|count| count > 0));
}

#[test]
fn the_oldest_without_a_request_gives_way() {
    let address = served(3, LONG);
    let mut waiting = connect(address, b"GET /computed HTTP/1.1\r\n\r\n");
    // It is served, so that its request was read.
    waiting.read_exact(&mut [0; 8]).unwrap();
    let (mut first, mut second) = (connect(address, b"G"), connect(address, b"G"));
    let mut third = connect(address, b"G");
    assert!(is_closed(&mut first));
    assert!(ask(address, b"GET /known HTTP/1.1\r\n\r\n").ends_with("here\n"));
    assert!(is_closed(&mut second) && is_open(&mut third));
    let mut rest = Vec::new();
    waiting.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > COMPUTED_LEN);
}
