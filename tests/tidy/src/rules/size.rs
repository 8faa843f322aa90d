//! Files that fit in the head, lines that fit beside each other.

use crate::tree::File;
use crate::{Tree, Violation};

/// Lines of a file at most.
pub const LINES_MAX: usize = 400;

/// Characters of a line at most, comments included.
pub const COLUMNS_MAX: usize = 100;

/// Source and scripts have at most [`LINES_MAX`] lines.
pub fn lines(tree: &Tree) -> Vec<Violation> {
    let source = tree.files.iter().filter(|file| is_source(file));
    source
        .map(|file| (file, file.text.lines().count()))
        .filter(|&(_, lines)| lines > LINES_MAX)
        .map(|(file, lines)| {
            let text = format!("{lines} lines, at most {LINES_MAX}: split it along its meaning");
            Violation::new("lines", &*file.path, lines, text)
        })
        .collect()
}

/// Lines of source, scripts and settings have at most [`COLUMNS_MAX`] characters.
pub fn columns(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| is_source(file) || is_settings(file)) {
        for (at, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                let text = format!("{columns} columns, at most {COLUMNS_MAX}: wrap it");
                found.push(Violation::new("columns", &*file.path, at + 1, text));
            }
        }
    }
    found
}

fn is_source(file: &File) -> bool {
    ["rs", "py", "sh", "c", "h"].iter().any(|extension| file.is(extension)) || file.is_script()
}

fn is_settings(file: &File) -> bool {
    ["toml", "nft", "service", "rules"].iter().any(|extension| file.is(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_fails() {
        let fits = "//\n".repeat(LINES_MAX);
        let long = "//\n".repeat(LINES_MAX + 1);
        let script = format!("#!/bin/sh\n{fits}");
        let tree = Tree::of(&[("a.rs", &fits), ("b.rs", &long), ("c", &script), ("d.md", &long)]);
        let paths: Vec<_> = lines(&tree).into_iter().map(|found| found.path).collect();
        assert_eq!(paths, ["b.rs", "c"]);
    }

    #[test]
    fn a_long_line_fails() {
        let fits = "é".repeat(COLUMNS_MAX);
        let long = format!("\n// {fits}");
        let tree = Tree::of(&[("a.rs", &fits), ("b.toml", &long), ("c.md", &long)]);
        let found = columns(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!((&*found[0].path, found[0].line), ("b.toml", 2));
    }
}
