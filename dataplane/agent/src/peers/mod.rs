//! Location of peers. A token locates a peer and does not authenticate it.
//!
//! `token:TOKEN` is constant; `file:PATH` is read again whenever the file changes; `dns:NAME` is a
//! TXT record, queried again when it expires or the peer does not answer. One thread watches files,
//! and each name has its own thread, so that the tunnel never waits.

pub mod dns;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::local::PublicToken;

pub use watch::{LookupResult, Watcher};

/// A source of a peer's location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerSource {
    /// The token itself.
    Token(PublicToken),
    /// A file with the token.
    File(PathBuf),
    /// A TXT record of this name.
    Dns(String),
}

/// The text is not a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerSourceError {
    /// No known prefix.
    #[error("give token:TOKEN, file:PATH or dns:NAME")]
    Kind,
    /// The token is not valid.
    #[error("token: {0}")]
    Token(String),
    /// The path is missing.
    #[error("file: the path is missing")]
    Path,
    /// The name is not valid.
    #[error("dns: not a host name")]
    Name,
}

impl FromStr for PeerSource {
    type Err = PeerSourceError;

    fn from_str(text: &str) -> Result<Self, PeerSourceError> {
        match text.split_once(':') {
            Some(("token", token)) => token
                .parse()
                .map(PeerSource::Token)
                .map_err(|error| PeerSourceError::Token(format!("{error}"))),
            Some(("file", "")) => Err(PeerSourceError::Path),
            Some(("file", path)) => Ok(PeerSource::File(PathBuf::from(path))),
            Some(("dns", name)) if dns::is_name(name) => Ok(PeerSource::Dns(name.to_owned())),
            Some(("dns", _)) => Err(PeerSourceError::Name),
            _ => Err(PeerSourceError::Kind),
        }
    }
}

impl fmt::Display for PeerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerSource::Token(token) => write!(f, "token:{token}"),
            PeerSource::File(path) => write!(f, "file:{}", path.display()),
            PeerSource::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

/// The token in `text`, a file or a TXT record: the first line that is neither empty nor a comment
/// (`#`), with or without `token:` before it.
///
/// # Errors
/// When there is no such line, or it is not a token.
pub fn token_in(text: &str) -> Result<PublicToken, String> {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let line = line.ok_or("it holds no token")?;
    line.strip_prefix("token:").unwrap_or(line).parse().map_err(|error| format!("{error}"))
}

/// The token in the file at `path`.
///
/// # Errors
/// When the file cannot be read or has no token; the error names the path.
pub fn token_in_file(path: &Path) -> Result<PublicToken, String> {
    use std::io::Read;
    let name = path.display();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
        .map_err(|error| format!("{name}: {error}"))?;
    token_in(&text).map_err(|error| format!("{name}: {error}"))
}

const FILE_MAX: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Epoch 1, and sixteen bytes of 1.
    const TOKEN: &str = "AQEBAQEBAQEBAQEBAQEBAQE";

    #[test]
    fn sources_read_and_write_alike() {
        for text in [&format!("token:{TOKEN}"), "file:/etc/anyrelay/peer", "dns:home.example.net"] {
            let source: PeerSource = text.parse().unwrap();
            assert_eq!(source.to_string(), *text);
        }
    }

    #[test]
    fn errors_name_the_mistake() {
        let error = |text: &str| text.parse::<PeerSource>().unwrap_err().to_string();
        assert_eq!(error("home.example.net"), "give token:TOKEN, file:PATH or dns:NAME");
        assert_eq!(error("ip:192.0.2.1"), "give token:TOKEN, file:PATH or dns:NAME");
        assert!(error("token:xyz").starts_with("token: "));
        assert_eq!(error("file:"), "file: the path is missing");
        assert_eq!(error("dns:a b"), "dns: not a host name");
    }

    #[test]
    fn a_token_is_found_among_comments() {
        let token: PublicToken = TOKEN.parse().unwrap();
        assert_eq!(token_in(&format!("# home\n\n  token:{TOKEN} \n")), Ok(token));
        assert_eq!(token_in(&format!("{TOKEN}\n")), Ok(token));
        assert_eq!(token_in("# nothing\n"), Err("it holds no token".to_owned()));
        assert!(token_in("rubbish").is_err());
    }
}
