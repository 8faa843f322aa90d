//! Lookup of a TXT record at the name servers of resolv.conf(5) (RFC 1035; `simple_dns` parses the
//! messages).
//!
//! Servers are queried in turn, over UDP and, after a truncated response, over TCP. A response
//! counts only from the queried server, with the question that was sent. DNS only locates a peer: a
//! forged response can do no more than prevent that.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use socket2::{Domain, Socket, Type};

use super::token_in;
use crate::local::PublicToken;
use crate::outer::Steering;

/// The token in a TXT record, and its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The peer's token.
    pub token: PublicToken,
    /// The record's time to live.
    pub ttl: Duration,
}

/// Why a lookup failed.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The name cannot be queried.
    #[error("dns:{0}: not a host name")]
    Name(String),
    /// No server answered.
    #[error("dns:{name}: no answer from {servers}: {last}")]
    NoAnswer {
        /// The name.
        name: String,
        /// The queried servers.
        servers: String,
        /// The error of the last one.
        last: String,
    },
    /// The name has no TXT record with a token.
    #[error("dns:{name}: {reason}")]
    NoToken {
        /// The name.
        name: String,
        /// The reason.
        reason: String,
    },
}

/// Whether `text` is a name that can be queried.
pub fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.bytes().all(good) && Name::new(text).is_ok()
}

/// Queries the servers of /etc/resolv.conf for the token at `name`, by the mark and interface of
/// `steering`: a peer must be found before the tunnel to it is up. Takes seconds when they do not
/// answer.
///
/// # Errors
/// See [`DnsError`].
pub fn lookup(name: &str, steering: &Steering) -> Result<TokenRecord, DnsError> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    query_all(name, &servers(&text), steering)
}

/// Queries `servers`, each at most [`ROUNDS`] times.
fn query_all(
    name: &str,
    servers: &[SocketAddr],
    steering: &Steering,
) -> Result<TokenRecord, DnsError> {
    let mut last = String::new();
    for _ in 0..ROUNDS {
        for server in servers {
            match query_server(name, *server, steering) {
                Ok(Ok(answer)) => return Ok(answer),
                // The name has no token; other servers would say the same.
                Ok(Err(reason)) => {
                    return Err(DnsError::NoToken { name: name.to_owned(), reason });
                }
                Err(QueryError::Name) => return Err(DnsError::Name(name.to_owned())),
                Err(QueryError::Failed(error)) => last = error,
            }
        }
    }
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let (name, servers) = (name.to_owned(), servers.join(", "));
    Err(DnsError::NoAnswer { name, servers, last })
}

enum QueryError {
    Name,
    Failed(String),
}

impl From<io::Error> for QueryError {
    fn from(error: io::Error) -> Self {
        QueryError::Failed(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timed out".to_owned(),
            _ => error.to_string(),
        })
    }
}

fn query_server(
    name: &str,
    server: SocketAddr,
    steering: &Steering,
) -> Result<Result<TokenRecord, String>, QueryError> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| QueryError::Failed(error.to_string()))?;
    let id = u16::from_be_bytes(id);
    let query = build_query(id, name).ok_or(QueryError::Name)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    steer(&socket, server, steering)?;
    // The kernel then drops datagrams from other addresses.
    socket.connect(server)?;
    socket.send(&query)?;
    let until = Instant::now() + TIMEOUT;
    let mut buffer = [0; UDP_MAX];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(QueryError::Failed("timed out".to_owned()));
        }
        socket.set_read_timeout(Some(left))?;
        let len = socket.recv(&mut buffer)?;
        match parse_response(id, name, buffer.get(..len).unwrap_or_default()) {
            DnsResponse::Answer(answer) => return Ok(answer),
            DnsResponse::Truncated => break,
            DnsResponse::Failed(error) => return Err(QueryError::Failed(error)),
            // Not a response to this query: keep waiting.
            DnsResponse::Other => {}
        }
    }
    match parse_response(id, name, &over_tcp(&query, server, steering)?) {
        DnsResponse::Answer(answer) => Ok(answer),
        DnsResponse::Failed(error) => Err(QueryError::Failed(error)),
        DnsResponse::Truncated | DnsResponse::Other => {
            Err(QueryError::Failed("no usable answer".to_owned()))
        }
    }
}

/// No interface but the loopback leads to a server on this host.
fn steer(socket: &impl AsFd, server: SocketAddr, steering: &Steering) -> io::Result<()> {
    let mark = steering.mark;
    let interface = steering.interface.clone().filter(|_| !server.ip().is_loopback());
    Ok(Steering { mark, interface }.apply(socket)?)
}

