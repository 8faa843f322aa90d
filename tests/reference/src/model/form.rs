//! The form of a value, and its default, as the type of a field says.

use std::fmt;

use syn::{Expr, Fields, GenericArgument, ItemEnum, Lit, PathArguments, Type};

use super::attributes::{DefaultOf, Serde};
use crate::doc::Doc;
use crate::sources::{self, Sources};

/// The form of a value.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Text,
    Integer,
    Bool,
    Date,
    Table {
        name: String,
        is_also_text: bool,
    },
    OneOf {
        variants: Vec<Variant>,
        is_untagged: bool,
    },
    List(Box<Form>),
    /// Of a key that may be left out, and has no default in the struct.
    Optional(Box<Form>),
}

/// A variant of an enum.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    /// As it is written in a file.
    pub(super) written: String,
    pub(super) doc: Doc,
    is_default: bool,
    inner: Option<Box<Form>>,
}

/// What the code says of the default of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DefaultValue {
    /// The key must be there.
    Required,
    /// It may be left out; what that means is not in the code of the structs.
    InDoc,
    /// This value.
    Known(String),
}

impl Form {
    /// The form of a type.
    pub(super) fn of(of: &Type, sources: &Sources) -> Result<Form, String> {
        let name = sources::name(of).ok_or("its type has no name")?;
        let inner = || Form::of(argument(of).ok_or("a type without its argument")?, sources);
        Ok(match name.as_str() {
            "String" => Form::Text,
            "i64" => Form::Integer,
            "bool" => Form::Bool,
            "Datetime" => Form::Date,
            "Vec" => Form::List(Box::new(inner()?)),
            "Option" => Form::Optional(Box::new(inner()?)),
            _ if sources.structs.contains_key(&name) => {
                let is_also_text = sources.is_also_text(&name);
                Form::Table { name, is_also_text }
            }
            _ => match sources.enums.get(&name) {
                Some(item) => of_enum(item, sources)?,
                None => return Err(format!("the type {name} is not known here")),
            },
        })
    }

    /// The default of the field `field` of the struct `owner`.
    pub(super) fn default(
        &self,
        sources: &Sources,
        owner: &str,
        field: &str,
        of_struct: &Serde,
        of_field: &Serde,
    ) -> DefaultValue {
        let from_code = match (&of_field.default, &of_struct.default) {
            (Some(DefaultOf::Function(name)), _) => sources.function(name).and_then(literal),
            (Some(DefaultOf::Type), _) => self.empty(),
            (None, Some(_)) => match sources.default_of(owner, field) {
                Some(value) => literal(value),
                None => self.empty(),
            },
            (None, None) => None,
        };
        let is_optional = matches!(self, Form::Optional(_));
        match from_code {
            Some(value) => DefaultValue::Known(value),
            None if of_field.default.is_some() || of_struct.default.is_some() || is_optional => {
                DefaultValue::InDoc
            }
            None => DefaultValue::Required,
        }
    }

    /// `Default` of the type.
    fn empty(&self) -> Option<String> {
        match self {
            Form::Integer => Some("0".to_owned()),
            Form::Bool => Some("false".to_owned()),
            Form::List(_) => Some("`[]`".to_owned()),
            Form::Table { .. } => Some("as its keys say".to_owned()),
            Form::OneOf { variants, .. } => {
                let default = variants.iter().find(|variant| variant.is_default);
                default.map(|variant| format!("`{}`", variant.written))
            }
            Form::Text | Form::Date | Form::Optional(_) => None,
        }
    }

    /// The struct of a table, or of those of a list.
    pub(super) fn table(&self) -> Option<&str> {
        match self {
            Form::Table { name, .. } => Some(name),
            Form::List(inner) | Form::Optional(inner) => inner.table(),
            _ => None,
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Form::List(_))
    }

    pub(super) fn is_integer(&self) -> bool {
        match self {
            Form::Integer => true,
            Form::OneOf { variants, .. } => variants
                .iter()
                .any(|variant| variant.inner.as_ref().is_some_and(|i| i.is_integer())),
            Form::List(inner) | Form::Optional(inner) => inner.is_integer(),
            _ => false,
        }
    }

    /// The variants of an enum.
    pub(super) fn variants(&self) -> &[Variant] {
        match self {
            Form::OneOf { variants, .. } => variants,
            Form::Optional(inner) => inner.variants(),
            _ => &[],
        }
    }

    /// Whether the variants have words in a file.
    pub(super) fn has_words(&self) -> bool {
        match self {
            Form::OneOf { is_untagged, .. } => !is_untagged,
            Form::Optional(inner) => inner.has_words(),
            _ => false,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Text => f.write_str("text"),
            Form::Integer => f.write_str("integer"),
            Form::Bool => f.write_str("true or false"),
            Form::Date => f.write_str("time"),
            Form::Table { is_also_text: false, .. } => f.write_str("table"),
            Form::Table { is_also_text: true, .. } => f.write_str("text or table"),
            Form::OneOf { variants, is_untagged } => {
                let words: Vec<String> = variants
                    .iter()
                    .map(|variant| match &variant.inner {
                        Some(inner) if *is_untagged => inner.to_string(),
                        _ => format!("`{}`", variant.written),
                    })
                    .collect();
                f.write_str(&words.join(" or "))
            }
            Form::List(inner) => {
                let words: Vec<_> =
                    inner.to_string().split(" or ").map(|word| format!("{word}s")).collect();
                write!(f, "list of {}", words.join(" or "))
            }
            Form::Optional(inner) => inner.fmt(f),
        }
    }
}

fn of_enum(item: &ItemEnum, sources: &Sources) -> Result<Form, String> {
    let serde = Serde::of(&item.attrs).map_err(|error| error.to_string())?;
    let mut variants = Vec::new();
    for variant in &item.variants {
        let word = serde.case.write(&variant.ident.to_string());
        let inner = match &variant.fields {
            Fields::Unit => None,
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                let first = fields.unnamed.first().ok_or("a variant without a field")?;
                Some(Box::new(Form::of(&first.ty, sources)?))
            }
            _ => return Err(format!("the variant {word} is of a kind that is not known here")),
        };
        let written = match &inner {
            None => format!("\"{word}\""),
            Some(inner) => format!("{{ {word} = {} }}", inner.to_string().to_uppercase()),
        };
        let is_default = variant.attrs.iter().any(|attribute| attribute.path().is_ident("default"));
        variants.push(Variant { written, doc: Doc::of(&variant.attrs), is_default, inner });
    }
    Ok(Form::OneOf { variants, is_untagged: serde.is_untagged })
}

/// The first type among the arguments of a type.
fn argument(of: &Type) -> Option<&Type> {
    let Type::Path(path) = of else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    })
}

/// The value of an expression as it is written in a file. `None` of an `Option` and of all that is
/// no literal.
fn literal(value: &Expr) -> Option<String> {
    match value {
        Expr::Lit(value) => match &value.lit {
            Lit::Int(number) => Some(number.base10_digits().to_owned()),
            Lit::Bool(value) => Some(value.value.to_string()),
            _ => None,
        },
        Expr::Call(call) if call.args.is_empty() => Some("`[]`".to_owned()),
        _ => None,
    }
}
