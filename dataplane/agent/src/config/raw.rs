//! The config file as written: names, nesting and types, before any check.
//!
//! Numbers are wide and addresses are text here, so that a value out of range is reported like all
//! other problems.

use anyrelay_core::problem::{Problem, Problems};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) agent: RawAgent,
    pub(super) tun: Option<RawTun>,
    #[serde(default)]
    pub(super) peer: Vec<RawPeer>,
    pub(super) udp: Option<RawUdp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    pub(super) vip: String,
    pub(super) key: String,
    pub(super) state: Option<String>,
    #[serde(default)]
    pub(super) publish: Vec<String>,
    pub(super) control: Option<String>,
    pub(super) mark: Option<i64>,
    pub(super) interface: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTun {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) mtu: Option<i64>,
    pub(super) private_key: String,
    #[serde(default = "yes")]
    pub(super) routes: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeer {
    pub(super) name: String,
    pub(super) public_key: String,
    pub(super) preshared_key: Option<String>,
    pub(super) at: Option<String>,
    pub(super) allowed: Vec<String>,
    #[serde(default)]
    pub(super) keepalive_seconds: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUdp {
    pub(super) listen: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) target: Option<String>,
}

fn yes() -> bool {
    true
}

/// Parses the text of a config file.
pub(super) fn parse(file: &str, text: &str) -> Result<RawConfig, Problems> {
    let line_of =
        |offset: usize| 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
    let problems = |key: String, error: &toml::de::Error| {
        let mut reason = error.message().trim().replace('\n', ": ");
        if let Some(span) = error.span() {
            reason = format!("{reason} (line {})", line_of(span.start));
        }
        Problems(vec![Problem { file: file.to_owned(), key, reason }])
    };
    let reader =
        toml::Deserializer::parse(text).map_err(|error| problems(String::new(), &error))?;
    serde_path_to_error::deserialize(reader).map_err(|error| {
        // The path of the whole file is a dot.
        let key = error.path().to_string().trim_end_matches(['.', '?']).to_owned();
        problems(key, &error.into_inner())
    })
}
