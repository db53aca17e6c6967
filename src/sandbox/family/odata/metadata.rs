//! The description of a service, EDMX in both versions.

use std::sync::Arc;

use indexmap::IndexMap;

use super::Desk;
use super::edm::Kind;
use super::edm::Version;
use super::fault::Fault;
use super::fault::Reason;
use super::schema::Navigation;
use super::schema::Property;
use super::schema::Returns;
use super::schema::Set;
use super::settings::Annotations;
use crate::connector::body::Payload;
use crate::connector::body::xml;
use crate::model::Map;
use crate::model::Value;

/// Describes a service.
pub(super) fn describe(desk: &Desk<'_>) -> Result<Payload, Fault> {
    let document = match desk.service.version {
        Version::V2 => v2(desk),
        Version::V4 => v4(desk),
    };
    xml::encode(&document).map_err(|error| Fault::new(Reason::Unsupported, error))
}

/// An element: attributes, then children by name.
fn element(attributes: &[(&str, &str)], children: Vec<(&str, Vec<Value>)>) -> Value {
    let mut map = Map::new();
    for (name, value) in attributes {
        map.insert(format!("@{name}").into(), Value::from(*value));
    }
    for (name, items) in children {
        if !items.is_empty() {
            map.insert(name.into(), Value::list(items));
        }
    }
    Value::from(map)
}

