//! No circle of files in core, in which each file names the next and the last names the first.

use crate::modules::Package;
use crate::{Tree, Violation};

const RULE: &str = "circles";
const SOURCE: &str = "core/src/";

/// Checks the files of core; [`crate::modules`] says which names count. A glob
/// import does not state its names, so it counts as a violation too.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let package = Package::read(tree, SOURCE);
    let mut found = Vec::new();
    for circle in package.circles() {
        for &at in &circle {
            let reference = package.references.iter().find_map(|reference| {
                let owner = package.owner(&reference.path)?;
                let counts = !reference.own_reexport && owner != at;
                (reference.file == at && counts && circle.contains(&owner))
                    .then_some((reference.line, owner))
            });
            let (line, owner) = reference.unwrap_or((1, at));
            let text = format!(
                "names {}, in a circle of {} files: move the shared part into a file that names \
                 neither",
                package.files[owner].path,
                circle.len()
            );
            found.push(Violation::new(RULE, &*package.files[at].path, line, text));
        }
    }
    for reference in package.references.iter().filter(|reference| reference.glob) {
        let text = "imports by `*`: name each item";
        found.push(Violation::new(
            RULE,
            &*package.files[reference.file].path,
            reference.line,
            text,
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_fails_in_each_of_its_files() {
        let tree = Tree::of(&[
            ("core/src/p/mod.rs", "mod a; mod b; mod c;"),
            ("core/src/p/a.rs", "use super::b::B;"),
            ("core/src/p/b.rs", "\nfn f() { super::c::g() }"),
            ("core/src/p/c.rs", "use crate::p::a::A;"),
        ]);
        let found: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3);
        assert!(found[1].starts_with("core/src/p/b.rs:2: circles: names core/src/p/c.rs"));
    }

    #[test]
    fn an_import_by_star_fails_outside_of_tests() {
        let tree = Tree::of(&[
            ("core/src/a.rs", "use crate::b::*;\n#[cfg(test)]\nmod tests { use super::*; }"),
            ("core/src/b.rs", ""),
        ]);
        assert_eq!(check(&tree).len(), 1);
    }
}
