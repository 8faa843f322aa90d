//! The config of `anyrelay health` as it is written.
//!
//! The docs of these structs are the reference of the settings: docs/config.md is made from them
//! by `scripts/reference`.

use serde::Deserialize;

/// [Health checks](operations.md#health-checks) says what it does with the targets. Lengths of time
/// are a number with `ms`, `s`, `m`, `h` or `d`. SIGHUP reads the file again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    /// The HTTP listener.
    #[serde(default)]
    pub(super) health: RawHealth,
    /// How the targets of one targets file are checked. Range: 1 to 16, each of another file.
    #[serde(default)]
    pub(super) check: Vec<RawCheck>,
}

/// Pages of metrics and of the status.
///
/// Reload: restart.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHealth {
    /// `ADDRESS:PORT` of `/metrics`, `/status` (JSON), `/status/text` and `/healthz`. It has no
    /// access control. Default: none, no listener.
    pub(super) listen: Option<String>,
}

/// The first checks are spread over an interval.
///
/// Reload: yes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCheck {
    /// Path of the [targets file](#a-targets-file), relative to the folder of the config.
    pub(super) targets_file: String,
    /// What a check does.
    pub(super) kind: RawKind,
    /// The time from the start of a check of a target to that of the next one. Default: `2s`.
    /// Range: `100ms` to `1h`.
    pub(super) interval: Option<String>,
    /// The time that a check may take. Default: `1s`. Range: `10ms` to `1m`, and at most the
    /// interval.
    pub(super) timeout: Option<String>,
    /// Successes in a row after which a target is up. Default: 2. Range: 1 to 100.
    pub(super) rise: Option<i64>,
    /// Failures in a row after which a target is down. Default: 3. Range: 1 to 100.
    pub(super) fall: Option<i64>,
    /// So many targets take connections at least, whatever their health: a number, or a share of
    /// those that no operator has drained (`"50%"`, rounded up). Default: 1. Range: 1 to 64, or
    /// `"1%"` to `"100%"`.
    pub(super) floor: Option<RawFloor>,
    /// How long it takes until the last POP has read a new file: the distribution, and a second.
    /// Default: `10s`. Range: `0s` to `1h`.
    pub(super) lead: Option<String>,
    /// How long a target stays out at least, unless the floor needs it. Default: `1m`. Range: `0s`
    /// to `24h`.
    pub(super) hold: Option<String>,
    /// The page that `http` asks for, with a query if there is one. Default: `/`.
    pub(super) path: Option<String>,
    /// The header Host of `http`. Default: the target's `ADDRESS:PORT`.
    pub(super) host: Option<String>,
    /// The lowest and the highest good status code of `http`. Default: `[200, 399]`. Range: 100 to
    /// 599.
    pub(super) status: Option<Vec<i64>>,
    /// The program of `command` and its arguments, with `{address}` and `{port}` in them; killed at
    /// the timeout with all its processes. Default: none; required with `command`.
    pub(super) command: Option<Vec<String>>,
    /// What `sh -c` runs after each write, with `ANYRELAY_TARGETS_FILE` set: the distribution.
    /// After a failure it is tried again every 5 s. Default: none.
    pub(super) after: Option<String>,
    /// How long `after` may take. Default: `30s`. Range: `1s` to `1h`.
    pub(super) after_timeout: Option<String>,
}

/// `check.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawKind {
    /// A connection can be opened.
    Tcp,
    /// A page has a good status code, by HTTP/1.1 without TLS.
    Http,
    /// A command ends with 0.
    Command,
}

/// `check.floor`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a number of targets such as 2, or a share such as \"50%\"")]
pub(super) enum RawFloor {
    /// So many targets.
    Targets(i64),
    /// A share in percent.
    Share(String),
}