fn borrowed(attributes: &[(String, String)]) -> Vec<(&str, &str)> {
    attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn empty(attributes: &[(&str, &str)]) -> Value {
    element(attributes, Vec::new())
}

fn key(set: &Set) -> Value {
    element(&[], vec![("PropertyRef", set.key.iter().map(|name| empty(&[("Name", name)])).collect())])
}

fn v2(desk: &Desk<'_>) -> Value {
    let service = desk.service;
    let annotations = desk.settings.annotations.as_ref();
    let mut schema =
        vec![("Namespace", &*service.namespace), ("xmlns", "http://schemas.microsoft.com/ado/2008/09/edm")];
    let declared = annotations.map(|it| (format!("xmlns:{}", it.prefix), it.namespace.as_str()));
    schema.extend(declared.as_ref().map(|(name, namespace)| (name.as_str(), *namespace)));
    let types = service.sets.values().map(|set| type_v2(desk, set, annotations));
    let (mut associations, mut association_sets) = (Vec::new(), Vec::new());
    for set in service.sets.values() {
        for (name, navigation) in &set.navigations {
            let (association, association_set) = association(desk, set, name, navigation);
            associations.push(association);
            association_sets.push(association_set);
        }
    }
    let sets = service.sets.values().map(|set| {
        let kind = format!("{}.{}", service.namespace, set.type_name);
        let mut attributes = vec![("Name".to_owned(), set.name.to_string()), ("EntityType".to_owned(), kind)];
        if let Some(it) = annotations {
            let writable = (!set.read_only).to_string();
            let marks = ["creatable", "updatable", "deletable"].map(|name| format!("{}:{name}", it.prefix));
            attributes.extend(marks.map(|mark| (mark, writable.clone())));
        }
        empty(&borrowed(&attributes))
    });
    let container = element(
        &[("Name", &format!("{}_Entities", service.namespace)), ("m:IsDefaultEntityContainer", "true")],
        vec![("EntitySet", sets.collect()), ("AssociationSet", association_sets), ("FunctionImport", imports_v2(desk))],
    );
    let schema = element(
        &schema,
        vec![("EntityType", types.collect()), ("Association", associations), ("EntityContainer", vec![container])],
    );
    let services = element(&[("m:DataServiceVersion", "2.0")], vec![("Schema", vec![schema])]);
    let root = element(
        &[
            ("Version", "1.0"),
            ("xmlns:edmx", "http://schemas.microsoft.com/ado/2007/06/edmx"),
            ("xmlns:m", "http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"),
        ],
        vec![("edmx:DataServices", vec![services])],
    );
    Value::map([("edmx:Edmx", root)])
}

fn type_v2(desk: &Desk<'_>, set: &Set, annotations: Option<&Annotations>) -> Value {
    let properties = set.properties.iter().map(|(name, property)| {
        let mut attributes = facets(set, name, property, Version::V2);
        if set.etag.as_ref() == Some(property) {
            attributes.push(("ConcurrencyMode".to_owned(), "Fixed".to_owned()));
        }
        if let Some(it) = annotations {
            if property.kind == Kind::Date {
                attributes.push((format!("{}:display-format", it.prefix), "Date".to_owned()));
            }
            attributes.push((format!("{}:label", it.prefix), label(name)));
        }
        empty(&borrowed(&attributes))
    });
    let navigations = set.navigations.keys().map(|name| {
        let association = format!("{}.{}", desk.service.namespace, association_name(set, name));
        let (from, to) = (format!("FromRole_{association}"), format!("ToRole_{association}"));
        let (from, to) = (from.replace('.', "_"), to.replace('.', "_"));
        empty(&[("Name", name), ("Relationship", &association), ("FromRole", &from), ("ToRole", &to)])
    });
    let (properties, navigations) = (properties.collect(), navigations.collect());
    element(
        &[("Name", &set.type_name)],
        vec![("Key", vec![key(set)]), ("Property", properties), ("NavigationProperty", navigations)],
    )
}

/// Takes the words of a name apart.
fn label(name: &str) -> String {
    let mut label = String::new();
    let mut small = false;
    for letter in name.chars() {
        if letter.is_uppercase() && small {
            label.push(' ');
        }
        small = letter.is_lowercase();
        label.push(letter);
    }
    label
}

fn facets(set: &Set, name: &str, property: &Property, version: Version) -> Vec<(String, String)> {
    let mut found = vec![("Name", name.to_owned()), ("Type", property.kind.name(version).to_owned())];
    let of_key = set.key.iter().any(|own| &**own == name);
    found.extend(of_key.then(|| ("Nullable", "false".to_owned())));
    match property.kind {
        Kind::Text { length: Some(length) } => found.push(("MaxLength", length.to_string())),
        Kind::Decimal { precision, scale } => {
            found.extend([("Precision", precision.to_string()), ("Scale", scale.to_string())]);
        }
        Kind::Date | Kind::DateTime | Kind::Time if version == Version::V2 => {
            found.push(("Precision", "0".to_owned()));
        }
        Kind::DateTimeOffset => found.push(("Precision", "7".to_owned())),
        _ => {}
    }
    found.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn association_name(set: &Set, navigation: &str) -> String {
    format!("assoc_{}_{navigation}", set.name)
}

fn association(desk: &Desk<'_>, set: &Set, name: &str, navigation: &Navigation) -> (Value, Value) {
    let namespace = &desk.service.namespace;
    let short = association_name(set, name);
    let role = format!("{namespace}.{short}").replace('.', "_");
    let (from, to) = (format!("FromRole_{role}"), format!("ToRole_{role}"));
    let kind = |set: &Set| format!("{namespace}.{}", set.type_name);
    let other = desk.set(&navigation.set).map(kind).unwrap_or_default();
    let many = if navigation.many { "*" } else { "0..1" };
    let ends = vec![
        empty(&[("Type", &kind(set)), ("Multiplicity", if navigation.many { "1" } else { "*" }), ("Role", &from)]),
        empty(&[("Type", &other), ("Multiplicity", many), ("Role", &to)]),
    ];
    let sets = vec![
        empty(&[("EntitySet", &set.name), ("Role", &from)]),
        empty(&[("EntitySet", &navigation.set), ("Role", &to)]),
    ];
    let full = format!("{namespace}.{short}");
    (
        element(&[("Name", &short)], vec![("End", ends)]),
        element(&[("Name", &format!("{short}_set")), ("Association", &full)], vec![("End", sets)]),
    )
}

fn imports_v2(desk: &Desk<'_>) -> Vec<Value> {
    let imports = desk.service.functions.iter().filter_map(|(name, function)| {
        let set = desk.set(&function.set).ok()?;
        let entity = format!("{}.{}", desk.service.namespace, set.type_name);
        let returned = match &function.returns {
            Returns::One => Some(entity),
            Returns::Many => Some(format!("Collection({entity})")),
            Returns::Nothing => None,
            Returns::Value(property) => Some(set.column(property)?.1.name(Version::V2).to_owned()),
        };
        let method = if function.reads { "GET" } else { "POST" };
        let mut attributes = vec![("Name", &**name), ("m:HttpMethod", method)];
        attributes.extend(returned.as_deref().map(|returned| ("ReturnType", returned)));
        if matches!(function.returns, Returns::One | Returns::Many) {
            attributes.push(("EntitySet", &*set.name));
        }
        Some(element(&attributes, vec![("Parameter", parameters(&function.parameters, Version::V2))]))
    });
    imports.collect()
}

fn parameters(parameters: &IndexMap<Arc<str>, Kind>, version: Version) -> Vec<Value> {
    let one = |(name, kind): (&Arc<str>, &Kind)| {
        let mut attributes = vec![("Name", &**name), ("Type", kind.name(version))];
        attributes.extend((version == Version::V2).then_some(("Mode", "In")));
        empty(&attributes)
    };
    parameters.iter().map(one).collect()
}

fn v4(desk: &Desk<'_>) -> Value {
    let service = desk.service;
    let full = |name: &str| format!("{}.{name}", service.namespace);
    let types = service.sets.values().map(|set| {
        let properties =
            set.properties.iter().map(|(name, property)| empty(&borrowed(&facets(set, name, property, Version::V4))));
        let navigations = set.navigations.iter().map(|(name, navigation)| {
            let kind = desk.set(&navigation.set).map(|to| full(&to.type_name)).unwrap_or_default();
            let kind = if navigation.many { format!("Collection({kind})") } else { kind };
            empty(&[("Name", name), ("Type", &kind)])
        });
        let (properties, navigations) = (properties.collect(), navigations.collect());
        element(
            &[("Name", &set.type_name)],
            vec![("Key", vec![key(set)]), ("Property", properties), ("NavigationProperty", navigations)],
        )
    });
    let sets = service.sets.values().map(|set| {
        let bindings =
            set.navigations.iter().map(|(name, navigation)| empty(&[("Path", name), ("Target", &navigation.set)]));
        let attributes = [("Name", &*set.name), ("EntityType", &full(&set.type_name))];
        element(&attributes, vec![("NavigationPropertyBinding", bindings.collect())])
    });
    let mut operations: [(&str, &str, Vec<Value>, Vec<Value>); 2] =
        [("Function", "FunctionImport", vec![], vec![]), ("Action", "ActionImport", vec![], vec![])];
    for (name, function) in &service.functions {
        let Ok(set) = desk.set(&function.set) else { continue };
        let [reads, writes] = &mut operations;
        let (kind, _, declared, imported) = if function.reads { reads } else { writes };
        let entity = full(&set.type_name);
        let returned = match &function.returns {
            Returns::One => Some(entity.clone()),
            Returns::Many => Some(format!("Collection({entity})")),
            Returns::Nothing => None,
            Returns::Value(property) => set.column(property).map(|(_, kind)| kind.name(Version::V4).to_owned()),
        };
        let mut taken = parameters(&function.parameters, Version::V4);
        let mut attributes = vec![("Name", &**name)];
        if function.bound {
            attributes.push(("IsBound", "true"));
            taken.insert(0, empty(&[("Name", "_it"), ("Type", &entity)]));
        } else {
            let operation = full(name);
            imported.push(empty(&[("Name", name), (&**kind, &operation)]));
        }
        let returned = returned.map(|returned| empty(&[("Type", &returned)]));
        let children = vec![("Parameter", taken), ("ReturnType", returned.into_iter().collect())];
        declared.push(element(&attributes, children));
    }
    let [(function, function_import, functions, function_imports), (action, action_import, actions, action_imports)] =
        operations;
    let container = element(
        &[("Name", "Container")],
        vec![("EntitySet", sets.collect()), (function_import, function_imports), (action_import, action_imports)],
    );
    let schema = element(
        &[("Namespace", &*service.namespace), ("xmlns", "http://docs.oasis-open.org/odata/ns/edm")],
        vec![
            ("EntityType", types.collect()),
            (function, functions),
            (action, actions),
            ("EntityContainer", vec![container]),
        ],
    );
    let root = element(
        &[("Version", "4.0"), ("xmlns:edmx", "http://docs.oasis-open.org/odata/ns/edmx")],
        vec![("edmx:DataServices", vec![element(&[], vec![("Schema", vec![schema])])])],
    );
    Value::map([("edmx:Edmx", root)])
}
