//! A plain HTTP/1.1 GET over a blocking socket: for readiness, metrics and server status.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use crate::{LabError, Namespace, Result};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches a path from inside a namespace; gives the status code and the body.
///
/// # Errors
/// If there is no answer, or none that is HTTP.
pub fn get(namespace: &Namespace, server: SocketAddrV4, path: &str) -> Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let text = namespace
        .run(move || exchange(server.into(), &request))?
        .map_err(LabError::io(format!("GET http://{server}{path} in {}", namespace.name())))?;
    parse(&text).ok_or_else(|| LabError::Unexpected(format!("{server}{path} answered: {text}")))
}

fn exchange(server: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> Option<(u16, String)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
