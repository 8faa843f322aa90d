//! Loads a snapshot from files: the config, the keys beside it, and all problems of both.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyrelay_core::config::{Config, NamedFile, kept_epochs};
use anyrelay_core::keys::{KeyFile, Mistake, Tenants};
use anyrelay_core::problem::{Problem, Problems};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::UnixTime;
use rustix::fs::Mode;

use super::targets::TargetsWatch;
use crate::ports::check_devices;

/// The files of a POP but for those of targets, as they were read.
#[derive(Clone, Debug)]
pub struct Files {
    path: PathBuf,
    text: String,
    keys: KeyFile,
    tenants: Tenants,
    /// The paths of the targets files.
    targets: Vec<PathBuf>,
    /// Warnings of files with secrets that others can read.
    open: Vec<Problem>,
}

/// What a snapshot follows.
#[derive(Clone, Copy, Debug)]
pub struct Previous<'a> {
    /// The snapshot that runs, whose counter slots are kept.
    pub snapshot: &'a Snapshot,
    /// When the next one takes its place.
    pub now: UnixTime,
}

impl Files {
    /// Reads the config at `path`, its key file and its tenants file.
    ///
    /// # Errors
    /// All problems of the first file that has some.
    pub fn read(path: &Path) -> Result<Files, Problems> {
        let file = path.display().to_string();
        let text = read(path).map_err(|reason| one(&file, "", reason))?;
        let config = parse(path, &text)?;
        check_devices(&config)?;
        let keys_path = beside(path, &config.pop.keys);
        let keys = load_keys(&file, &keys_path)?;
        let tenants_path = config.pop.tenants.as_ref().map(|tenants| beside(path, tenants));
        let tenants = match &tenants_path {
            Some(tenants_path) => load_tenants(&file, tenants_path)?,
            None => Tenants::default(),
        };
        let secrets = [Some(keys_path), tenants_path].into_iter().flatten();
        let open = secrets.filter_map(|path| open_to_others(&path)).collect();
        let names = config.relays.iter().filter_map(|relay| relay.targets_file.as_ref());
        let targets = names.map(|name| beside(path, name)).collect();
        Ok(Files { path: path.to_owned(), text, keys, tenants, targets, open })
    }

    /// Reads the targets files, and compiles all to a snapshot. Its config has the warnings.
    ///
    /// # Errors
    /// All problems, each with file, key and reason.
    pub fn build(&self, previous: Option<Previous<'_>>) -> Result<Snapshot, Problems> {
        let mut config = parse(&self.path, &self.text)?;
        config.warnings.extend(self.open.iter().cloned());
        if let Some(Previous { snapshot, now }) = previous {
            for relay in &mut config.relays {
                let before = snapshot
                    .config
                    .relays
                    .iter()
                    .find(|old| old.vip == relay.vip && old.protocols.meet(relay.protocols));
                if let Some(before) = before {
                    relay.kept = kept_epochs(&before.targets, &before.kept, &relay.targets, now);
                }
            }
        }
        let before = previous.map(|previous| previous.snapshot);
        Snapshot::build(&config, &self.keys, &self.tenants, before)
    }
}

/// A POP's files, what they compile to, and what is seen when those of targets change.
#[derive(Debug)]
pub struct Loaded {
    /// The files but for those of targets.
    pub files: Files,
    /// All of them compiled. Its config has the warnings.
    pub snapshot: Snapshot,
    /// The targets files as they were before they were read.
    pub targets: TargetsWatch,
}

/// Reads and checks the config at `path` and all files that it names, and compiles them to a
/// snapshot, which follows `previous`.
///
/// # Errors
/// All problems, each with file, key and reason. One is a file with secrets that is open to other
/// users, unless the config allows it.
pub fn load(path: &Path, previous: Option<Previous<'_>>) -> Result<Loaded, Problems> {
    let files = Files::read(path)?;
    let targets = TargetsWatch::see(&files.targets);
    let snapshot = files.build(previous)?;
    let is_allowed = files.open.is_empty() || snapshot.config.pop.open_secrets;
    if is_allowed { Ok(Loaded { files, snapshot, targets }) } else { Err(Problems(files.open)) }
}