fn over_tcp(query: &[u8], server: SocketAddr, steering: &Steering) -> io::Result<Vec<u8>> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    steer(&socket, server, steering)?;
    socket.connect_timeout(&server.into(), TIMEOUT)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let len = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes()[..], query].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn build_query(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).ok()?;
    let (kind, class) = (QTYPE::TYPE(TYPE::TXT), QCLASS::CLASS(CLASS::IN));
    packet.questions.push(Question::new(name, kind, class, false));
    packet.build_bytes_vec().ok()
}

enum DnsResponse {
    Answer(Result<TokenRecord, String>),
    Truncated,
    Failed(String),
    Other,
}

fn parse_response(id: u16, name: &str, bytes: &[u8]) -> DnsResponse {
    let Ok(packet) = Packet::parse(bytes) else { return DnsResponse::Other };
    let asked = Name::new(name).is_ok_and(|name| {
        let same = |question: &Question<'_>| {
            let (a, b) = (question.qname.to_string(), name.to_string());
            a.eq_ignore_ascii_case(&b) && question.qtype == QTYPE::TYPE(TYPE::TXT)
        };
        matches!(packet.questions.as_slice(), [question] if same(question))
    });
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !asked {
        return DnsResponse::Other;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return DnsResponse::Truncated;
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return DnsResponse::Answer(Err("there is no such name".to_owned())),
        other => return DnsResponse::Failed(format!("the server says {other:?}")),
    }
    let mut reason = "it has no TXT record".to_owned();
    // After a CNAME the record has another name: the resolver has followed it.
    for record in &packet.answers {
        let RData::TXT(text) = &record.rdata else { continue };
        let Ok(text) = String::try_from(text.clone()) else { continue };
        match token_in(&text) {
            Ok(token) => {
                let ttl = Duration::from_secs(record.ttl.into());
                return DnsResponse::Answer(Ok(TokenRecord { token, ttl }));
            }
            Err(error) => reason = format!("its TXT record is not a token: {error}"),
        }
    }
    DnsResponse::Answer(Err(reason))
}

/// The name servers in the text of a resolv.conf; the local one when it names none.
fn servers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    });
    let mut servers: Vec<SocketAddr> =
        addresses.take(SERVERS_MAX).map(|ip: IpAddr| (ip, PORT).into()).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

const PORT: u16 = 53;
const SERVERS_MAX: usize = 3;
const ROUNDS: u32 = 2;
const TIMEOUT: Duration = Duration::from_secs(3);
const UDP_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::TXT;

    /// A server on loopback that responds with the result of `answer`, until the process ends.
    fn serve(answer: impl Fn(&mut Packet<'_>) + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            // A client whose response is late asks again.
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let query = Packet::parse(&buffer[..len]).unwrap();
                // A forged response with a wrong ID comes first.
                let mut wrong = Packet::new_reply(query.id() ^ 1);
                wrong.questions.push(query.questions[0].clone());
                let _ = socket.send_to(&wrong.build_bytes_vec().unwrap(), from);
                let mut reply = Packet::new_reply(query.id());
                reply.questions.push(query.questions[0].clone());
                answer(&mut reply);
                let _ = socket.send_to(&reply.build_bytes_vec().unwrap(), from);
            }
        });
        address
    }

    fn txt(reply: &mut Packet<'_>, text: &str) {
        let name = reply.questions[0].qname.clone().into_owned();
        let text = TXT::new().with_string(text).unwrap().into_owned();
        reply.answers.push(ResourceRecord::new(name, CLASS::IN, 77, RData::TXT(text)));
    }

    #[test]
    fn a_txt_record_locates_a_peer() {
        let token = crate::testing::token(3);
        let server = serve(move |reply| {
            txt(reply, "v=spf1 -all");
            txt(reply, &format!("token:{token}"));
        });
        let answer = query_all("Home.example.net", &[server], &Steering::default()).unwrap();
        assert_eq!(answer, TokenRecord { token, ttl: Duration::from_secs(77) });
    }

    #[test]
    fn errors_of_a_server_are_reported() {
        let error = |answer: fn(&mut Packet<'_>)| {
            query_all("home.example.net", &[serve(answer)], &Steering::default())
                .unwrap_err()
                .to_string()
        };
        let start = "dns:home.example.net: ";
        assert_eq!(error(|_| {}), format!("{start}it has no TXT record"));
        assert!(error(|reply| txt(reply, "hello")).contains("is not a token"));
        let no_name = error(|reply| *reply.rcode_mut() = RCODE::NameError);
        assert_eq!(no_name, format!("{start}there is no such name"));
    }

    #[test]
    fn servers_come_from_resolv_conf() {
        let text = "# mine\nsearch example.net\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n";
        let found: Vec<_> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(servers("").len(), 1);
    }
}
