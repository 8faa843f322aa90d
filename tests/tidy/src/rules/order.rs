//! The modules of core stand in the order that ARCHITECTURE.md states: each names only modules of
//! groups to its left.

use std::collections::BTreeMap;

use crate::document::{self, ARCHITECTURE, Line};
use crate::modules::Package;
use crate::{Tree, Violation};

const RULE: &str = "order";
const SOURCE: &str = "core/src/";
const HEADING: &str = "Order of the modules, each naming only those of groups to its left:";

/// Checks every path in core that begins at the root of the crate.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let document = tree.file(ARCHITECTURE).map_or("", |file| &file.text);
    let lines = document::block(document, HEADING);
    if lines.is_empty() {
        let text = format!("no block follows the line {HEADING:?}: put it back");
        return vec![Violation::new(RULE, ARCHITECTURE, 1, text)];
    }
    let groups = groups(&lines);
    let package = Package::read(tree, SOURCE);
    let mut found = missing(&package, &groups, &lines);
    for reference in &package.references {
        let file = &package.files[reference.file];
        let Some(from) = file.module.first() else { continue };
        let to = named_room(&package, &reference.path, &groups);
        let (Some(to), Some(&group)) = (to, groups.get(from.as_str())) else { continue };
        if to != from && groups.get(to.as_str()).is_some_and(|&other| other >= group) {
            let text = format!(
                "{from} names {to}, which is not to its left in {ARCHITECTURE}: move the shared \
                 part into a module to the left of both, or pass it as an argument"
            );
            found.push(Violation::new(RULE, &*file.path, reference.line, text));
        }
    }
    found
}

/// The module at the root that a path names: the written one, or the one that lib.rs re-exports.
fn named_room<'a>(
    package: &'a Package,
    path: &'a [String],
    groups: &BTreeMap<&str, usize>,
) -> Option<&'a String> {
    match path.first() {
        Some(first) if groups.contains_key(first.as_str()) => Some(first),
        _ => package.files[package.owner(path)?].module.first(),
    }
}

/// The group of each module. Groups are parted by `<-`, the modules of a group by commas.
fn groups<'a>(lines: &[Line<'a>]) -> BTreeMap<&'a str, usize> {
    let mut groups = BTreeMap::new();
    let mut group = 0;
    for line in lines {
        for (at, part) in line.text.split("<-").enumerate() {
            group += usize::from(at > 0);
            let names = part.split(',').map(str::trim).filter(|name| !name.is_empty());
            groups.extend(names.map(|name| (name, group)));
        }
    }
    groups
}

/// Modules without a place in the order, and places without a module.
fn missing(
    package: &Package,
    groups: &BTreeMap<&str, usize>,
    lines: &[Line<'_>],
) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in package.files.iter().filter(|file| file.module.len() == 1) {
        if !groups.contains_key(file.module[0].as_str()) {
            let text = format!("{} has no place in the order: add it", file.module[0]);
            found.push(Violation::new(RULE, &*file.path, 1, text));
        }
    }
    for name in groups.keys() {
        if !package.files.iter().any(|file| file.module.first().is_some_and(|own| own == name)) {
            let text = format!("the order names {name}, which is no module of core: remove it");
            found.push(Violation::new(RULE, ARCHITECTURE, lines[0].number, text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(b: &str) -> Vec<String> {
        let document = format!("{HEADING}\n\n    a, c\n      <- b <- d\n");
        let tree = Tree::of(&[
            (ARCHITECTURE, &document),
            ("core/src/lib.rs", "pub mod a; pub mod b; pub mod c; pub mod d; pub use d::D;"),
            ("core/src/a.rs", ""),
            ("core/src/b/mod.rs", b),
            ("core/src/c.rs", ""),
            ("core/src/d.rs", "pub struct D;"),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_to_the_left_pass() {
        assert!(run("use crate::{a::A, c}; use super::a; mod tests { use crate::d; }").is_empty());
    }

    #[test]
    fn names_to_the_right_fail() {
        for b in [
            "\nuse crate::d;",
            "\nuse crate::{a, d::{E, F}};",
            "\nfn f() { crate::d::g() }",
            "\nmod x { use super::super::d; }",
            "\nuse crate::D;",
            "\npub(crate) use super::d::D;",
        ] {
            let found = run(b);
            assert!(found[0].starts_with("core/src/b/mod.rs:2: order: b names d,"), "{found:?}");
        }
    }

    #[test]
    fn a_group_does_not_name_itself() {
        let document = format!("{HEADING}\n\n    a, b\n");
        let tree = Tree::of(&[
            (ARCHITECTURE, &document),
            ("core/src/a.rs", "use crate::b;"),
            ("core/src/b.rs", ""),
        ]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn modules_and_the_order_cover_each_other() {
        let tree = Tree::of(&[(ARCHITECTURE, HEADING), ("core/src/a.rs", "")]);
        assert_eq!(check(&tree).len(), 1);
        let document = format!("{HEADING}\n\n    b\n");
        let tree = Tree::of(&[(ARCHITECTURE, &document), ("core/src/a.rs", "")]);
        assert_eq!(check(&tree).len(), 2);
    }
}
