//! Models and their fields.

use std::sync::Arc;

use indexmap::IndexMap;

use super::settings::FieldSettings;
use super::settings::GuardSettings;
use super::settings::Inherited;
use super::settings::ModelSettings;
use super::settings::UniqueSettings;
use crate::model::Value;
use crate::model::decode;
use crate::template::Template;

/// All models, by name.
#[derive(Debug, Default)]
pub(super) struct Schema(pub(super) IndexMap<Arc<str>, Model>);

#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: Arc<str>,
    pub(super) title: String,
    pub(super) fields: IndexMap<Arc<str>, Field>,
    pub(super) order: String,
    pub(super) display: Option<Template>,
    /// The field that points to the row above, in a tree.
    pub(super) parent: Arc<str>,
    pub(super) inherits: Option<Inherited>,
    pub(super) brings: Option<Inherited>,
    pub(super) methods: IndexMap<Arc<str>, Method>,
    pub(super) unique: Vec<UniqueSettings>,
    pub(super) checks: Vec<(Template, String)>,
    pub(super) frozen: Vec<GuardSettings>,
    pub(super) kept: Vec<GuardSettings>,
}

#[derive(Debug)]
pub(super) struct Method {
    pub(super) when: Value,
    pub(super) refuse: String,
    pub(super) set: Vec<(Arc<str>, Written)>,
    pub(super) returns: Value,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Arc<str>,
    pub(super) label: String,
    pub(super) kind: Kind,
    /// As it was written, for what has no meaning of its own here.
    pub(super) kind_name: String,
    pub(super) required: bool,
    pub(super) readonly: bool,
    pub(super) relation: Option<Arc<str>>,
    pub(super) inverse: Option<Arc<str>>,
    pub(super) selection: Vec<(Arc<str>, Arc<str>)>,
    pub(super) default: Option<Written>,
    pub(super) source: Source,
    /// Whether a value for a related field is written to where it comes from.
    pub(super) through: bool,
    /// Where a value is taken from once, if nobody gives one.
    pub(super) from: Option<Vec<Arc<str>>>,
    pub(super) ondelete: OnDelete,
    pub(super) hidden: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Selection,
    Integer,
    Float,
    Monetary,
    Boolean,
    Date,
    DateTime,
    Many2one,
    One2many,
    Many2many,
    Any,
}

/// Where the value of a field comes from.
#[derive(Debug)]
pub(super) enum Source {
    Stored,
    /// The field of this name of the row that stands behind.
    Inherited,
    Computed(Template),
    Sum(Vec<Arc<str>>),
    Related(Vec<Arc<str>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDelete {
    Cascade,
    Restrict,
    Clear,
}

/// A value, or an expression that gives one.
#[derive(Debug)]
pub(super) enum Written {
    Value(Value),
    Expression(Template),
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "char" | "text" | "html" | "binary" => Self::Text,
            "selection" => Self::Selection,
            "integer" | "many2one_reference" => Self::Integer,
            "float" => Self::Float,
            "monetary" => Self::Monetary,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "datetime" => Self::DateTime,
            "many2one" => Self::Many2one,
            "one2many" => Self::One2many,
            "many2many" => Self::Many2many,
            "json" | "properties" => Self::Any,
            _ => return None,
        })
    }

    /// Tells whether it holds many rows.
    pub(super) fn is_many(self) -> bool {
        matches!(self, Self::One2many | Self::Many2many)
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Float | Self::Monetary)
    }
}

impl Written {
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        match value.as_str().filter(|text| text.contains("{{")) {
            Some(text) => expression(text).map(Self::Expression),
            None => Ok(Self::Value(value.clone())),
        }
    }
}

impl Field {
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.source, Source::Stored)
    }

    /// Tells whether callers may give it a value.
    pub(super) fn is_writable(&self) -> bool {
        let kept = matches!(self.source, Source::Stored | Source::Inherited) || self.through;
        kept && !LOGGED.contains(&&*self.name)
    }
}

