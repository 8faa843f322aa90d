//! Loads a snapshot from files: the config, the keys beside it, and all problems of both.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyrelay_core::config::Config;
use anyrelay_core::keys::{KeyFile, Mistake, Tenants};
use anyrelay_core::problem::{Problem, Problems};
use anyrelay_core::snapshot::Snapshot;
use rustix::fs::Mode;

use crate::ports::check_devices;

/// Reads and checks the config at `path`, its key file and its tenants file, and compiles them to a
/// snapshot. Counter slots are kept from `previous`. The snapshot's config has the warnings.
///
/// # Errors
/// All problems, each with file, key and reason. One is a file with secrets that is open to other
/// users, unless the config allows it.
pub fn load(path: &Path, previous: Option<&Snapshot>) -> Result<Snapshot, Problems> {
    let (snapshot, open) = build(path, previous)?;
    let is_allowed = open.is_empty() || snapshot.config.pop.open_secrets;
    if is_allowed { Ok(snapshot) } else { Err(Problems(open)) }
}

/// [`load`] for commands that look into files and start no POP: they do not mind who else reads
/// them.
///
/// # Errors
/// All problems, each with file, key and reason.
pub fn load_offline(path: &Path) -> Result<Snapshot, Problems> {
    build(path, None).map(|(snapshot, _)| snapshot)
}

/// The snapshot, which warns of files with secrets that are open to others, and these warnings.
fn build(path: &Path, previous: Option<&Snapshot>) -> Result<(Snapshot, Vec<Problem>), Problems> {
    let file = path.display().to_string();
    let text = read(path).map_err(|reason| one(&file, "", reason))?;
    let mut config = Config::parse(&file, &text)?;
    check_devices(&config)?;
    let keys_path = beside(path, &config.pop.keys);
    let keys = load_keys(&file, &keys_path)?;
    let tenants_path = config.pop.tenants.as_ref().map(|tenants| beside(path, tenants));
    let tenants = match &tenants_path {
        Some(tenants_path) => load_tenants(&file, tenants_path)?,
        None => Tenants::default(),
    };
    let secrets = [Some(keys_path), tenants_path].into_iter().flatten();
    let open: Vec<Problem> = secrets.filter_map(|path| open_to_others(&path)).collect();
    config.warnings.extend(open.iter().cloned());
    Ok((Snapshot::build(&config, &keys, &tenants, previous)?, open))
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
