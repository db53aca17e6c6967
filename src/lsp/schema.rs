//! The published schemas of our files, asked for what may stand at a place.

use std::sync::OnceLock;

use serde_json::Value as Json;

use crate::format::Kind;
use crate::pipeline::FileKind;
use crate::pipeline::schema;

/// How deep references are followed.
const MAX_DEPTH: usize = 12;

/// The schemas, made when they are first asked for.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    pipeline: OnceLock<Json>,
    project: OnceLock<Json>,
    connector: OnceLock<Json>,
}

impl Schemas {
    pub(super) fn of(&self, kind: Kind) -> Option<&Json> {
        let (slot, kind) = match kind {
            Kind::Pipeline => (&self.pipeline, FileKind::Pipeline),
            Kind::Project => (&self.project, FileKind::Project),
            Kind::Connector => (&self.connector, FileKind::Connector),
            Kind::Tests | Kind::Other => return None,
        };
        Some(slot.get_or_init(|| schema(kind, &crate::nodes::registry())))
    }
}

/// Something that may stand at a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed<'s> {
    root: &'s Json,
    node: &'s Json,
}

impl<'s> Allowed<'s> {
    pub(super) fn whole(root: &'s Json) -> Self {
        Self { root, node: root }
    }

    /// Follows keys; items are `*`.
    pub(super) fn at(self, path: &[&str]) -> Vec<Self> {
        let mut here = vec![self];
        for key in path {
            here = here.iter().flat_map(|it| it.flat()).flat_map(|it| it.step(key)).collect();
        }
        here
    }

    fn step(self, key: &str) -> Option<Self> {
        let node = if key == "*" {
            self.node.get("items")?
        } else {
            let own = self.node.get("properties").and_then(|properties| properties.get(key));
            own.or_else(|| self.node.get("additionalProperties").filter(|more| more.is_object()))?
        };
        Some(Self { node, ..self })
    }

    /// Lists what it may be: references followed, alternatives side by side.
    pub(super) fn flat(self) -> Vec<Self> {
        let mut found = Vec::new();
        self.collect(&mut found, 0);
        found
    }

    fn collect(self, found: &mut Vec<Self>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        if let Some(target) =
            self.node.get("$ref").and_then(Json::as_str).and_then(|name| self.root.pointer(name.strip_prefix('#')?))
        {
            Self { node: target, ..self }.collect(found, depth + 1);
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            for node in
                self.node.get(key).and_then(Json::as_array).into_iter().flatten().filter(|it| it.get("if").is_none())
            {
                Self { node, ..self }.collect(found, depth + 1);
            }
        }
        if ["properties", "additionalProperties", "items", "enum", "const", "type"]
            .iter()
            .any(|key| self.node.get(key).is_some())
        {
            found.push(self);
        }
    }

    /// Lists the keys that it may have.
    pub(super) fn keys(self) -> Vec<(&'s str, Self)> {
        let properties = self.node.get("properties").and_then(Json::as_object).into_iter().flatten();
        properties.map(|(key, node)| (key.as_str(), Self { node, ..self })).collect()
    }

    pub(super) fn requires(self, key: &str) -> bool {
        self.node.get("required").and_then(Json::as_array).is_some_and(|keys| keys.iter().any(|it| it == key))
    }

    /// Lists the words that it may be, each with what is said of it.
    pub(super) fn words(self) -> Vec<(String, Option<&'s str>)> {
        let mut words = Vec::new();
        for it in self.flat() {
            let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let listed = it.node.get("enum").and_then(Json::as_array).into_iter().flatten();
            let constant = it.node.get("const");
            let said = it.node.get("description").and_then(Json::as_str);
            let plain = listed.chain(constant).filter(|value| !value.is_null());
            words.extend(plain.map(|value| (text(value), said.filter(|_| constant.is_some()))));
            if it.is("boolean") {
                words.extend(["true", "false"].map(|word| (word.to_owned(), None)));
            }
        }
        words.dedup();
        words
    }

    fn is(self, wanted: &str) -> bool {
        match self.node.get("type") {
            Some(Json::String(word)) => word == wanted,
            Some(Json::Array(words)) => words.iter().any(|word| word == wanted),
            _ => false,
        }
    }

    /// Tells whether only a mapping or a list can stand there.
    pub(super) fn is_nested(self) -> bool {
        let flat = self.flat();
        let nested = |it: &Self| it.is("object") || it.is("array") || it.node.get("properties").is_some();
        let scalar = |it: &Self| !nested(it) && !it.is("null") && it.node.get("pattern").is_none();
        flat.iter().any(nested) && !flat.iter().any(scalar)
    }

    /// Returns what is said of it.
    pub(super) fn description(self) -> Option<&'s str> {
        let own = self.node.get("description").and_then(Json::as_str);
        own.or_else(|| self.flat().into_iter().find_map(|it| it.node.get("description").and_then(Json::as_str)))
    }

    pub(super) fn default(self) -> Option<&'s Json> {
        self.node.get("default").filter(|value| !value.is_null())
    }

    /// Names what it may be.
    pub(super) fn named(self) -> String {
        let mut names: Vec<String> = Vec::new();
        for it in self.flat() {
            if it.node.get("enum").is_some() || it.node.get("const").is_some() {
                names.push("word".to_owned());
            }
            match it.node.get("type") {
                Some(Json::String(word)) if it.node.get("enum").is_none() => names.push(word.clone()),
                Some(Json::Array(words)) => names.extend(words.iter().filter_map(Json::as_str).map(str::to_owned)),
                _ => {}
            }
        }
        names.retain(|name| name != "null");
        names.sort();
        names.dedup();
        names.join(" or ")
    }
}
