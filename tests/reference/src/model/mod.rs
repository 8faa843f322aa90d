//! Tables and keys, as the structs define them.

use syn::ItemStruct;
use syn::ext::IdentExt;

use crate::doc::Doc;
use crate::sources::{SourceError, Sources};

mod attributes;
mod form;

use attributes::Serde;
use form::{DefaultValue, Form};

/// A table of a config file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its name in the text of a file, such as `[pop]`. Empty for the keys outside of any table.
    pub heading: String,
    /// What it is, and what its keys have in common.
    pub text: String,
    /// Its keys, in the order of the struct.
    pub keys: Vec<Key>,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the text of a file.
    pub name: String,
    /// The form of its value.
    pub form: String,
    /// Its default; `required` where there is none.
    pub default: String,
    /// The values that are permitted, or how many; empty if the meaning says all.
    pub range: String,
    /// What a reload does with a change.
    pub reload: String,
    /// What it means.
    pub text: String,
}

/// The tables of the file whose struct is called `root`.
///
/// # Errors
/// All places in the structs that say too little.
pub(crate) fn tables(sources: &Sources, root: &str) -> Result<Vec<Table>, SourceError> {
    let mut builder = Builder { sources, unclear: Vec::new(), tables: Vec::new() };
    builder.root(root);
    match builder.unclear.is_empty() {
        true => Ok(builder.tables),
        false => Err(SourceError::Unclear(builder.unclear)),
    }
}

struct Builder<'a> {
    sources: &'a Sources,
    unclear: Vec<String>,
    tables: Vec<Table>,
}

