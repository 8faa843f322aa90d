//! The modules of a package, and the modules that each file names.
//!
//! Test code (folders and modules called `tests`, items under `#[cfg(test)]`) is left out. A name
//! that a module imports or re-exports is followed to the file that defines it, so that a front
//! door (a `mod.rs` of declarations and re-exports) is on no circle. Method calls name no module:
//! they are not seen.

mod reader;

use std::collections::{HashMap, HashSet};

use crate::tree::Tree;

/// Segments from the root of the crate.
pub type ModulePath = Vec<String>;

/// A place that names a path of the same crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The file, as an index into [`Package::files`].
    pub file: usize,
    /// The line, from 1.
    pub line: usize,
    /// The named path, from the root of the crate.
    pub path: ModulePath,
    /// Whether it is a `pub use` of something below the module itself.
    pub own_reexport: bool,
    /// Whether it ends in `*`.
    pub glob: bool,
}

/// A file of a package.
pub struct SourceFile {
    /// From the top of the tree.
    pub path: String,
    /// The module that it defines.
    pub module: ModulePath,
}

/// The files of one `src` folder.
pub struct Package {
    /// Its files, test code excluded.
    pub files: Vec<SourceFile>,
    /// All references between them.
    pub references: Vec<Reference>,
    modules: HashMap<ModulePath, usize>,
    bindings: HashMap<(ModulePath, String), ModulePath>,
}

impl Package {
    /// Reads the files below `source`, such as `core/src/`.
    pub fn read(tree: &Tree, source: &str) -> Package {
        let files: Vec<_> = tree
            .rust()
            .filter_map(|file| {
                let inner = file.path.strip_prefix(source)?;
                Some((file, module_path(inner)?))
            })
            .collect();
        let modules: HashMap<_, _> =
            files.iter().enumerate().map(|(at, (_, module))| (module.clone(), at)).collect();
        let known: HashSet<ModulePath> = modules.keys().cloned().collect();
        let mut package = Package {
            files: Vec::new(),
            references: Vec::new(),
            modules,
            bindings: HashMap::new(),
        };
        for (at, (file, module)) in files.iter().enumerate() {
            let found = reader::read(&file.code(), module, &known);
            package.references.extend(found.references.into_iter().map(|found| Reference {
                file: at,
                line: found.line,
                path: found.path,
                own_reexport: found.own_reexport,
                glob: found.glob,
            }));
            package.bindings.extend(found.bindings);
            package.files.push(SourceFile { path: file.path.clone(), module: module.clone() });
        }
        package
    }

    /// The file that defines `path`.
    pub fn owner(&self, path: &[String]) -> Option<usize> {
        let mut path = path.to_vec();
        // Each hop follows one import; a circle of imports would not compile.
        for _ in 0..16 {
            let length = (0..=path.len())
                .rev()
                .find(|&length| self.modules.contains_key(&path[..length]))?;
            let module = path[..length].to_vec();
            let imported = path.get(length).and_then(|name| {
                let target = self.bindings.get(&(module.clone(), name.clone()))?;
                Some([target.as_slice(), &path[length + 1..]].concat())
            });
            match imported {
                Some(target) if target != path => path = target,
                _ => return self.modules.get(&module).copied(),
            }
        }
        None
    }

    /// Files that name each other, directly or through others: each group has at least two.
    pub fn circles(&self) -> Vec<Vec<usize>> {
        let mut reach: Vec<HashSet<usize>> = vec![HashSet::new(); self.files.len()];
        for reference in self.references.iter().filter(|reference| !reference.own_reexport) {
            if let Some(owner) = self.owner(&reference.path) {
                reach[reference.file].insert(owner);
            }
        }
        // Warshall's algorithm; packages have a few hundred files at most.
        for via in 0..reach.len() {
            let beyond = reach[via].clone();
            for from in &mut reach {
                if from.contains(&via) {
                    from.extend(&beyond);
                }
            }
        }
        let mut seen: HashSet<usize> = HashSet::new();
        let mut circles = Vec::new();
        for (at, others) in reach.iter().enumerate() {
            if seen.contains(&at) {
                continue;
            }
            let mut circle: Vec<_> =
                others.iter().copied().filter(|&other| reach[other].contains(&at)).collect();
            circle.sort_unstable();
            seen.extend(&circle);
            if circle.len() > 1 {
                circles.push(circle);
            }
        }
        circles
    }
}

/// The module that a file below `src` defines; nothing for test code and for programs in `bin`.
fn module_path(inner: &str) -> Option<ModulePath> {
    let mut path: Vec<String> = inner.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    if path.iter().any(|name| name == "tests" || name == "bin") {
        return None;
    }
    if path.last().is_some_and(|name| name == "mod") || inner == "lib.rs" || inner == "main.rs" {
        path.pop();
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let package = Package::read(&Tree::of(files), "x/src/");
        let name = |&at: &usize| package.files[at].path.clone();
        package.circles().iter().map(|circle| circle.iter().map(name).collect()).collect()
    }

    #[test]
    fn a_front_door_is_on_no_circle() {
        let files = [
            ("x/src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("x/src/a.rs", "pub struct A;"),
            ("x/src/b.rs", "use crate::A; pub struct B(A);"),
        ];
        assert!(circles(&files).is_empty());
    }

    #[test]
    fn a_circle_through_a_front_door_is_seen() {
        let files = [
            ("x/src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("x/src/a.rs", "pub struct A(super::B);"),
            ("x/src/b.rs", "use crate::A; pub struct B(A);"),
        ];
        assert_eq!(circles(&files), [["x/src/a.rs", "x/src/b.rs"]]);
    }

    #[test]
    fn a_parent_that_calls_a_child_which_names_the_parent_is_a_circle() {
        let files = [
            ("x/src/p/mod.rs", "mod a; pub struct P; fn f() { a::g() }"),
            ("x/src/p/a.rs", "use super::P; pub fn g() {}"),
        ];
        assert_eq!(circles(&files), [["x/src/p/a.rs", "x/src/p/mod.rs"]]);
    }

    #[test]
    fn tests_are_left_out() {
        let files = [
            ("x/src/a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
            ("x/src/b.rs", "pub struct B(crate::a::A);"),
            ("x/src/a/tests.rs", "use crate::b::B;"),
        ];
        assert!(circles(&files).is_empty());
    }
}
