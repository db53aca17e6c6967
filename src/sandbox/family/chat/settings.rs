//! What a manifest says of a stand-in of the family `chat`.

use indexmap::IndexMap;
use serde::Deserialize;

use super::check;
use super::dialect::Dialect;
use super::dialect::Style;
use super::quota::Quota;
use super::refusal::Errors;
use super::refusal::Refusal;
use super::script::Script;
use crate::model::Map;
use crate::model::Value;
use crate::model::decode;
use crate::sandbox::exchange::Received;
use crate::sandbox::plan::KEYS;

/// The settings of a stand-in.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Where questions are asked, and in which dialect: `/v1/chat/completions: openai`.
    pub paths: IndexMap<String, String>,
    /// Where kept answers are, with `{id}` in it.
    pub kept: Option<String>,
    /// Where texts become vectors.
    pub embeddings: Option<String>,
    /// Whose shape models and vectors have.
    pub shape: Style,
    /// Where a question is only counted, and in which dialect.
    pub count: IndexMap<String, String>,
    /// The header that says which version of the interface is spoken.
    pub versions: Versions,
    pub models: Models,
    /// When a tool is called though none has to be.
    pub tools: Tools,
    /// What each model may be asked in a while; nothing means anything.
    pub quota: Option<Quota>,
    pub errors: Errors,
    /// Go with every answer.
    pub headers: IndexMap<String, String>,
    /// The header in which every answer bears an id of its own, `x-request-id`.
    pub request_id: Option<String>,
    /// What is answered instead of what the stand-in makes up; the first that fits.
    pub replies: Vec<Script>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Models {
    /// Where they are listed, one of them below it.
    pub path: Option<String>,
    /// Where one is shown that a body names.
    pub show: Option<String>,
    /// Who owns what says nothing of an owner.
    pub owner: String,
    /// What models that think have in common.
    pub thinking: Thinking,
    /// Without one, every name is taken for a model.
    pub list: Vec<Model>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Model {
    pub id: String,
    pub owner: Option<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// The most tokens of a question, and of one text to embed.
    pub context: Option<u64>,
    pub thinks: bool,
    /// Which efforts it knows, where it differs from others that think.
    pub efforts: Option<Vec<String>>,
    /// How long its vectors are, for one that embeds: it answers no questions.
    pub dimensions: Option<usize>,
    /// Whether it makes shorter vectors as well.
    pub shortens: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Thinking {
    pub efforts: Vec<String>,
    /// The effort where none is asked for.
    pub effort: String,
    /// Parameters that they refuse, and what there is instead.
    pub refuses: IndexMap<String, Option<String>>,
    /// Parameters that they refuse with any effort but `none`.
    pub refuses_in_thought: Vec<String>,
}

/// The versions of an interface, and what each refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Versions {
    pub header: String,
    /// By version the parameters that it refuses.
    pub known: IndexMap<String, Vec<String>>,
}

impl Versions {
    /// Checks that a request says a version, and asks for nothing that this refuses.
    pub(super) fn check(&self, request: &Received, wire: &Value) -> Result<(), Refusal> {
        if self.header.is_empty() {
            return Ok(());
        }
        let header = &self.header;
        let Some(version) = request.header(header) else {
            return Err(Refusal::of(header, "", format!("{header}: header is required")));
        };
        let Some(refused) = self.known.get(version) else {
            return Err(Refusal::of(header, "", format!("{header}: \"{version}\" is not a valid version")));
        };
        match refused.iter().find(|param| check::at(wire, param).is_some()) {
            Some(param) => Err(Refusal::of(param, "", format!("{param}: not supported with this API version"))),
            None => Ok(()),
        }
    }
}

/// When a tool is called though none has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tools {
    /// When a word of its name stands in the last message of the user.
    #[default]
    Mentioned,
    Always,
    Never,
}

impl Settings {
    pub(super) fn read(section: &Value) -> Result<Self, String> {
        let own: Map = section
            .as_map()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !KEYS.contains(&&***key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut settings: Self = decode(own.into()).map_err(|error| error.to_string())?;
        for dialect in settings.paths.values().chain(settings.count.values()) {
            Dialect::of(dialect).ok_or_else(|| format!("`paths`: there is no dialect `{dialect}`"))?;
        }
        if settings.kept.as_ref().is_some_and(|path| !path.contains("{id}")) {
            return Err("`kept`: the path has no `{id}`".to_owned());
        }
        settings.replies = settings.replies.into_iter().map(Script::checked).collect::<Result<_, _>>()?;
        Ok(settings)
    }
}

impl Models {
    /// Returns the model of this name; without a list there is every one.
    pub(super) fn find(&self, id: &str) -> Option<Model> {
        if self.list.is_empty() {
            return Some(Model { id: id.to_owned(), ..Model::default() });
        }
        let is_it = |model: &&Model| model.id == id || model.id.strip_suffix(":latest") == Some(id);
        self.list.iter().find(is_it).cloned()
    }

    /// Returns the efforts that a model knows; nothing for one that does not think.
    pub(super) fn efforts<'m>(&'m self, model: &'m Model) -> &'m [String] {
        match &model.efforts {
            _ if !model.thinks => &[],
            Some(own) => own,
            None => &self.thinking.efforts,
        }
    }
}
