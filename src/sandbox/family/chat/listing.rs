//! How models are listed, in the shape of each provider.

use super::check;
use super::dialect::Style;
use super::refusal::Refusal;
use super::settings::Model;
use super::settings::Models;
use super::words::hash;
use crate::model::Timestamp;
use crate::model::Value;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;

/// How many are on a page that does not say how long it is.
const PAGE: usize = 20;

impl Models {
    /// Lists them, or one page of them.
    pub(super) fn listed(&self, style: Style, request: &Received) -> Result<Reply, Refusal> {
        let page = |rows: &str, after: &str| self.page(request, rows, after);
        let rows = |models: &[Model]| Value::list(models.iter().map(|model| self.row(style, model)).collect());
        let body = match style {
            Style::OpenAi => Value::map([("object", "list".into()), ("data", rows(&self.list))]),
            Style::Ollama => Value::map([("models", rows(&self.list))]),
            Style::Anthropic => {
                let (models, more) = page("limit", "after_id")?;
                let id = |model: Option<&Model>| model.map_or(Value::Null, |model| model.id.as_str().into());
                Value::map([
                    ("data", rows(models)),
                    ("has_more", Value::Bool(more)),
                    ("first_id", id(models.first())),
                    ("last_id", id(models.last())),
                ])
            }
            Style::Cohere => {
                let (models, more) = page("page_size", "page_token")?;
                let mut body = vec![("models", rows(models))];
                body.extend(models.last().filter(|_| more).map(|last| ("next_page_token", last.id.as_str().into())));
                Value::map(body)
            }
        };
        Ok(Reply::json(200, &body))
    }

    fn page(&self, request: &Received, size: &str, after: &str) -> Result<(&[Model], bool), Refusal> {
        let size = match request.parameter(size).map(str::parse::<usize>) {
            None => PAGE,
            Some(Ok(given)) if (1..=1_000).contains(&given) => given,
            Some(_) => return Err(Refusal::of(size, "", format!("{size}: it is between 1 and 1000"))),
        };
        let start = match request.parameter(after).filter(|after| !after.is_empty()) {
            None => 0,
            Some(id) => self.list.iter().position(|model| model.id == id).ok_or_else(|| check::no_model(id))? + 1,
        };
        let rest = self.list.get(start..).unwrap_or_default();
        Ok((rest.get(..size).unwrap_or(rest), rest.len() > size))
    }

    /// Writes a model as it is listed.
    pub(super) fn row(&self, style: Style, model: &Model) -> Value {
        let id = Value::from(model.id.as_str());
        let created = Timestamp(model.created.saturating_mul(1_000_000)).to_string();
        let none = || Value::list(Vec::new());
        let texts = |texts: &[&str]| Value::list(texts.iter().map(|text| Value::from(*text)).collect());
        match style {
            Style::OpenAi => Value::map([
                ("id", id),
                ("object", "model".into()),
                ("created", Value::from(model.created)),
                ("owned_by", model.owner.as_deref().unwrap_or(&self.owner).into()),
            ]),
            Style::Anthropic => Value::map([
                ("type", "model".into()),
                ("id", id.clone()),
                ("display_name", id),
                ("created_at", created.into()),
                ("lifecycle", "active".into()),
                ("deprecated_at", Value::Null),
                ("retires_at", Value::Null),
                ("max_input_tokens", model.context.map(Value::from).unwrap_or_default()),
                ("max_tokens", Value::Int(128_000)),
            ]),
            Style::Cohere => Value::map([
                ("name", id),
                ("is_deprecated", Value::Bool(false)),
                ("endpoints", texts(if model.dimensions.is_some() { &["embed"] } else { &["chat"] })),
                ("finetuned", Value::Bool(false)),
                ("context_length", model.context.map(Value::from).unwrap_or_default()),
                ("features", if model.dimensions.is_some() { none() } else { texts(&["tools", "json_schema"]) }),
                ("default_endpoints", none()),
            ]),
            Style::Ollama => Value::map([
                ("name", id.clone()),
                ("model", id),
                ("modified_at", created.into()),
                ("size", Value::Int(2_019_393_189)),
                ("digest", format!("{:064x}", hash(0, &model.id)).into()),
                ("details", self.details(model)),
                ("capabilities", texts(&capabilities(model))),
            ]),
        }
    }

    fn details(&self, model: &Model) -> Value {
        let family = Value::from(model.owner.as_deref().unwrap_or(&self.owner));
        Value::map([
            ("format", "gguf".into()),
            ("family", family.clone()),
            ("families", Value::list(vec![family])),
            ("parameter_size", "3.2B".into()),
            ("quantization_level", "Q4_K_M".into()),
        ])
    }

    /// Writes all that is told of one model.
    pub(super) fn shown(&self, model: &Model) -> Value {
        let family = model.owner.as_deref().unwrap_or(&self.owner);
        let context = model.context.map(Value::from).unwrap_or(Value::Int(131_072));
        let known = Value::map([
            ("general.architecture".to_owned(), Value::from(family)),
            (format!("{family}.context_length"), context),
        ]);
        let capabilities = capabilities(model).into_iter().map(Value::from);
        Value::map([
            ("parameters", "".into()),
            ("template", "{{ .Prompt }}".into()),
            ("details", self.details(model)),
            ("model_info", known),
            ("capabilities", Value::list(capabilities.collect())),
        ])
    }
}

fn capabilities(model: &Model) -> Vec<&'static str> {
    match (model.dimensions, model.thinks) {
        (Some(_), _) => vec!["embedding"],
        (None, true) => vec!["completion", "tools", "thinking"],
        (None, false) => vec!["completion", "tools"],
    }
}
