//! A small HTTP/1.1 listener for metrics and health checks, which slow peers cannot make late.
//!
//! One thread serves all connections, without waiting for any of them: at most
//! [`Limits::connections`], each for at most [`Limits::deadline`] however slow it is, and for one
//! response (`Connection: close`). Beyond that number the oldest gives way, at first of those that
//! have not sent their whole request. A request head has at most [`HEAD_MAX`] bytes. Pages that
//! take long to compute ([`Page::Computed`]) are computed by a second thread, once for all who wait
//! for one; at most [`COMPUTED_MAX`] connections wait for such a page or receive one, which bounds
//! the memory. Methods are `GET` and `HEAD`; bodies of requests are not read. Source: RFC 9112.

mod connection;
mod request;
mod server;

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// The maximum length of a request head, in bytes.
pub const HEAD_MAX: usize = 8 * 1024;

/// The most connections that wait for or receive a computed page.
pub const COMPUTED_MAX: usize = 16;

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

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// This response.
    Ready(Response),
    /// The one computed page of the site.
    Computed,
}

/// The pages that are served.
pub trait Site: Send + Sync + 'static {
    /// The page at a path, which has no query. It must not take long.
    fn page(&self, path: &str) -> Page;

    /// Computes the page that may take long.
    fn compute(&self) -> Response;
}

/// The bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at a time, at least 2.
    pub connections: usize,
    /// The longest time of a connection.
    pub deadline: Duration,
}

impl Default for Limits {
    /// Those of a process: half of its descriptors are left for other purposes.
    fn default() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let half = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        Limits { connections: half.clamp(2, CONNECTIONS_MAX), deadline: DEADLINE }
    }
}

/// Serves `site` at `listener` until the process ends.
///
/// # Errors
/// When a thread or a descriptor for the threads cannot be had.
pub fn serve(listener: TcpListener, limits: Limits, site: impl Site) -> io::Result<()> {
    server::start(listener, limits, site)
}

/// The most connections at a time.
const CONNECTIONS_MAX: usize = 1024;
/// The longest time of a connection.
const DEADLINE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
