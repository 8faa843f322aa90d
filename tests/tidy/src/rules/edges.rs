//! Packages depend on each other only along the edges that ARCHITECTURE.md states.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{self, ARCHITECTURE, Line};
use crate::{Tree, Violation};

const RULE: &str = "edges";
const HEADING: &str = "Allowed edges, and no others:";

/// Checks every manifest against the block of edges. Every package in the block and every path in
/// the table of rooms must exist.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let document = tree.file(ARCHITECTURE).map_or("", |file| &file.text);
    let lines = document::block(document, HEADING);
    if lines.is_empty() {
        let text = format!("no block follows the line {HEADING:?}: put it back");
        return vec![Violation::new(RULE, ARCHITECTURE, 1, text)];
    }
    let mut found = Vec::new();
    let allowed = parse(&lines, &mut found);
    let packages = packages(tree, &mut found);
    let folders: BTreeMap<_, _> =
        packages.iter().map(|package| (package.name.as_str(), package.folder)).collect();
    let mut used = BTreeSet::new();
    for package in &packages {
        let row = format!("| `{}/` | `{}` |", package.folder, package.name);
        if !document.contains(&row) {
            let text = format!("no row begins with {row:?}: add one to the table of rooms");
            found.push(Violation::new(RULE, package.path, 1, text));
        }
        for Dependency { name, line, is_dev } in &package.dependencies {
            let Some(to) = folders.get(name.as_str()) else { continue };
            match allowed.iter().find(|edge| edge.permits(package.folder, to, *is_dev)) {
                Some(edge) => {
                    used.insert((edge.line, edge.to));
                }
                None => found.push(Violation::new(
                    RULE,
                    package.path,
                    *line,
                    format!(
                        "{} -> {to} is no edge of {ARCHITECTURE}: remove the dependency, or add \
                         the edge with a decision record",
                        package.folder
                    ),
                )),
            }
        }
    }
    for edge in allowed.iter().filter(|edge| !used.contains(&(edge.line, edge.to))) {
        let text = format!("no package uses {} -> {}: remove the edge", edge.from, edge.to);
        found.push(Violation::new(RULE, ARCHITECTURE, edge.line, text));
    }
    found
}

struct Edge<'a> {
    line: usize,
    from: &'a str,
    to: &'a str,
}

impl Edge<'_> {
    fn permits(&self, from: &str, to: &str, is_dev: bool) -> bool {
        let (pattern, of_tests) = match self.from.strip_prefix("tests of ") {
            Some(pattern) => (pattern, true),
            None => (self.from, false),
        };
        if of_tests && !is_dev {
            return false;
        }
        let from_matches = match pattern.strip_suffix('*') {
            Some(folder) => from.starts_with(folder),
            None => from == pattern,
        };
        let to_matches = match self.to {
            "anything above" => !to.starts_with("tests/"),
            exact => to == exact,
        };
        from_matches && to_matches
    }
}

/// `from -> to, to`. A name may end in `*`; `tests of NAME` are the dev-dependencies of a package;
/// `anything above` is every package outside of tests/.
fn parse<'a>(lines: &[Line<'a>], found: &mut Vec<Violation>) -> Vec<Edge<'a>> {
    let mut edges = Vec::new();
    for line in lines {
        let Some((from, to)) = line.text.split_once("->") else {
            let text = format!("{:?} is no edge: write `from -> to, to`", line.text);
            found.push(Violation::new(RULE, ARCHITECTURE, line.number, text));
            continue;
        };
        let edge = |to: &'a str| Edge { line: line.number, from: from.trim(), to: to.trim() };
        edges.extend(to.split(',').map(edge));
    }
    edges
}

struct Package<'a> {
    path: &'a str,
    folder: &'a str,
    name: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    line: usize,
    is_dev: bool,
}

fn packages<'a>(tree: &'a Tree, found: &mut Vec<Violation>) -> Vec<Package<'a>> {
    let mut packages = Vec::new();
    for file in &tree.files {
        let Some(folder) = file.path.strip_suffix("/Cargo.toml") else { continue };
        match file.text.parse::<toml::Table>() {
            Ok(manifest) => packages.push(Package {
                path: &file.path,
                folder,
                name: package_name(&manifest),
                dependencies: dependencies(&manifest, &file.text),
            }),
            Err(error) => {
                found.push(Violation::new(RULE, &*file.path, 1, error.message().to_owned()));
            }
        }
    }
    packages
}

fn package_name(manifest: &toml::Table) -> String {
    let package = manifest.get("package").and_then(|package| package.get("name"));
    package.and_then(toml::Value::as_str).unwrap_or_default().to_owned()
}

/// Dependencies of all kinds, for the build and for tests too.
fn dependencies(manifest: &toml::Table, text: &str) -> Vec<Dependency> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let mut out = Vec::new();
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = table.get(kind).and_then(toml::Value::as_table);
            for (key, value) in entries.into_iter().flatten() {
                let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                let line = text.lines().position(|line| line.starts_with(key.as_str()));
                out.push(Dependency {
                    name: name.to_owned(),
                    line: line.map_or(1, |line| line + 1),
                    is_dev: kind == "dev-dependencies",
                });
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "| `a/` | `a` | |\n| `b/` | `b` | |\n| `tests/t/` | `t` | |\n\n\
        Allowed edges, and no others:\n\n    a -> b\n    tests/* -> anything above\n";
    const A: (&str, &str) = ("a/Cargo.toml", "[package]\nname='a'\n[dependencies]\nb.path='b'\n");
    const T: (&str, &str) =
        ("tests/t/Cargo.toml", "[package]\nname='t'\n[dev-dependencies]\na.path='a'\n");

    fn run(document: &str, b: &str) -> Vec<String> {
        let tree = Tree::of(&[(ARCHITECTURE, document), A, ("b/Cargo.toml", b), T]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn stated_edges_pass() {
        assert!(run(DOCUMENT, "[package]\nname='b'\n").is_empty());
    }

    #[test]
    fn an_edge_that_is_not_stated_fails() {
        for kind in ["dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            let found = run(DOCUMENT, &format!("[package]\nname='b'\n[{kind}]\na.path='a'\n"));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("b/Cargo.toml:4: edges: b -> a is no edge"), "{found:?}");
        }
        let found = run(DOCUMENT, "[package]\nname='b'\n[dependencies]\nx={package='t'}\n");
        assert!(found[0].starts_with("b/Cargo.toml:4: edges: b -> tests/t"), "{found:?}");
    }

    #[test]
    fn an_edge_of_tests_permits_dev_dependencies_alone() {
        let document = format!("{DOCUMENT}    tests of * -> tests/t\n");
        let b = |kind| format!("[package]\nname='b'\n[{kind}]\nt.path='../tests/t'\n");
        assert!(run(&document, &b("dev-dependencies")).is_empty());
        let found = run(&document, &b("dependencies"));
        assert!(found[0].starts_with("b/Cargo.toml:4: edges: b -> tests/t"), "{found:?}");
    }

    #[test]
    fn a_document_without_the_block_or_the_row_fails() {
        assert_eq!(run("", "[package]\nname='b'\n").len(), 1);
        let found = run(&DOCUMENT.replace("`b/`", "`c/`"), "[package]\nname='b'\n");
        assert!(found[0].starts_with("b/Cargo.toml:1: edges: no row"), "{found:?}");
    }

    #[test]
    fn an_edge_that_nothing_uses_fails() {
        let found = run(&format!("{DOCUMENT}    b -> a\n"), "[package]\nname='b'\n");
        assert!(found[0].starts_with("ARCHITECTURE.md:9: edges: no package uses"), "{found:?}");
    }
}
