//! One module style, no file that belongs to two packages, and the same lints for all.

use crate::{Tree, Violation};

const FRONT_DOOR: &str = "front-door";
const SHARED_FILE: &str = "shared-file";
const LINTS: &str = "lints";
/// Its code is generated from C.
const GENERATED: &str = "bindings/dpdk-sys/Cargo.toml";

/// The front door of a folder is its mod.rs: no `name.rs` stands beside a folder `name/`.
pub fn front_doors(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let Some(stem) = file.path.strip_suffix(".rs") else { continue };
        let folder = format!("{stem}/");
        if tree.rust().any(|other| other.path.starts_with(&folder)) {
            let text = format!("stands beside {folder}: move it to {folder}mod.rs");
            found.push(Violation::new(FRONT_DOOR, &*file.path, 1, text));
        }
    }
    found
}

/// No `#[path]` leaves the package of its file.
pub fn shared_files(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let masked = file.code();
        for (at, (line, code)) in file.text.lines().zip(masked.lines()).enumerate() {
            // The masked line shows that the attribute is code, the plain one has its path.
            let written = code.trim_start().strip_prefix("#[path");
            let Some(path) = written.and_then(|_| line.split('"').nth(1)) else { continue };
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = join(folder, path);
            if package(tree, &target) != package(tree, &file.path) {
                let text = format!(
                    "includes {target} of another package: make it public there, or move it into \
                     a package that both use"
                );
                found.push(Violation::new(SHARED_FILE, &*file.path, at + 1, text));
            }
        }
    }
    found
}

/// Every package of the workspace has its lints.
pub fn lints(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let manifest: toml::Table = file.text.parse().unwrap_or_default();
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
        let is_workspace = manifest.contains_key("workspace");
        if inherits != Some(true) && !is_workspace && file.path != GENERATED {
            let text = "has not the lints of the workspace: write `workspace = true` in [lints]";
            found.push(Violation::new(LINTS, &*file.path, 1, text));
        }
    }
    found
}

/// The folder of the package that a file belongs to.
fn package<'a>(tree: &Tree, path: &'a str) -> Option<&'a str> {
    let folders = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
    folders.into_iter().find(|folder| tree.file(&format!("{folder}/Cargo.toml")).is_some())
}

/// `folder/path` without `..`.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beside_its_folder_fails() {
        let tree =
            Tree::of(&[("x/a.rs", ""), ("x/a/b.rs", ""), ("x/c/mod.rs", ""), ("x/d.rs", "")]);
        let found = front_doors(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "x/a.rs");
    }

    #[test]
    fn a_package_without_the_lints_fails() {
        let tree = Tree::of(&[
            ("Cargo.toml", "[workspace]\n"),
            ("a/Cargo.toml", "[lints]\nworkspace = true\n"),
            ("b/Cargo.toml", "[lints.rust]\nmissing_docs = \"allow\"\n"),
            ("c/Cargo.toml", "[package]\nname = \"c\"\n"),
            ("d/Cargo.toml", "[workspace]\n"),
        ]);
        let paths: Vec<_> = lints(&tree).into_iter().map(|violation| violation.path).collect();
        assert_eq!(paths, ["b/Cargo.toml", "c/Cargo.toml"]);
    }

    #[test]
    fn a_path_out_of_the_package_fails() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", ""),
            ("b/Cargo.toml", ""),
            ("a/tests/x.rs", "// #[path = \"../../b/y.rs\"]\n#[path = \"../src/y.rs\"]\nmod y;"),
            ("b/src/y.rs", "\n#[path = \"../../a/src/y.rs\"]\nmod y;"),
        ]);
        let found = shared_files(&tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("b/src/y.rs:2: shared-file: includes a/src/y.rs"));
    }
}
