//! The files that the rules read.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::code;

/// A text file.
pub struct File {
    /// From the top of the tree, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl File {
    /// Whether the file name ends in `.extension`.
    pub fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, end)| end == extension)
    }

    /// Whether it is a script without an extension.
    pub fn is_script(&self) -> bool {
        self.text.starts_with("#!") && !self.name().contains('.')
    }

    /// The name without its folder.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Rust source with comments and literals blanked out; see [`code::mask`].
    pub fn code(&self) -> String {
        code::mask(&self.text)
    }
}

/// The text files of the tree, sorted by path.
pub struct Tree {
    /// All of them.
    pub files: Vec<File>,
}

impl Tree {
    /// The files below `top` that git tracks or would track, without those that are not UTF-8
    /// (captures, images, the fuzz corpus).
    ///
    /// # Errors
    /// If `git` does not run, or a listed file cannot be read.
    pub fn read(top: &Path) -> io::Result<Tree> {
        let list = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(top)
            .output()?;
        if !list.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&list.stderr).into_owned()));
        }
        let mut files = Vec::new();
        for path in String::from_utf8_lossy(&list.stdout).split_terminator('\0') {
            let file = top.join(path);
            // A file that is deleted but not yet committed is still listed.
            if !file.is_file() {
                continue;
            }
            if let Ok(text) = String::from_utf8(std::fs::read(file)?) {
                files.push(File { path: path.to_owned(), text });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { files })
    }

    /// A tree from paths and texts.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let file =
            |(path, text): &(&str, &str)| File { path: (*path).into(), text: (*text).into() };
        let mut files: Vec<File> = files.iter().map(file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Tree { files }
    }

    /// The file at `path`.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is("rs"))
    }
}
