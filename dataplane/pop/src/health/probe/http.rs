//! A request by HTTP/1.1 without TLS, of whose response the status code counts (RFC 9112).

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use super::{Outcome, connect, reason};
use crate::health::config::HttpProbe;

/// Asks the target `address`, until `deadline` at most.
pub(super) fn ask(probe: &HttpProbe, address: SocketAddr, deadline: Instant) -> Outcome {
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        left if left.is_zero() => Err("no answer in time".to_owned()),
        left => Ok(left),
    };
    let mut stream = connect(address, left()?)?;
    let request = request(probe, address);
    stream.set_write_timeout(Some(left()?)).map_err(|error| reason(&error))?;
    stream.write_all(request.as_bytes()).map_err(|error| reason(&error))?;
    let mut head = Vec::new();
    loop {
        if let Some(found) = status(&head)? {
            let (low, high) = probe.status;
            let is_good = (low..=high).contains(&found);
            return if is_good { Ok(()) } else { Err(format!("status {found}")) };
        }
        if head.len() >= HEAD_MAX {
            return Err("the head of its response is too long".to_owned());
        }
        let mut bytes = [0; 1024];
        stream.set_read_timeout(Some(left()?)).map_err(|error| reason(&error))?;
        match stream.read(&mut bytes).map_err(|error| reason(&error))? {
            0 => return Err("closed before a whole response".to_owned()),
            count => head.extend_from_slice(bytes.get(..count).unwrap_or_default()),
        }
    }
}

fn request(probe: &HttpProbe, address: SocketAddr) -> String {
    let host = probe.host.clone().unwrap_or_else(|| address.to_string());
    format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: anyrelay-health\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        probe.path
    )
}

/// The status code of the response that begins with `bytes`, without interim ones (RFC 9110,
/// section 15.2); `None` as long as its line is not there.
fn status(mut bytes: &[u8]) -> Result<Option<u16>, String> {
    loop {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let line = bytes.get(..end).unwrap_or_default();
        let line = std::str::from_utf8(line).unwrap_or_default();
        let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_once(' '));
        let code = code.and_then(|(_, rest)| rest.get(..3)).and_then(|code| code.parse().ok());
        match code {
            Some(100..=199) => {}
            Some(code @ 200..=599) => return Ok(Some(code)),
            _ => return Err("not a response of HTTP/1".to_owned()),
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        bytes = bytes.get(end + 4..).unwrap_or_default();
    }
}

/// The maximum length of what is read of a response, in bytes.
const HEAD_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_that_of_the_first_final_response() {
        for (text, expected) in [
            ("", Ok(None)),
            ("HTTP/1.1 200", Ok(None)),
            ("HTTP/1.1 200 OK\r\n", Ok(Some(200))),
            ("HTTP/1.0 503\r\nA: b", Ok(Some(503))),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n", Ok(None)),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\n", Ok(Some(404))),
            ("SSH-2.0-OpenSSH_9.2\r\n", Err(())),
            ("HTTP/1.1 20\r\n", Err(())),
            ("HTTP/1.1 999 Far\r\n", Err(())),
            ("HTTP/1.1 2é0\r\n", Err(())),
        ] {
            assert_eq!(status(text.as_bytes()).map_err(drop), expected, "{text:?}");
        }
    }

    #[test]
    fn a_request_names_the_host() {
        let host = Some("example.org".to_owned());
        let probe = HttpProbe { path: "/up?a=1".to_owned(), host, status: (200, 399) };
        let address = "[2001:db8::1]:80".parse().unwrap();
        let text = request(&probe, address);
        assert!(text.starts_with("GET /up?a=1 HTTP/1.1\r\nHost: example.org\r\n"), "{text}");
        let text = request(&HttpProbe { host: None, ..probe }, address);
        assert!(text.contains("\r\nHost: [2001:db8::1]:80\r\n"), "{text}");
    }
}
