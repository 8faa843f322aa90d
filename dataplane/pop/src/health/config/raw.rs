//! The config of `anyrelay health` as it is written.

use anyrelay_core::problem::{Problem, Problems};
use serde::Deserialize;
use serde::de::DeserializeOwned;

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

/// Reads the text of the file called `file`.
///
/// # Errors
/// The first mistake: the text is not TOML, or has an unknown key or a value of a wrong type.
pub(in crate::health) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Problems> {
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
        // The path of the whole file is a dot, and that of an unknown variant ends in a mark.
        let key = error.path().to_string().trim_end_matches(['.', '?']).to_owned();
        problems(key, &error.into_inner())
    })
}
