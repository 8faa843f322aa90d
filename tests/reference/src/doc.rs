//! The doc of a struct, a field or a variant, and the labelled parts at its end.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// A doc comment: `TEXT Default: D. Range: R. Reload: L.`, each label at most once, in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doc {
    /// What stands before the labels.
    pub text: String,
    /// The default, where the code does not say it.
    pub default: Option<String>,
    /// The values that are permitted, or how many.
    pub range: Option<String>,
    /// What a reload does with a change.
    pub reload: Option<String>,
}

impl Doc {
    /// The doc among the attributes of an item. Empty where there is none.
    pub fn of(attributes: &[Attribute]) -> Doc {
        let lines: Vec<String> = attributes.iter().filter_map(line).collect();
        Doc::parse(&lines.join(" "))
    }

    /// Takes the labelled parts off the end of `text`, without their last full stop.
    pub fn parse(text: &str) -> Doc {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (rest, reload) = split(&words, "Reload: ");
        let (rest, range) = split(rest, "Range: ");
        let (rest, default) = split(rest, "Default: ");
        Doc { text: rest.to_owned(), default, range, reload }
    }

    /// A label that is still in a part, because it is given twice or out of order.
    pub fn misplaced(&self) -> Option<&'static str> {
        let parts = [Some(&self.text), self.default.as_ref(), self.range.as_ref()];
        let all = || parts.into_iter().chain([self.reload.as_ref()]).flatten();
        LABELS.into_iter().find(|label| all().any(|part| part.contains(label)))
    }
}

fn split<'a>(text: &'a str, label: &str) -> (&'a str, Option<String>) {
    match text.rfind(label) {
        Some(at) => {
            let part = text.get(at + label.len()..).unwrap_or_default();
            let part = part.trim().strip_suffix('.').unwrap_or(part.trim());
            (text.get(..at).unwrap_or_default().trim(), Some(part.to_owned()))
        }
        None => (text, None),
    }
}

fn line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if pair.path.is_ident("doc") => {
            Some(text.value())
        }
        _ => None,
    }
}

const LABELS: [&str; 3] = ["Default: ", "Range: ", "Reload: "];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_taken_off_the_end() {
        let doc = Doc::parse("A port.\n Default: 1, or\n 2. Range: 0 to 3. Reload: yes; no.");
        assert_eq!(doc.text, "A port.");
        assert_eq!(doc.default.as_deref(), Some("1, or 2"));
        assert_eq!(doc.range.as_deref(), Some("0 to 3"));
        assert_eq!(doc.reload.as_deref(), Some("yes; no"));
        assert_eq!(doc.misplaced(), None);
        assert_eq!(Doc::parse("A port."), Doc { text: "A port.".to_owned(), ..Doc::default() });
        assert_eq!(Doc::parse("Range: 1. Default: 2.").misplaced(), Some("Default: "));
        assert_eq!(Doc::parse("Range: 1. Range: 2.").misplaced(), Some("Range: "));
    }
}
