//! Which methods a model has, and what they take.

use super::fault::Fault;
use super::fault::Kind;
use super::schema::Model;
use crate::model::Map;
use crate::model::Value;

/// A method of every model, or of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    /// Whether it works on no rows, so that no ids come first.
    pub(super) of_model: bool,
    /// Names in order; those that must be given end in `!`.
    pub(super) parameters: &'static [&'static str],
    /// Whether it writes.
    pub(super) writes: bool,
}

const fn of_model(name: &'static str, parameters: &'static [&'static str]) -> Signature {
    Signature { name, of_model: true, parameters, writes: false }
}

const fn of_rows(name: &'static str, parameters: &'static [&'static str]) -> Signature {
    Signature { name, of_model: false, parameters, writes: false }
}

const fn writing(signature: Signature) -> Signature {
    Signature { writes: true, ..signature }
}

const OF_ALL: &[Signature] = &[
    of_model("search", &["domain!", "offset", "limit", "order"]),
    of_model("search_read", &["domain", "fields", "offset", "limit", "order", "load"]),
    of_model("search_count", &["domain!", "limit"]),
    of_rows("read", &["fields", "load"]),
    writing(of_model("create", &["vals_list!"])),
    writing(of_rows("write", &["vals!"])),
    writing(of_rows("unlink", &[])),
    writing(of_rows("copy", &["default"])),
    of_model("fields_get", &["allfields", "attributes"]),
    of_model("name_search", &["name", "domain", "operator", "limit"]),
    writing(of_model("name_create", &["name!"])),
    of_model("default_get", &["fields!"]),
    writing(of_model("load", &["fields!", "data!"])),
    of_rows("exists", &[]),
    of_rows("get_metadata", &[]),
    of_rows("has_access", &["operation!"]),
    writing(of_rows("action_archive", &[])),
    writing(of_rows("action_unarchive", &[])),
];
const OF_USERS: &[Signature] = &[of_model("context_get", &[])];
const OF_KEYS: &[Signature] =
    &[of_model("generate", &["key!", "scope!", "name!", "expiration_date!"]), of_model("revoke", &["key!"])];
/// A method that settings declare.
const DECLARED: Signature = writing(of_rows("", &[]));

/// Which models have methods of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Special<'a> {
    pub(super) users: &'a str,
    pub(super) keys: &'a str,
}

impl Special<'_> {
    /// Returns the methods of a model.
    pub(super) fn signatures(self, model: &Model) -> Vec<(String, Signature)> {
        let own = if *model.name == *self.users {
            OF_USERS
        } else if *model.name == *self.keys {
            OF_KEYS
        } else {
            &[]
        };
        let built_in = OF_ALL.iter().chain(own).map(|signature| (signature.name.to_owned(), *signature));
        built_in.chain(model.methods.keys().map(|name| (name.to_string(), DECLARED))).collect()
    }

    /// Finds a method, or says why it cannot be called.
    pub(super) fn find(self, model: &Model, name: &str) -> Result<Signature, Fault> {
        if name.starts_with('_') || name == "init" {
            let message = format!("Private methods (such as '{}.{name}') cannot be called remotely.", model.name);
            return Err(Fault::new(Kind::Private, message));
        }
        let found = self.signatures(model).into_iter().find(|(own, _)| own == name);
        let missing = || Fault::new(Kind::Method, format!("The method '{}.{name}' does not exist", model.name));
        found.map(|(_, signature)| signature).ok_or_else(missing)
    }
}

impl Signature {
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.parameters.iter().map(|name| name.trim_end_matches('!'))
    }

    /// Gives every argument its name.
    pub(super) fn bind(&self, positional: &[Value], named: Map) -> Result<Map, Fault> {
        let wrong = |message: String| Fault::new(Kind::Arguments, message);
        let names: Vec<&str> = self.names().collect();
        if positional.len() > names.len() {
            return Err(wrong("too many positional arguments".to_owned()));
        }
        let mut bound = Map::new();
        for (name, value) in names.iter().zip(positional) {
            bound.insert((*name).into(), value.clone());
        }
        for (name, value) in named {
            if !names.contains(&&*name) {
                return Err(wrong(format!("got an unexpected keyword argument '{name}'")));
            }
            if bound.insert(name.clone(), value).is_some() {
                return Err(wrong(format!("multiple values for argument '{name}'")));
            }
        }
        let needed = self.parameters.iter().filter_map(|name| name.strip_suffix('!'));
        match needed.into_iter().find(|name| !bound.contains_key(*name)) {
            Some(name) => Err(wrong(format!("missing a required argument: '{name}'"))),
            None => Ok(bound),
        }
    }
}
