//! The document against the structs, its links, and that drift is found.

use std::fs;

use anyrelay_reference::files::{AGENT, FILES, HEALTH, POP};
use anyrelay_reference::render::anchor;
use anyrelay_reference::{DOCUMENT, Sources, difference, reference};

use super::{keys, top};

#[test]
fn the_document_is_what_the_structs_say() {
    let found = fs::read_to_string(top().join(DOCUMENT)).unwrap();
    let difference = difference(&reference(top()).unwrap(), &found);
    assert!(difference.is_none(), "\n{}", difference.unwrap());
    for file in FILES {
        assert!(keys(file).len() > 5, "{}", file.title);
    }
}

#[test]
fn drift_of_the_document_is_found() {
    let good = reference(top()).unwrap();
    let without: String =
        good.split_inclusive('\n').filter(|line| !line.starts_with("| `drain_seconds`")).collect();
    let other_default = good.replace("| 10 | 0 to 3600 |", "| 11 | 0 to 3600 |");
    for (altered, part) in [
        (without.as_str(), "should be: | `drain_seconds` |"),
        (other_default.as_str(), "it is:     | `drain_seconds` | integer | 11 |"),
        (good.trim_end(), "other ends of lines"),
        ("", "it is:     (its end)"),
    ] {
        assert_ne!(altered, good);
        let difference = difference(&good, altered).unwrap();
        assert!(
            difference.contains(part) && difference.contains("scripts/reference"),
            "{difference}"
        );
    }
    assert_eq!(difference(&good, &good), None);
}

#[test]
fn drift_of_a_struct_is_found() {
    let cases = [
        ("/// The port. Default: 1. Range: 1 to 9.\na: Option<i64>", ""),
        ("a: Option<i64>", "Raw.a: no doc"),
        ("/// The port. Range: 1 to 9.\na: Option<i64>", "Raw.a: its doc has no `Default:`"),
        ("/// The port.\na: i64", "Raw.a: its doc has no `Range:`"),
        ("/// The port. Default: 1. Range: 1 to 9.\na: i64", "Raw.a: it is required"),
        (
            "/// The port. Default: 0. Range: 1 to 9.\n#[serde(default)] a: i64",
            "Raw.a: its doc repeats the default",
        ),
        (
            "/// The port. Range: 1. Default: 1.\na: Option<i64>",
            "Raw.a: `Default:` twice, or not in the order",
        ),
        ("/// The port.\na: u16", "Raw.a: the type u16 is not known here"),
        ("/// The port.\n#[serde(rename = \"b\")] a: String", "this attribute of serde"),
        ("/// The kind.\na: RawKind", "Raw.a: \"other\": no doc"),
    ];
    for (field, expected) in cases {
        let text = format!(
            "/// A file.\n///\n/// Reload: yes.\nstruct Raw {{ {field} }}\n\
             #[serde(rename_all = \"lowercase\")] enum RawKind {{ /** One. */ One, Other }}"
        );
        let found = unclear("Raw", &text);
        assert_eq!(found.is_empty(), expected.is_empty(), "{field}: {found}");
        assert!(found.contains(expected), "{field}: {found}");
    }
    let found = unclear("Raw", "/// A file.\nstruct Raw { /// A name.\n a: String }");
    assert!(found.starts_with("Raw.a: neither its doc nor that of its struct"), "{found}");
    assert_eq!(unclear("Raw", "struct Other;"), "Raw: no such struct in the sources");
}

/// The findings about the struct `root` in `text`.
fn unclear(root: &'static str, text: &str) -> String {
    let mut sources = Sources::default();
    sources.add("raw.rs", text).unwrap();
    let file = anyrelay_reference::files::ConfigFile { title: "", sources: &[], root };
    file.tables(&sources).err().map_or_else(String::new, |error| error.to_string())
}

#[test]
fn a_new_key_and_another_default_reach_the_document() {
    let pop = fs::read_to_string(top().join("core/src/config/raw/pop.rs")).unwrap();
    let read = |text: &str| {
        let mut sources = Sources::read(top(), POP.sources).unwrap();
        sources.add("pop.rs", text).unwrap();
        format!("{:?}", POP.tables(&sources).unwrap())
    };
    let altered = [
        pop.replace("pub(in crate::config) id: i64", "pub(in crate::config) number: i64"),
        pop.replacen("    10\n", "    11\n", 1),
        pop.replace("Range: 0 to 3600.", "Range: 0 to 360."),
    ];
    for text in altered {
        assert_ne!(text, pop);
        assert_ne!(read(&text), read(&pop));
    }
}

#[test]
fn links_of_the_document_lead_somewhere() {
    let text = fs::read_to_string(top().join(DOCUMENT)).unwrap();
    let ends = text.match_indices("](").map(|(at, _)| text.get(at + 2..).unwrap_or_default());
    let links: Vec<_> = ends.filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
    assert!(links.len() > 40, "{links:?}");
    for link in links {
        let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
        let file = if file.is_empty() { "config.md" } else { file };
        let target = fs::read_to_string(top().join("docs").join(file)).expect(link);
        let mut headings = target.lines().filter(|line| line.starts_with('#'));
        let is_there =
            headings.any(|heading| anchor(heading.trim_start_matches('#').trim()) == wanted);
        assert!(wanted.is_empty() || is_there, "no heading for {link}");
    }
}

#[test]
fn examples_have_every_key() {
    for (file, example) in [(&AGENT, "agent.toml"), (&HEALTH, "health.toml")] {
        let text = fs::read_to_string(top().join("deploy/examples").join(example)).unwrap();
        for (path, key) in keys(file) {
            let start = format!("{} =", key.name);
            // A key that is seldom needed is in a comment.
            let is_it = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&start);
            assert!(text.lines().any(is_it), "{path} is not in {example}");
        }
    }
}
