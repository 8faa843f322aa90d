//! HTTP as the connections of a fleet speak it: what is asked, what is answered, and at which pace.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use super::PIECE;
use crate::topology::CLIENT;
use crate::traffic::{bind_from, connect_to};

/// HTTP on one connection.
pub(super) struct Http {
    pub stream: BufReader<TcpStream>,
    pub progress: Instant,
    pub longest_stall: Duration,
}

/// The head of an answer.
pub(super) struct Answer {
    pub length: usize,
    pub target: Option<SocketAddr>,
}

impl Http {
    /// Connects from a place, or from a free port of the client if it is not said; `client` is
    /// where it connects from, also if that fails.
    pub fn open(
        from: Option<SocketAddrV4>,
        vip: SocketAddr,
        client: &mut Option<SocketAddr>,
    ) -> io::Result<Self> {
        let progress = Instant::now();
        let stream = match vip {
            SocketAddr::V4(vip) => {
                let from = from.unwrap_or(SocketAddrV4::new(CLIENT, 0));
                let socket = bind_from(from, Some(TIMEOUT))?;
                *client = SocketAddr::try_from(rustix::net::getsockname(&socket)?).ok();
                connect_to(socket, vip)?
            }
            SocketAddr::V6(_) => TcpStream::connect_timeout(&vip, TIMEOUT)?,
        };
        *client = stream.local_addr().ok();
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let longest_stall = progress.elapsed();
        Ok(Self { stream: BufReader::with_capacity(PIECE, stream), progress, longest_stall })
    }

    pub fn get(&mut self, file: &str) -> io::Result<Answer> {
        self.ask(&format!("GET /files/{file}"), "")?;
        self.answer()
    }

    pub fn ask(&mut self, what: &str, fields: &str) -> io::Result<()> {
        self.send(format!("{what} HTTP/1.1\r\nHost: lab\r\n{fields}\r\n").as_bytes())
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.progress = Instant::now();
        self.stream.get_mut().write_all(bytes)?;
        self.progressed();
        Ok(())
    }

    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        self.progressed();
        if !lines.first().is_some_and(|line| line.starts_with("HTTP/1.1 20")) {
            return Err(io::Error::other(lines.join("; ")));
        }
        let field = |name| lines.iter().find_map(|line| line.strip_prefix(name));
        let length = field("Content-Length: ").and_then(|word| word.parse().ok());
        let target = field("X-Target: ").and_then(|text| {
            let (ip, port) = text.split_once(' ')?;
            Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
        });
        Ok(Answer { length: length.unwrap_or(0), target })
    }

    pub fn body_of(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = vec![0; answer.length];
        self.stream.read_exact(&mut body)?;
        self.progressed();
        Ok(body)
    }

    fn progressed(&mut self) {
        self.longest_stall = self.longest_stall.max(self.progress.elapsed());
        self.progress = Instant::now();
    }
}

/// The body of an answer, read at a pace.
pub(super) struct Slow<'a> {
    pub http: &'a mut Http,
    /// What is still to come.
    pub left: usize,
    pub pace: &'a Pace,
}

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = buffer.len().min(self.left).min(PIECE);
        if size == 0 {
            return Ok(0);
        }
        self.pace.wait(self.pace.bytes.saturating_sub(self.left));
        self.http.progress = Instant::now();
        let got = self.http.stream.read(buffer.get_mut(..size).unwrap_or_default())?;
        self.http.progressed();
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got;
        Ok(got)
    }
}

/// Spreads bytes evenly over a time.
pub(super) struct Pace {
    bytes: usize,
    start: Instant,
    seconds_per_byte: f64,
}

impl Pace {
    pub fn of(lasts: Duration, bytes: usize) -> Self {
        let seconds_per_byte = lasts.as_secs_f64() / bytes.max(1) as f64;
        Self { bytes, start: Instant::now(), seconds_per_byte }
    }

    /// Until it is time for what follows so many bytes.
    pub fn wait(&self, bytes: usize) {
        let due = Duration::from_secs_f64(bytes as f64 * self.seconds_per_byte);
        std::thread::sleep(due.saturating_sub(self.start.elapsed()));
    }
}

/// A SYN that is lost three times is sent again after 7 s; a connection without any progress for
/// this long has failed.
const TIMEOUT: Duration = Duration::from_secs(15);
