//! Watches the targets files: a POP reads one again when it changes.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The targets files of a config, as they were last seen.
#[derive(Debug, Default)]
pub struct TargetsWatch {
    files: Vec<(PathBuf, Option<Version>)>,
}

/// What changes when a file is replaced or written: device, inode, length, and time of the last
/// change of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
}

impl TargetsWatch {
    /// Takes the files at `paths` as seen. It is called before they are read.
    pub fn see(paths: &[PathBuf]) -> Self {
        let mut paths = paths.to_vec();
        paths.sort_unstable();
        paths.dedup();
        let files = paths.into_iter().map(|path| {
            let version = Version::of(&path);
            (path, version)
        });
        TargetsWatch { files: files.collect() }
    }

    /// Whether one of them is another than when it was last seen. It counts as seen from now on. A
    /// file that is missing is as it was: whoever replaces one by hand may take a moment.
    pub fn has_changed(&mut self) -> bool {
        let mut has_changed = false;
        for (path, seen) in &mut self.files {
            let version = Version::of(path);
            if version.is_some() && version != *seen {
                *seen = version;
                has_changed = true;
            }
        }
        has_changed
    }
}

impl Version {
    fn of(path: &Path) -> Option<Version> {
        let data = metadata(path).ok()?;
        let modified = (data.mtime(), data.mtime_nsec());
        Some(Version { file: (data.dev(), data.ino()), len: data.len(), modified })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_a_gap_is_none() {
        let name = format!("anyrelay-targets-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("targets.toml");
        let replace = |text: &str| {
            let new = folder.join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        let mut missing = TargetsWatch::see(std::slice::from_ref(&path));
        assert!(!missing.has_changed());
        replace("one");
        assert!(missing.has_changed());
        let mut watch = TargetsWatch::see(&[path.clone(), path.clone()]);
        assert!(!watch.has_changed());
        // Of the same length, and within the same moment.
        replace("two");
        assert!(watch.has_changed());
        assert!(!watch.has_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!watch.has_changed());
        replace("new");
        assert!(watch.has_changed());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