impl Builder<'_> {
    fn root(&mut self, name: &str) {
        let Some(item) = self.find(name) else { return };
        let doc = self.doc(name, Doc::of(&item.attrs));
        let reload = doc.reload.clone();
        let top = self.tables.len();
        self.tables.push(Table { text: doc.text, ..Table::default() });
        let mut keys = Vec::new();
        for (field, key) in self.fields(name, &item, reload.as_deref()) {
            match field.form.table() {
                None => keys.extend(key),
                Some(of) => {
                    let (of, heading) = (of.to_owned(), field.heading());
                    self.table(&of, heading, &field.introduction(), reload.as_deref(), &field.name);
                }
            }
        }
        if let Some(table) = self.tables.get_mut(top) {
            table.keys = keys;
        }
    }

    /// Adds the table of the struct called `name`, whose keys have the prefix `path`.
    fn table(
        &mut self,
        name: &str,
        heading: String,
        introduction: &str,
        outer: Option<&str>,
        path: &str,
    ) {
        let Some(item) = self.find(name) else { return };
        let doc = self.doc(name, Doc::of(&item.attrs));
        let reload = doc.reload.as_deref().or(outer);
        let at = self.tables.len();
        let text = format!("{introduction} {}", doc.text).trim().to_owned();
        self.tables.push(Table { heading, text, ..Table::default() });
        let mut keys = Vec::new();
        for (field, key) in self.fields(name, &item, reload) {
            let Some(key) = key else { continue };
            if let Some(of) = field.form.table() {
                let (of, path) = (of.to_owned(), format!("{path}.{}", field.name));
                self.table(&of, path.clone(), "", Some(&key.reload), &path);
            }
            keys.push(key);
        }
        if let Some(table) = self.tables.get_mut(at) {
            table.keys = keys;
        }
    }

    /// The fields of a struct, each with the key that it is unless it says too little. `reload` is
    /// that of the table.
    fn fields(
        &mut self,
        name: &str,
        item: &ItemStruct,
        reload: Option<&str>,
    ) -> Vec<(Field, Option<Key>)> {
        let of_struct = self.serde(name, &item.attrs);
        let mut found = Vec::new();
        for field in &item.fields {
            let Some(ident) = &field.ident else { continue };
            let place = format!("{name}.{ident}");
            let serde = self.serde(&place, &field.attrs);
            let doc = self.doc(&place, Doc::of(&field.attrs));
            let form = match Form::of(&field.ty, self.sources) {
                Ok(form) => form,
                Err(reason) => {
                    self.unclear(&place, &reason);
                    continue;
                }
            };
            let key = ident.unraw().to_string();
            let default = form.default(self.sources, name, &key, &of_struct, &serde);
            let field = Field { name: key, form, default, doc };
            let key = self.key(&place, &field, reload);
            found.push((field, key));
        }
        found
    }

    /// The key that a field is.
    fn key(&mut self, place: &str, field: &Field, reload: Option<&str>) -> Option<Key> {
        let Field { name, form, default, doc } = field;
        let is_table = form.table().is_some() && !form.is_list();
        let default = match (default, &doc.default) {
            (DefaultValue::Known(_), Some(_)) => {
                self.unclear(place, "its doc repeats the default of the code: leave it out");
                return None;
            }
            (DefaultValue::InDoc, None) => {
                self.unclear(place, "its doc has no `Default:`, and the code says none");
                return None;
            }
            (DefaultValue::Required, Some(_)) => {
                self.unclear(place, "it is required, and its doc has a `Default:`");
                return None;
            }
            (DefaultValue::Known(default), None) => default.clone(),
            (DefaultValue::InDoc, Some(default)) => default.clone(),
            (DefaultValue::Required, None) => "required".to_owned(),
        };
        if doc.range.is_none() && !is_table && (form.is_integer() || form.table().is_some()) {
            self.unclear(place, "its doc has no `Range:`");
        }
        let Some(reload) = doc.reload.as_deref().or(reload) else {
            if form.table().is_none() {
                self.unclear(place, "neither its doc nor that of its struct has a `Reload:`");
            }
            return None;
        };
        let mut text = doc.text.clone();
        for variant in form.variants() {
            let variant_doc =
                self.doc(&format!("{place}: {}", variant.written), variant.doc.clone());
            if form.has_words() {
                text = format!("{text} `{}`: {}", variant.written, variant_doc.text);
            }
        }
        Some(Key {
            name: name.clone(),
            form: form.to_string(),
            default,
            range: doc.range.clone().unwrap_or_default(),
            reload: reload.to_owned(),
            text,
        })
    }

    fn find(&mut self, name: &str) -> Option<ItemStruct> {
        let found = self.sources.structs.get(name).cloned();
        if found.is_none() {
            self.unclear(name, "no such struct in the sources");
        }
        found
    }

    /// `doc`, which must say something.
    fn doc(&mut self, place: &str, doc: Doc) -> Doc {
        if doc.text.is_empty() {
            self.unclear(place, "no doc");
        }
        if let Some(label) = doc.misplaced() {
            let label = label.trim_end();
            self.unclear(place, &format!("`{label}` twice, or not in the order of the labels"));
        }
        doc
    }

    fn serde(&mut self, place: &str, attributes: &[syn::Attribute]) -> Serde {
        Serde::of(attributes).unwrap_or_else(|reason| {
            self.unclear(place, &reason.to_string());
            Serde::default()
        })
    }

    fn unclear(&mut self, place: &str, reason: &str) {
        self.unclear.push(format!("{place}: {reason}"));
    }
}

/// A field of a struct.
struct Field {
    name: String,
    form: Form,
    default: DefaultValue,
    doc: Doc,
}

impl Field {
    /// The heading of the table that the field is.
    fn heading(&self) -> String {
        match self.form.is_list() {
            true => format!("[[{}]]", self.name),
            false => format!("[{}]", self.name),
        }
    }

    /// What the table is, and how many there may be.
    fn introduction(&self) -> String {
        let Doc { text, default, range, .. } = &self.doc;
        match (&self.default, default, range) {
            (_, _, Some(range)) => format!("{text} How many: {range}."),
            (DefaultValue::Required, ..) => format!("{text} Required."),
            (_, Some(default), _) => format!("{text} Default: {default}."),
            _ => text.clone(),
        }
    }
}
