//! Rust source as tokens, without a compiler: enough to find paths, keywords and macros.

/// The source with the text of comments, strings and characters replaced by blanks. Line breaks
/// stay, so that lines keep their numbers.
pub fn mask(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (skipped, keep) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (block_comment(rest), false),
            '"' => (string(rest), false),
            '\'' => match character(rest) {
                Some(length) => (length, false),
                None => (1, true),
            },
            c if c.is_alphabetic() || c == '_' => match raw_string(rest) {
                Some(length) => (length, false),
                None => (word(rest), true),
            },
            c if c.is_ascii_digit() => (word(rest), true),
            c => (c.len_utf8(), true),
        };
        let (text, after) = rest.split_at(skipped.max(1).min(rest.len()));
        if keep {
            out.push_str(text);
        } else {
            out.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = after;
    }
    out
}

/// A token of masked source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// An identifier or number, `::`, or one other character.
    pub text: &'a str,
    /// The line, from 1.
    pub line: usize,
}

/// The tokens of source that [`mask`] returned.
pub fn tokens(masked: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    for (number, line) in masked.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                c if c.is_alphanumeric() || c == '_' => word(rest),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            let (text, after) = rest.split_at(length);
            out.push(Token { text, line: number + 1 });
            rest = after.trim_start();
        }
    }
    out
}

/// Whether the token is an identifier (or a number).
pub fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string literal that `text` begins with, quotes included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"..."`, `r#"..."#`, `b"..."`, `br"..."`, `c"..."` or `b'.'`; nothing for a
/// plain word, a raw identifier included.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = word(text);
    if !matches!(&text[..prefix], "r" | "b" | "br" | "c" | "cr") {
        return None;
    }
    let rest = &text[prefix..];
    if text.starts_with("b'") {
        return character(rest).map(|length| prefix + length);
    }
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    if !rest[hashes..].starts_with('"') {
        return None;
    }
    if !text[..prefix].contains('r') {
        return Some(prefix + string(rest));
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = prefix + hashes + 1;
    Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()))
}

/// The length of the character literal that `text` begins with; nothing for a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?;
        return chars.find(|&(_, c)| c == '\'').map(|(at, _)| at + 1);
    }
    chars.next().filter(|&(_, c)| c == '\'').map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(&mask(source)).iter().map(|token| token.text.to_owned()).collect()
    }

    #[test]
    fn literals_and_comments_are_blank() {
        assert_eq!(texts("a /* b /* c */ d */ e // f\ng"), ["a", "e", "g"]);
        assert_eq!(texts(r#"a "b \" c" d"#), ["a", "d"]);
        assert_eq!(texts(r##"a r#"b " c"# d b"e" br"f\" g"##), ["a", "d", "g"]);
        assert_eq!(
            texts(r"a '\'' b '\\' c 'x' d b'y' e '\u{1f}' f"),
            ["a", "b", "c", "d", "e", "f"]
        );
        assert_eq!(texts("&'a str"), ["&", "'", "a", "str"]);
    }

    #[test]
    fn paths_are_words_and_double_colons() {
        assert_eq!(texts("crate::a::B<C>"), ["crate", "::", "a", "::", "B", "<", "C", ">"]);
    }

    #[test]
    fn lines_keep_their_numbers() {
        let masked = mask("a /* \n\n */ b\n\"\n\" c");
        let lines: Vec<_> = tokens(&masked).iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }
}