/// Fields that the server itself keeps in every row.
pub(super) const LOGGED: &[&str] = &["id", "display_name", "create_date", "create_uid", "write_date", "write_uid"];

impl Model {
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }

    /// Returns the field that names a row.
    pub(super) fn name_field(&self) -> Option<&Field> {
        self.field("name")
    }
}

impl Schema {
    /// Makes models of what is written.
    pub(super) fn make(settings: &IndexMap<Arc<str>, ModelSettings>, user_model: &Arc<str>) -> Result<Self, String> {
        let mut models = IndexMap::new();
        for (name, written) in settings {
            let model = model(name, written, user_model).map_err(|error| format!("model `{name}`: {error}"))?;
            models.insert(name.clone(), model);
        }
        let names: Vec<Arc<str>> = models.keys().cloned().collect();
        for name in &names {
            let parent = models.get(name).and_then(|model: &Model| model.inherits.clone());
            let Some(parent) = parent else { continue };
            let behind = models.get(&parent.model).ok_or_else(|| format!("there is no model `{}`", parent.model))?;
            let fields: Vec<Field> = behind.fields.values().filter(|field| !field.hidden).map(Field::behind).collect();
            if let Some(model) = models.get_mut(name) {
                for field in fields {
                    model.fields.entry(field.name.clone()).or_insert(field);
                }
            }
        }
        let schema = Self(models);
        schema.check()?;
        Ok(schema)
    }

    pub(super) fn model(&self, name: &str) -> Option<&Model> {
        self.0.get(name)
    }

    fn check(&self) -> Result<(), String> {
        for model in self.0.values() {
            for field in model.fields.values() {
                let place = format!("field `{}` of `{}`", field.name, model.name);
                let target = match &field.relation {
                    Some(name) => Some(self.model(name).ok_or_else(|| format!("{place}: there is no model `{name}`"))?),
                    None => None,
                };
                let related = field.kind.is_many() || field.kind == Kind::Many2one;
                if related && target.is_none() {
                    return Err(format!("{place} needs a `relation`"));
                }
                let back =
                    field.inverse.as_deref().zip(target).map(|(inverse, target)| target.field(inverse).is_some());
                if field.kind == Kind::One2many && field.is_stored() && back != Some(true) {
                    return Err(format!("{place} needs an `inverse` that is a field of its relation"));
                }
            }
        }
        Ok(())
    }
}

impl Field {
    /// Makes the field of a model that has a row of another behind it.
    fn behind(&self) -> Self {
        Self {
            name: self.name.clone(),
            label: self.label.clone(),
            kind: self.kind,
            kind_name: self.kind_name.clone(),
            required: self.required,
            readonly: self.readonly,
            relation: self.relation.clone(),
            inverse: self.inverse.clone(),
            selection: self.selection.clone(),
            default: None,
            source: Source::Inherited,
            through: false,
            from: None,
            ondelete: OnDelete::Clear,
            hidden: false,
        }
    }
}

fn model(name: &Arc<str>, written: &ModelSettings, user_model: &Arc<str>) -> Result<Model, String> {
    let mut fields = IndexMap::new();
    for (key, value) in written.fields.iter().map(|(key, value)| (key.clone(), value.clone())).chain(logged(user_model))
    {
        let value = if value.as_str().is_some() { Value::map([("type", value)]) } else { value };
        let settings: FieldSettings = decode(value).map_err(|error| format!("field `{key}`: {error}"))?;
        let field = field(&key, settings).map_err(|error| format!("field `{key}`: {error}"))?;
        fields.insert(key, field);
    }
    let mut methods = IndexMap::new();
    for (key, method) in &written.methods {
        let set = method.set.iter().map(|(field, value)| Ok((field.clone(), Written::read(value)?)));
        methods.insert(
            key.clone(),
            Method {
                when: method.when.clone(),
                refuse: method.refuse.clone().unwrap_or_else(|| "This cannot be done in the current state.".to_owned()),
                set: set.collect::<Result<_, String>>()?,
                returns: method.returns.clone(),
            },
        );
    }
    let checks = written.checks.iter().map(|check| Ok((expression(&check.that)?, check.message.clone())));
    Ok(Model {
        name: name.clone(),
        title: written.title.clone(),
        fields,
        order: written.order.clone().unwrap_or_else(|| "id".to_owned()),
        display: written.display.as_deref().map(expression).transpose()?,
        parent: written.parent.clone().unwrap_or_else(|| "parent_id".into()),
        inherits: written.inherits.clone(),
        brings: written.brings.clone(),
        methods,
        unique: written.unique.clone(),
        checks: checks.collect::<Result<_, String>>()?,
        frozen: written.frozen.clone(),
        kept: written.kept.clone(),
    })
}

