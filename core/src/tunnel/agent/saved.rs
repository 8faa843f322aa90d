//! The state file of an agent. With it, the agent has the same port and numbers after a restart,
//! and its published tokens stay valid.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::predict::{STRIDE_MAX, STRIDE_MIN, TICK_MS_MAX, TICK_MS_MIN};

/// The port and numbers of a flow. They allow to attack the flow: only the file's owner may be able
/// to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The VIP of the service.
    pub vip: SocketAddr,
    /// The agent's port.
    pub port: u16,
    /// The sequence number of tick 0.
    pub base: u32,
    /// The number that a middlebox adds to the low 16 bits of the sequence numbers; 0 without one.
    pub shift: u16,
    /// The length of a tick in milliseconds.
    pub tick_ms: u32,
    /// The distance of the numbers of successive ticks.
    pub stride: u32,
}

impl Saved {
    /// Reads the text of a state file.
    ///
    /// # Errors
    /// When the text is malformed, or a number is out of range.
    pub fn parse(text: &str) -> Result<Self, SavedError> {
        let saved: Saved = toml::from_str(text).map_err(|error| SavedError::Text {
            message: error.message().to_owned(),
            at: error.span().map_or(0, |span| span.start),
        })?;
        let fits = saved.port != 0
            && (TICK_MS_MIN..=TICK_MS_MAX).contains(&saved.tick_ms)
            && (STRIDE_MIN..=STRIDE_MAX).contains(&saved.stride);
        if fits { Ok(saved) } else { Err(SavedError::Number) }
    }

    /// The text of a state file.
    pub fn serialize(&self) -> String {
        let Saved { vip, port, base, shift, tick_ms, stride } = self;
        format!(
            "# The flow of an anyrelay agent. Without this file it starts with a new port, and \
             the\n# tokens given out before lead nowhere.\n\
             vip = \"{vip}\"\nport = {port}\nbase = {base}\nshift = {shift}\n\
             tick_ms = {tick_ms}\nstride = {stride}\n"
        )
    }
}

/// A mistake in a state file. Without the file the agent starts with a new port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// It is not TOML, or an entry is missing.
    #[error("byte {at}: {message}; remove the file to start with a new port and a new token")]
    Text {
        /// The mistake.
        message: String,
        /// The place, in bytes from the start.
        at: usize,
    },
    /// A number is out of range.
    #[error(
        "port, tick_ms or stride is not one that an agent writes; remove the file to start with a \
         new port and a new token"
    )]
    Number,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (vip, tick_ms, stride) in [
            ("203.0.113.20:443", 8000, 4096),
            ("[2001:db8::20]:443", 100, 128),
            // A stride that is no power of two is valid too.
            ("203.0.113.20:443", 60_000, 3780),
        ] {
            let saved = Saved {
                vip: vip.parse().unwrap(),
                port: 61_000,
                base: 0xffff_8000,
                shift: 0xfffe,
                tick_ms,
                stride,
            };
            assert_eq!(Saved::parse(&saved.serialize()), Ok(saved));
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let saved = Saved {
            vip: "203.0.113.20:443".parse().unwrap(),
            port: 61_000,
            base: 1,
            shift: 0,
            tick_ms: 8000,
            stride: 4096,
        };
        let text = saved.serialize();
        for (from, to) in [
            ("port = 61000", "port = 0"),
            ("port = 61000", "port = 70000"),
            ("port = 61000", ""),
            ("stride = 4096", "stride = 4097"),
            ("stride = 4096", "stride = 127"),
            ("tick_ms = 8000", "tick_ms = 99"),
            ("tick_ms = 8000", "tick_ms = 60001"),
            ("base = 1", "base = 4294967296"),
            ("base = 1", "base = 1\nother = 2"),
            ("203", "x"),
        ] {
            assert!(Saved::parse(&text.replace(from, to)).is_err(), "{from} -> {to}");
        }
        assert!(Saved::parse("").is_err());
    }
}
