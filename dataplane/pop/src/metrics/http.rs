//! A small HTTP/1.1 listener for metrics and health checks.
//!
//! It has a fixed number of threads with one connection each. A request head has at most
//! [`HEAD_MAX`] bytes; a connection ends after [`DEADLINE`], however slow it is, and after one
//! response (`Connection: close`). Methods are `GET` and `HEAD`; bodies of requests are not read.
//! Source: RFC 9112.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The maximum length of a request head, in bytes.
pub const HEAD_MAX: usize = 8 * 1024;

/// The maximum duration of a connection.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, which determines the reason phrase.
    pub status: u16,
    /// The body's media type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Response {
    /// A plain-text response.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// Responds to a path (without its query).
pub type Handler = Arc<dyn Fn(&str) -> Response + Send + Sync>;

/// Serves `listener` with `threads` threads until the process ends.
///
/// # Errors
/// When the listener cannot be shared, or a thread cannot be started.
pub fn serve(listener: &TcpListener, threads: usize, handler: &Handler) -> io::Result<()> {
    for number in 0..threads {
        let listener = listener.try_clone()?;
        let handler = Arc::clone(handler);
        thread::Builder::new()
            .name(format!("http-{number}"))
            .spawn(move || accept_loop(&listener, &handler))?;
    }
    Ok(())
}

fn accept_loop(listener: &TcpListener, handler: &Handler) {
    loop {
        match listener.accept() {
            // Errors of a connection need no action.
            Ok((stream, _)) => drop(answer(stream, handler)),
            // Probably no descriptor is left: retry, without spinning.
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

fn answer(mut stream: TcpStream, handler: &Handler) -> io::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let mut head = [0; HEAD_MAX];
    let (response, with_body) = match read_head(&mut stream, &mut head, deadline)? {
        RequestHead::TooLong => (Response::text(431, "request head too long\n"), true),
        RequestHead::Closed => return Ok(()),
        RequestHead::Complete(head) => respond(head, handler),
    };
    write_response(&mut stream, &response, with_body, deadline)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // The input is read to its end: for unread bytes the kernel would send a RST, which could make
    // the peer discard the response.
    let mut rest = [0; 1024];
    for _ in 0..DRAIN_READS {
        set_timeout(&stream, deadline)?;
        if stream.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

enum RequestHead<'a> {
    Complete(&'a [u8]),
    TooLong,
    Closed,
}

fn read_head<'a>(
    stream: &mut TcpStream,
    head: &'a mut [u8; HEAD_MAX],
    deadline: Instant,
) -> io::Result<RequestHead<'a>> {
    let mut len = 0;
    loop {
        let Some(room) = head.get_mut(len..).filter(|room| !room.is_empty()) else {
            return Ok(RequestHead::TooLong);
        };
        set_timeout(stream, deadline)?;
        let count = stream.read(room)?;
        if count == 0 {
            return Ok(RequestHead::Closed);
        }
        // The blank line may span two reads.
        let from = len.saturating_sub(3);
        len += count;
        let fresh = head.get(from..len).unwrap_or_default();
        if fresh.windows(4).any(|four| four == b"\r\n\r\n") {
            return Ok(RequestHead::Complete(head.get(..len).unwrap_or_default()));
        }
    }
}

/// The response to a request head, and whether to send its body.
fn respond(head: &[u8], handler: &Handler) -> (Response, bool) {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return (Response::text(400, "not an HTTP request line\n"), true);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return (Response::text(400, "not an HTTP/1 request for a path\n"), true);
    }
    let path = target.split('?').next().unwrap_or_default();
    match method {
        "GET" => (handler(path), true),
        "HEAD" => (handler(path), false),
        _ => (Response::text(405, "only GET and HEAD\n"), true),
    }
}

fn write_response(
    stream: &mut TcpStream,
    response: &Response,
    with_body: bool,
    deadline: Instant,
) -> io::Result<()> {
    let Response { status, content_type, body } = response;
    let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        reason(*status),
        body.len(),
    );
    if with_body {
        text.push_str(body);
    }
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        set_timeout(stream, deadline)?;
        let count = stream.write(rest)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Limits the next read or write to the time until `deadline`.
fn set_timeout(stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The maximum number of reads after the response.
const DRAIN_READS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `request` to a new listener and returns the whole response.
    fn exchange(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let handler: Handler = Arc::new(|path| match path {
            "/known" => Response::text(200, "here\n"),
            _ => Response::text(404, "no such page\n"),
        });
        serve(&listener, 1, &handler).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
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
    fn a_peer_that_drips_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let handler: Handler = Arc::new(|_| Response::text(200, ""));
        serve(&listener, 1, &handler).unwrap();
        let start = Instant::now();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut failed = false;
        // A full head takes far longer at this pace.
        while start.elapsed() < DEADLINE + Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(100));
            if stream.write_all(b"G").is_err() {
                failed = true;
                break;
            }
        }
        assert!(failed && start.elapsed() >= DEADLINE);
    }
}
