//! `approval.request`: its form, and who is asked.

use super::Input;
use super::compile::Compiler;
use super::compile::first_line;
use super::inputs;
use super::kinds::Kinds;
use super::kinds::Rest;
use super::kinds::Type;
use super::shapes;
use crate::diag::Code;
use crate::diag::did_you_mean;
use crate::yaml::Entry;
use crate::yaml::Style;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The node that asks people.
pub(super) const NODE: &str = "approval.request";

/// Checks what the node's schema cannot say.
pub(super) fn check(compiler: &mut Compiler<'_>, tree: &Tree) {
    if let Some(entry) = tree.entry("cache") {
        compiler.error(Code::CachedEffect, &entry.key_span, "an approval cannot be cached").help =
            Some("take `cache` away: what people say to one run, they do not say to another".to_owned());
    }
    let Some(with) = tree.get("with").filter(|with| matches!(with.kind, TreeKind::Mapping(_))) else { return };
    let expires = with.entry("on_expiry").filter(|entry| entry.value.as_text() == Some("approve"));
    if let (Some(entry), Some("plan")) = (expires, with.get("bind").and_then(Tree::as_text)) {
        let message = "`on_expiry: approve` approves a plan that nobody has seen";
        compiler.error(Code::InvalidWith, &entry.key_span, message).help =
            Some("take it away, or `bind: plan`".to_owned());
    }
    if let (Some(entry), None) = (with.entry("on_expiry"), with.get("expires")) {
        let message = "`on_expiry` says nothing without `expires`";
        compiler.error(Code::UselessKey, &entry.key_span, message).help = Some("add `expires: 2d`".to_owned());
    }
    if let Some(form) = with.get("form") {
        check_form(compiler, with, form);
    }
    if let Some(approvers) = with.get("approvers") {
        check_approvers(compiler, with, approvers);
    }
}

fn check_form(compiler: &mut Compiler<'_>, with: &Tree, form: &Tree) {
    if is_computed(form) {
        let message = "`form` must be written out, not computed";
        compiler.error(Code::MustBeLiteral, &form.span, message).help =
            Some("its fields belong to the version; only their `default` may be an expression".to_owned());
        return;
    }
    let before = compiler.diagnostics.len();
    for entry in form.entries() {
        computed_inside(compiler, &entry.value);
    }
    if compiler.diagnostics.len() > before {
        return;
    }
    let Some(fields) = inputs::read(compiler, &without_computed_defaults(form)) else { return };
    for field in &fields {
        if let Some(default) = form.get(&field.name).and_then(|declared| declared.get("default")) {
            compiler.expect_default(default, field);
        }
    }
    if compiler.diagnostics.len() > before || with.get("on_expiry").and_then(Tree::as_text) != Some("approve") {
        return;
    }
    for field in fields.iter().filter(|field| field.required) {
        let Some(entry) = form.entry(&field.name) else { continue };
        let message = format!("`on_expiry: approve` leaves nobody to fill in `{}`", field.name);
        compiler.error(Code::InvalidWith, &entry.key_span, message).help =
            Some(format!("give `{}` a `default`", field.name));
    }
}

/// Only a default may be computed.
fn computed_inside(compiler: &mut Compiler<'_>, declared: &Tree) {
    for entry in declared.entries().iter().filter(|entry| &*entry.key != "default") {
        if is_computed(&entry.value) {
            let message = format!("`{}` must be written out, not computed", entry.key);
            compiler.error(Code::MustBeLiteral, &entry.value.span, message);
        }
    }
}

fn is_computed(tree: &Tree) -> bool {
    tree.as_text().is_some_and(|text| text.contains("{{") || text.contains("{%"))
}

