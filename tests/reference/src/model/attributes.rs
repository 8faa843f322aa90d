//! What serde is told of a struct, a field or an enum.

use syn::{Attribute, Lit, LitStr, Token};

/// The attributes that change names, types or defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct Serde {
    /// Where a value comes from that is left out.
    pub(super) default: Option<DefaultOf>,
    /// How names are written.
    pub(super) case: Case,
    /// Whether the variants of an enum have no names.
    pub(super) is_untagged: bool,
}

/// Where a default comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DefaultOf {
    /// `Default` of the type.
    Type,
    /// The function of this name.
    Function(String),
}

/// How the names of variants are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Case {
    /// As in the source.
    #[default]
    Same,
    /// `kernel`.
    Lower,
    /// `run-to-completion`.
    Kebab,
}

impl Serde {
    /// Reads the attributes of an item.
    ///
    /// # Errors
    /// An attribute that this program does not know, as the document would be wrong.
    pub(super) fn of(attributes: &[Attribute]) -> syn::Result<Serde> {
        let mut found = Serde::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            attribute.parse_nested_meta(|meta| {
                let has_value = meta.input.peek(Token![=]);
                if meta.path.is_ident("default") && has_value {
                    let name: LitStr = meta.value()?.parse()?;
                    found.default = Some(DefaultOf::Function(name.value()));
                } else if meta.path.is_ident("default") {
                    found.default = Some(DefaultOf::Type);
                } else if meta.path.is_ident("rename_all") {
                    let case: LitStr = meta.value()?.parse()?;
                    found.case = match case.value().as_str() {
                        "lowercase" => Case::Lower,
                        "kebab-case" => Case::Kebab,
                        _ => return Err(meta.error("this case is not known here")),
                    };
                } else if meta.path.is_ident("untagged") {
                    found.is_untagged = true;
                } else if NEUTRAL.iter().any(|name| meta.path.is_ident(name)) {
                    if has_value {
                        meta.value()?.parse::<Lit>()?;
                    }
                } else {
                    return Err(meta.error("this attribute of serde is not known here"));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

impl Case {
    /// The name of a variant as it is written in a file.
    pub(super) fn write(self, name: &str) -> String {
        match self {
            Case::Same => name.to_owned(),
            Case::Lower => name.to_lowercase(),
            Case::Kebab => {
                let mut written = String::new();
                for letter in name.chars() {
                    if letter.is_uppercase() && !written.is_empty() {
                        written.push('-');
                    }
                    written.extend(letter.to_lowercase());
                }
                written
            }
        }
    }
}

/// They change messages, or who reads; not what is read.
const NEUTRAL: [&str; 3] = ["deny_unknown_fields", "expecting", "remote"];