/// Returns the fields that every model has.
fn logged(user_model: &Arc<str>) -> Vec<(Arc<str>, Value)> {
    let field = |name: &str, kind: &str, label: &str| {
        let mut entries =
            vec![("type", Value::from(kind)), ("string", Value::from(label)), ("readonly", Value::Bool(true))];
        if kind == "many2one" {
            entries.push(("relation", Value::from(&**user_model)));
        }
        (Arc::from(name), Value::map(entries))
    };
    vec![
        field("id", "integer", "ID"),
        field("display_name", "char", "Display Name"),
        field("create_uid", "many2one", "Created by"),
        field("create_date", "datetime", "Created on"),
        field("write_uid", "many2one", "Last Updated by"),
        field("write_date", "datetime", "Last Updated on"),
    ]
}

fn field(name: &Arc<str>, written: FieldSettings) -> Result<Field, String> {
    let kind = Kind::of(&written.kind).ok_or_else(|| format!("there is no type `{}`", written.kind))?;
    let path = |text: &str| text.split('.').map(Arc::from).collect::<Vec<Arc<str>>>();
    let source = match (&written.compute, &written.sum, &written.related) {
        (Some(text), ..) => Source::Computed(expression(text)?),
        (_, Some(text), _) => Source::Sum(path(text)),
        (.., Some(text)) => Source::Related(path(text)),
        _ => Source::Stored,
    };
    let ondelete = match written.ondelete.as_deref() {
        Some("cascade") => OnDelete::Cascade,
        Some("restrict") => OnDelete::Restrict,
        Some("set null") => OnDelete::Clear,
        None if written.required => OnDelete::Restrict,
        None => OnDelete::Clear,
        Some(other) => return Err(format!("`ondelete` is `cascade`, `restrict` or `set null`, not `{other}`")),
    };
    Ok(Field {
        name: name.clone(),
        label: written.string.unwrap_or_else(|| label(name)),
        kind,
        kind_name: written.kind,
        required: written.required,
        readonly: written.readonly || !(written.through || matches!(source, Source::Stored)),
        relation: written.relation,
        inverse: written.inverse,
        selection: written.selection.iter().map(choice).collect::<Result<_, _>>()?,
        default: Some(&written.default).filter(|it| !it.is_null()).map(Written::read).transpose()?,
        source,
        through: written.through,
        from: written.from.as_deref().map(path),
        ondelete,
        hidden: written.hidden,
    })
}

fn choice(written: &Value) -> Result<(Arc<str>, Arc<str>), String> {
    match written {
        Value::String(key) => Ok((key.clone(), label(key).into())),
        Value::List(pair) => match pair.as_slice() {
            [Value::String(key), Value::String(label)] => Ok((key.clone(), label.clone())),
            _ => Err("a choice is a key, or a pair of key and label".to_owned()),
        },
        other => Err(format!("a choice is a key, or a pair of key and label, found {}", other.kind().name())),
    }
}

/// Makes a label of a name: `order_line` is `Order Line`.
fn label(name: &str) -> String {
    let name = name.strip_suffix("_id").or_else(|| name.strip_suffix("_ids")).unwrap_or(name);
    let words = name.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    });
    words.collect::<Vec<String>>().join(" ")
}

fn expression(text: &str) -> Result<Template, String> {
    Template::parse_lenient(text).map_err(|error| format!("`{text}`: {}", error.message))
}
