//! Nothing unfinished, and nothing of the machine that it was written on.

use crate::code;
use crate::{Tree, Violation};

const UNFINISHED: &str = "unfinished";
const MACHINE: &str = "machine";

/// Macros that stand for missing code or were for debugging.
const MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

/// Where people and tools keep their trees. In halves, so that this file passes its own rule.
const FOLDERS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// No macro for missing code or debugging, and no test that never runs.
pub fn unfinished(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let masked = file.code();
        let tokens = code::tokens(&masked);
        for three in tokens.windows(3) {
            let [a, b, c] = three else { continue };
            let text = if MACROS.contains(&a.text) && b.text == "!" && c.text != "=" {
                format!("{}!: write the code, or remove it", a.text)
            } else if (a.text, b.text, c.text) == ("#", "[", "ignore") {
                "an ignored test: make it pass, shorten it, or remove it".to_owned()
            } else {
                continue;
            };
            found.push(Violation::new(UNFINISHED, &*file.path, a.line, text));
        }
    }
    found
}

/// No text file names a folder of the machine that it was written on.
pub fn machine(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &tree.files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(folder) = FOLDERS.iter().find(|folder| line.contains(**folder)) {
                let text = format!("names {folder}: use a path from the top of the tree");
                found.push(Violation::new(MACHINE, &*file.path, at + 1, text));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_fails() {
        let code = "fn a() { todo!() }\nfn b() { unimplemented!() }\nfn c() { dbg!(1); }\n\
                    #[test]\n#[ignore]\nfn d() {}\n#[ignore = \"slow\"]\nfn e() {}\n";
        let lines: Vec<_> =
            unfinished(&Tree::of(&[("a.rs", code)])).iter().map(|found| found.line).collect();
        assert_eq!(lines, [1, 2, 3, 5, 7]);
        let fine = "// todo!()\nlet a = \"dbg!(1)\"; if todo != a {}\n#[clippy::ignore]";
        assert!(unfinished(&Tree::of(&[("a.rs", fine)])).is_empty());
    }

    #[test]
    fn a_folder_of_the_machine_fails() {
        for folder in FOLDERS {
            let text = format!("\n[x]({folder}y)\n");
            let found = machine(&Tree::of(&[("a.md", &text)]));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].line, 2);
        }
        assert!(machine(&Tree::of(&[("a.md", "${HOME:-/root}/.cargo")])).is_empty());
    }
}
