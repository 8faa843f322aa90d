//! The items of the structs' sources.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use syn::{
    Block, Expr, ExprStruct, ImplItem, Item, ItemEnum, ItemImpl, ItemStruct, Member, Stmt, Type,
};

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A source cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The source, from the top of the tree.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// A source is no Rust.
    #[error("{path}: {source}")]
    Parse {
        /// The source, from the top of the tree.
        path: String,
        /// The reason.
        source: syn::Error,
    },
    /// Structs that say too little, a line for each place.
    #[error("{}", .0.join("\n"))]
    Unclear(Vec<String>),
}

/// What the sources of one config file define.
#[derive(Default)]
pub struct Sources {
    pub(crate) structs: BTreeMap<String, ItemStruct>,
    pub(crate) enums: BTreeMap<String, ItemEnum>,
    /// The value of each function that has a single expression.
    functions: BTreeMap<String, Expr>,
    /// The fields of each `impl Default` that is a single struct expression.
    defaults: BTreeMap<String, ExprStruct>,
    /// The `visit_*` functions of each type that has a visitor.
    visits: BTreeMap<String, Vec<String>>,
}

impl Sources {
    /// Reads the sources at `paths` of the tree at `top`; of a folder all files in it.
    ///
    /// # Errors
    /// A source that cannot be read or parsed.
    pub fn read(top: &Path, paths: &[&str]) -> Result<Sources, SourceError> {
        let mut sources = Sources::default();
        for &path in paths {
            let failed = |source| SourceError::Read { path: path.to_owned(), source };
            let whole = top.join(path);
            let mut files = vec![whole.clone()];
            if whole.is_dir() {
                let entries = fs::read_dir(&whole).map_err(failed)?;
                let found: io::Result<Vec<_>> =
                    entries.map(|entry| entry.map(|entry| entry.path())).collect();
                files = found.map_err(failed)?;
                files.sort();
            }
            for file in files {
                sources.add(path, &fs::read_to_string(file).map_err(failed)?)?;
            }
        }
        Ok(sources)
    }

    /// Adds the items of `text`, a source at `path`.
    ///
    /// # Errors
    /// [`SourceError::Parse`].
    pub fn add(&mut self, path: &str, text: &str) -> Result<(), SourceError> {
        let failed = |source| SourceError::Parse { path: path.to_owned(), source };
        for item in syn::parse_file(text).map_err(failed)?.items {
            match item {
                Item::Struct(item) => drop(self.structs.insert(item.ident.to_string(), item)),
                Item::Enum(item) => drop(self.enums.insert(item.ident.to_string(), item)),
                Item::Fn(item) => {
                    if let Some(value) = value(&item.block) {
                        self.functions.insert(item.sig.ident.to_string(), value);
                    }
                }
                Item::Impl(item) => self.add_impl(item),
                _ => {}
            }
        }
        Ok(())
    }

    fn add_impl(&mut self, item: ItemImpl) {
        let of = item.trait_.as_ref().and_then(|(path, _)| path.segments.last());
        let Some(of) = of.map(|segment| segment.ident.to_string()) else { return };
        if of == "Visitor" {
            let value = item.items.iter().find_map(|item| match item {
                ImplItem::Type(item) if item.ident == "Value" => name(&item.ty),
                _ => None,
            });
            let visits = item.items.iter().filter_map(|item| match item {
                ImplItem::Fn(item) => Some(item.sig.ident.to_string()),
                _ => None,
            });
            self.visits.entry(value.unwrap_or_default()).or_default().extend(visits);
        } else if of == "Default"
            && let (Some(name), Some(ImplItem::Fn(item))) =
                (name(&item.self_ty), item.items.first())
            && let Some(Expr::Struct(fields)) = value(&item.block)
        {
            self.defaults.insert(name, fields);
        }
    }

    /// The value that the function called `name` returns.
    pub(crate) fn function(&self, name: &str) -> Option<&Expr> {
        self.functions.get(name)
    }

    /// The value of the field `field` in the default of the struct called `name`.
    pub(crate) fn default_of(&self, name: &str, field: &str) -> Option<&Expr> {
        let fields = &self.defaults.get(name)?.fields;
        let is_it = |member: &Member| matches!(member, Member::Named(ident) if ident == field);
        fields.iter().find(|value| is_it(&value.member)).map(|value| &value.expr)
    }

    /// Whether the type called `name` may be written as a text too, beside a table.
    pub(crate) fn is_also_text(&self, name: &str) -> bool {
        self.visits.get(name).is_some_and(|visits| visits.iter().any(|visit| visit == "visit_str"))
    }
}

/// The last name of a type's path.
pub(crate) fn name(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

fn value(block: &Block) -> Option<Expr> {
    match &block.stmts[..] {
        [Stmt::Expr(value, None)] => Some(value.clone()),
        _ => None,
    }
}