/// [`load`] for commands that look into files and start no POP: they do not mind who else reads
/// them.
///
/// # Errors
/// All problems, each with file, key and reason.
pub fn load_offline(path: &Path) -> Result<Snapshot, Problems> {
    Files::read(path)?.build(None)
}

/// The config of the text of the file at `path`, with the targets files that it names.
fn parse(path: &Path, text: &str) -> Result<Config, Problems> {
    let targets = |name: &str| {
        let path = beside(path, name);
        let advice = "`anyrelay targets FILE add ADDRESS:PORT` makes a targets file";
        let name = path.display().to_string();
        match read(&path) {
            Ok(text) => Ok(NamedFile { name, text }),
            Err(reason) => Err(format!("{name}: {reason}; {advice}")),
        }
    };
    Config::parse_with(&path.display().to_string(), text, &targets)
}

/// The path of a file that a config names: relative ones start at the config's folder.
fn beside(config: &Path, name: &str) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(name)
}

fn load_tenants(config_file: &str, path: &Path) -> Result<Tenants, Problems> {
    let text = read(path).map_err(|reason| {
        let name = path.display();
        let advice = "`anyrelay tenant add FILE NAME` makes a tenants file";
        one(config_file, "pop.tenants", format!("{name}: {reason}; {advice}"))
    })?;
    parse_tenants(&path.display().to_string(), &text)
}

fn load_keys(config_file: &str, path: &Path) -> Result<KeyFile, Problems> {
    let text = read(path).map_err(|reason| {
        let name = path.display();
        let advice = "`anyrelay keygen FILE` writes a key file";
        one(config_file, "pop.keys", format!("{name}: {reason}; {advice}"))
    })?;
    parse_keys(&path.display().to_string(), &text)
}

/// Parses the text of the key file called `file`.
///
/// # Errors
/// The first problem.
pub fn parse_keys(file: &str, text: &str) -> Result<KeyFile, Problems> {
    KeyFile::parse(text)
        .map_err(|error| one(file, error.name().unwrap_or_default(), error.to_string()))
}

/// Parses the text of the tenants file called `file`.
///
/// # Errors
/// All problems.
pub fn parse_tenants(file: &str, text: &str) -> Result<Tenants, Problems> {
    Tenants::parse(text).map_err(|mistakes| {
        let problem = |Mistake { key, reason }| Problem { file: file.to_owned(), key, reason };
        Problems(mistakes.into_iter().map(problem).collect())
    })
}

/// The text of a file of at most [`FILE_MAX`] bytes.
///
/// # Errors
/// The reason, in words.
pub fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("is longer than {FILE_MAX} bytes"));
    }
    Ok(text)
}

/// The problem with a file that its group or others have access to.
fn open_to_others(path: &Path) -> Option<Problem> {
    let mode = Mode::from_raw_mode(rustix::fs::stat(path).ok()?.st_mode);
    if !mode.intersects(Mode::RWXG | Mode::RWXO) {
        return None;
    }
    let file = path.display().to_string();
    let reason = format!(
        "other users can read these secrets (mode {:04o}): chmod 600 {file}, as the user that the \
         POP runs as; or allow it by pop.open_secrets = true",
        mode.bits() & 0o7777
    );
    Some(Problem { file, key: String::new(), reason })
}

fn one(file: &str, key: &str, reason: String) -> Problems {
    Problems(vec![Problem { file: file.to_owned(), key: key.to_owned(), reason }])
}

/// The maximum length of a file, in bytes: enough for tenants files with some 200,000 agents.
pub const FILE_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_beside_the_config() {
        let path = |config: &str, keys| beside(Path::new(config), keys);
        assert_eq!(
            path("/etc/anyrelay/pop.toml", "keys.toml"),
            Path::new("/etc/anyrelay/keys.toml")
        );
        assert_eq!(path("/etc/anyrelay/pop.toml", "/run/keys"), Path::new("/run/keys"));
        assert_eq!(path("pop.toml", "keys.toml"), Path::new("keys.toml"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let problems = load(Path::new("/nonexistent/pop.toml"), None).unwrap_err();
        let text = problems.to_string();
        assert!(text.starts_with("/nonexistent/pop.toml: cannot be read: "), "{text}");
    }
}
