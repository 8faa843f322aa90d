//! The config of `anyrelay health` as it is written.

use serde::Deserialize;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    #[serde(default)]
    pub(super) health: RawHealth,
    #[serde(default)]
    pub(super) check: Vec<RawCheck>,
}

/// `[health]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHealth {
    pub(super) listen: Option<String>,
}

/// `[[check]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCheck {
    pub(super) targets_file: String,
    pub(super) kind: RawKind,
    pub(super) interval: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) rise: Option<i64>,
    pub(super) fall: Option<i64>,
    pub(super) floor: Option<RawFloor>,
    pub(super) lead: Option<String>,
    pub(super) hold: Option<String>,
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    pub(super) status: Option<Vec<i64>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) after: Option<String>,
    pub(super) after_timeout: Option<String>,
}

/// `check.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawKind {
    Tcp,
    Http,
    Command,
}

/// `check.floor`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a number of targets such as 2, or a share such as \"50%\"")]
pub(super) enum RawFloor {
    Targets(i64),
    Share(String),
}