/// Returns the form with null, which says that a field may be left out, for defaults that are not known yet.
fn without_computed_defaults(form: &Tree) -> Tree {
    let null = |tree: &Tree| Tree {
        span: tree.span.clone(),
        kind: TreeKind::Scalar { text: "null".into(), style: Style::Plain },
    };
    let field = |field: &Tree| match &field.kind {
        TreeKind::Mapping(entries) => {
            let entries = entries.iter().map(|entry| {
                let computed = &*entry.key == "default" && has_computed(&entry.value);
                Entry { value: if computed { null(&entry.value) } else { entry.value.clone() }, ..entry.clone() }
            });
            Tree { span: field.span.clone(), kind: TreeKind::Mapping(entries.collect()) }
        }
        _ => field.clone(),
    };
    match &form.kind {
        TreeKind::Mapping(entries) => {
            let entries = entries.iter().map(|entry| Entry { value: field(&entry.value), ..entry.clone() });
            Tree { span: form.span.clone(), kind: TreeKind::Mapping(entries.collect()) }
        }
        _ => form.clone(),
    }
}

fn has_computed(tree: &Tree) -> bool {
    match &tree.kind {
        TreeKind::Scalar { .. } => is_computed(tree),
        TreeKind::Sequence(items) => items.iter().any(has_computed),
        TreeKind::Mapping(entries) => entries.iter().any(|entry| has_computed(&entry.value)),
    }
}

/// Says so where nobody is who is asked, or fewer than must agree.
fn check_approvers(compiler: &mut Compiler<'_>, with: &Tree, approvers: &Tree) {
    let Some(people) = compiler.world.declared.people().map(<[_]>::to_vec) else { return };
    let literal = |tree: &Tree| tree.as_text().filter(|_| !is_computed(tree) && !tree.is_null()).map(str::to_owned);
    let names: Option<Vec<String>> = approvers.items().iter().map(literal).collect();
    let known =
        |name: &str| people.iter().any(|person| person.name == name || person.roles.iter().any(|it| it == name));
    let mut unknown = false;
    for item in approvers.items() {
        let Some(name) = literal(item).filter(|name| !known(name)) else { continue };
        unknown = true;
        let all = people.iter().flat_map(|person| std::iter::once(&person.name).chain(&person.roles));
        let near = did_you_mean(&name, all.map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        let add = || format!("add somebody to `pipewright.yaml`: `people: {{ NAME: [{name}] }}`");
        let message = format!("nobody in the project file is `{name}`, or has that role");
        compiler.error(Code::UnknownApprover, &item.span, message).help = Some(near.unwrap_or_else(add));
    }
    let (Some(names), Some(quorum)) = (names.filter(|names| !names.is_empty() && !unknown), with.get("quorum")) else {
        return;
    };
    let Some(wanted) = quorum.as_text().and_then(|text| text.parse::<usize>().ok()) else { return };
    let asked =
        people.iter().filter(|person| names.iter().any(|name| person.name == *name || person.roles.contains(name)));
    let asked = asked.count();
    if wanted > asked {
        let message = format!("`quorum` asks for {wanted} people, and only {asked} are asked");
        compiler.error(Code::InvalidWith, &first_line(&quorum.span), message).help =
            Some("lower it, or name more in `approvers`".to_owned());
    }
}

/// Returns what the output of such a step is: that of its node, with the fields of its form.
pub(super) fn output(output: &Type, with: Option<&Tree>) -> Type {
    let fields = with.and_then(|with| with.get("form")).map(Tree::entries).unwrap_or_default();
    let fields = fields.iter().filter_map(|entry| {
        let mut declared = inputs::declared_input(&entry.key, &without_default(&entry.value)).ok()?;
        // A default that is computed may turn out to be null.
        let default = entry.value.get("default");
        declared.required = default.is_none_or(|default| !default.is_null() && !has_computed(default));
        Some((entry.key.clone(), field_type(&declared)))
    });
    output.with_field("form", Type::map(fields.collect(), Rest::Closed))
}

fn without_default(declared: &Tree) -> crate::model::Value {
    let entries = declared.entries().iter().filter(|entry| &*entry.key != "default");
    crate::model::Value::map(entries.map(|entry| (entry.key.clone(), entry.value.to_value())))
}

fn field_type(field: &Input) -> Type {
    let kind = shapes::declared(field.kind, &field.schema);
    if field.required || kind.kinds.has(Kinds::NULL) { kind } else { kind.or_null() }
}
