//! The document's text.

use std::fmt::Write;

use crate::files::ConfigFile;
use crate::model::Table;

/// The document of these files.
pub fn document(parts: &[(&ConfigFile, Vec<Table>)]) -> String {
    let mut out = String::from(INTRODUCTION);
    for (file, tables) in parts {
        let tables: Vec<String> = tables.iter().filter_map(link_in_list).collect();
        let (title, anchor) = (file.title, anchor(file.title));
        let item = format!("- [{title}](#{anchor}): {}", tables.join(", "));
        line(&mut out, &wrapped(&item, "  "));
    }
    for (file, tables) in parts {
        line(&mut out, &format!("\n## {}", file.title));
        for table in tables {
            self::table(&mut out, table);
        }
    }
    out
}

/// The anchor that GitHub gives a heading.
pub fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase();
    let kept = letters.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn link_in_list(table: &Table) -> Option<String> {
    let heading = &table.heading;
    (!heading.is_empty()).then(|| link(heading))
}

fn link(heading: &str) -> String {
    format!("[`{heading}`](#{})", anchor(heading))
}

fn table(out: &mut String, table: &Table) {
    if !table.heading.is_empty() {
        line(out, &format!("\n### `{}`", table.heading));
    }
    line(out, &format!("\n{}", wrapped(&table.text, "")));
    if table.keys.is_empty() {
        return;
    }
    line(out, "\n| key | value | default | range | reload | meaning |\n|---|---|---|---|---|---|");
    for key in &table.keys {
        let cells = [&key.form, &key.default, &key.range, &key.reload, &key.text];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        line(out, &format!("| `{}` | {} |", key.name, cells.join(" | ")));
    }
}

/// `text` in lines of at most 100 columns, each but the first behind `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut out, mut columns) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if columns > 0 && columns + 1 + length > COLUMNS {
            out.push('\n');
            out.push_str(indent);
            columns = indent.len();
        } else if columns > 0 {
            out.push(' ');
            columns += 1;
        }
        out.push_str(word);
        columns += length;
    }
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

const COLUMNS: usize = 100;

const INTRODUCTION: &str = "\
# Settings

Every key of every config file. This page is made by `scripts/reference` from the docs of the
structs that read the files: change it there. A test compares them.

Each file is TOML. A key that is not listed here is a mistake. The columns:

- **value**: an `integer` has 64 bits, a `time` is one of TOML with an offset from UTC, such as
  `2026-12-01T10:00:00Z`. ADDRESS is an IPv4 or IPv6 address, LENGTH the length of a prefix in bits;
  an IPv6 address before a port is in brackets.
- **default**: the value of a key that is left out. `required`: it must not be.
- **range**: the values that are permitted; for a list, how many.
- **reload**: what SIGHUP does with a change while the program runs. *yes*: the change is applied,
  and breaks no connection. *breaks connections*: it is refused, unless the POP was started with
  `--breaks-connections`. *restart*: it is refused until the program is started again. A reload that
  is refused changes nothing ([how](operations.md#change-the-config-while-it-runs)).

";
