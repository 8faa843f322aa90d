//! Reads request heads, and writes responses as bytes.

use std::sync::Arc;

use super::{Page, Response, Site};

/// A response as bytes, shared by all who get it.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    bytes: Arc<[u8]>,
    head_len: usize,
}

impl Encoded {
    /// The bytes for a request with this method.
    pub(super) fn bytes(&self, with_body: bool) -> &[u8] {
        let len = if with_body { self.bytes.len() } else { self.head_len };
        self.bytes.get(..len).unwrap_or_default()
    }
}

/// The answer to a request, and whether to send its body.
pub(super) fn answer(head: &[u8], site: &impl Site) -> (Page, bool) {
    let refuse = |status, text: &str| (Page::Ready(Response::text(status, text)), true);
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return refuse(400, "not an HTTP request line\n");
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return refuse(400, "not an HTTP/1 request for a path\n");
    }
    let path = target.split('?').next().unwrap_or_default();
    match method {
        "GET" => (site.page(path), true),
        "HEAD" => (site.page(path), false),
        _ => refuse(405, "only GET and HEAD\n"),
    }
}

/// The response to a head that is too long.
pub(super) fn too_long() -> Response {
    Response::text(431, "request head too long\n")
}

/// `response` as it is sent.
pub(super) fn encode(response: &Response) -> Encoded {
    let Response { status, content_type, body } = response;
    let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        reason(*status),
        body.len(),
    );
    let head_len = text.len();
    text.push_str(body);
    Encoded { bytes: text.into_bytes().into(), head_len }
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
