//! Where the dialects differ on the side that answers, beside what the codec knows: names, and what a parameter may be.

use serde::Deserialize;

/// Whose ways a dialect has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Style {
    #[default]
    OpenAi,
    Anthropic,
    Cohere,
    Ollama,
}

/// A dialect of questions.
#[derive(Debug)]
pub(super) struct Dialect {
    /// As the codec calls it.
    pub name: &'static str,
    pub style: Style,
    /// How the ids of answers begin.
    pub id: &'static str,
    /// How the ids of calls begin.
    pub call: &'static str,
    /// Where the messages stand.
    pub messages: &'static str,
    /// Where the effort stands.
    pub effort: &'static str,
    /// Where the form of an answer stands, and its schema in it.
    pub format: &'static str,
    pub schema: &'static str,
    /// Whether an answer can be kept, and is unless the question says no.
    pub keeps: bool,
    pub rules: &'static [Rule],
}

/// What a parameter may be; what is not given is always well, unless it is needed.
#[derive(Debug)]
pub(super) struct Rule {
    pub path: &'static str,
    pub is: Is,
}

#[derive(Debug)]
pub(super) enum Is {
    Text,
    Flag,
    Map,
    Pairs(usize),
    Whole(i64, i64),
    Decimal(i64, i64),
    Word(&'static [&'static str]),
    List(usize, usize),
    /// One text, or so many.
    Texts(usize),
    /// What must be there.
    Needed,
    /// What the stand-in cannot do, beyond this one value.
    Only(&'static str),
}

const fn rule(path: &'static str, is: Is) -> Rule {
    Rule { path, is }
}

const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const LEVELS: &[&str] = &["low", "medium", "high"];
const FORMS: &[&str] = &["text", "json_object", "json_schema"];
const TIERS: &[&str] = &["auto", "default", "flex", "scale", "priority", "fast"];
const MOST_TOOLS: usize = 128;

static ALL: &[Dialect] = &[
    Dialect {
        name: "openai",
        style: Style::OpenAi,
        id: "chatcmpl-",
        call: "call_",
        messages: "messages",
        effort: "reasoning_effort",
        format: "response_format",
        schema: "response_format.json_schema",
        keeps: false,
        rules: &[
            rule("messages", Is::Needed),
            rule("messages", Is::List(1, usize::MAX)),
            rule("max_completion_tokens", Is::Whole(1, i64::MAX)),
            rule("max_tokens", Is::Whole(1, i64::MAX)),
            rule("temperature", Is::Decimal(0, 2)),
            rule("top_p", Is::Decimal(0, 1)),
            rule("frequency_penalty", Is::Decimal(-2, 2)),
            rule("presence_penalty", Is::Decimal(-2, 2)),
            rule("n", Is::Whole(1, 128)),
            rule("n", Is::Only("1")),
            rule("seed", Is::Whole(i64::MIN, i64::MAX)),
            rule("stop", Is::Texts(4)),
            rule("stream", Is::Flag),
            rule("store", Is::Flag),
            rule("stream_options", Is::Map),
            rule("logprobs", Is::Flag),
            rule("top_logprobs", Is::Whole(0, 20)),
            rule("tools", Is::List(1, MOST_TOOLS)),
            rule("parallel_tool_calls", Is::Flag),
            rule("reasoning_effort", Is::Word(EFFORTS)),
            rule("verbosity", Is::Word(LEVELS)),
            rule("service_tier", Is::Word(TIERS)),
            rule("metadata", Is::Pairs(16)),
            rule("response_format", Is::Map),
            rule("response_format.type", Is::Word(FORMS)),
        ],
    },
    Dialect {
        name: "openai_responses",
        style: Style::OpenAi,
        id: "resp_",
        call: "call_",
        messages: "input",
        effort: "reasoning.effort",
        format: "text.format",
        schema: "text.format",
        keeps: true,
        rules: &[
            rule("input", Is::Needed),
            rule("input", Is::Texts(usize::MAX)),
            rule("max_output_tokens", Is::Whole(16, i64::MAX)),
            rule("temperature", Is::Decimal(0, 2)),
            rule("top_p", Is::Decimal(0, 1)),
            rule("top_logprobs", Is::Whole(0, 20)),
            rule("stream", Is::Flag),
            rule("store", Is::Flag),
            rule("background", Is::Flag),
            rule("background", Is::Only("false")),
            rule("conversation", Is::Only("null")),
            rule("instructions", Is::Text),
            rule("previous_response_id", Is::Text),
            rule("tools", Is::List(0, MOST_TOOLS)),
            rule("parallel_tool_calls", Is::Flag),
            rule("max_tool_calls", Is::Whole(1, i64::MAX)),
            rule("include", Is::List(0, usize::MAX)),
            rule("reasoning", Is::Map),
            rule("reasoning.effort", Is::Word(EFFORTS)),
            rule("reasoning.summary", Is::Word(&["auto", "concise", "detailed"])),
            rule("service_tier", Is::Word(TIERS)),
            rule("metadata", Is::Pairs(16)),
            rule("text", Is::Map),
            rule("text.format.type", Is::Word(FORMS)),
            rule("text.verbosity", Is::Word(LEVELS)),
        ],
    },
    Dialect {
        name: "anthropic",
        style: Style::Anthropic,
        id: "msg_",
        call: "toolu_",
        messages: "messages",
        effort: "output_config.effort",
        format: "output_config.format",
        schema: "output_config.format",
        keeps: false,
        rules: &[
            rule("max_tokens", Is::Needed),
            rule("max_tokens", Is::Whole(1, i64::MAX)),
            rule("messages", Is::Needed),
            rule("messages", Is::List(1, 100_000)),
            rule("temperature", Is::Decimal(0, 1)),
            rule("top_p", Is::Decimal(0, 1)),
            rule("top_k", Is::Whole(0, i64::MAX)),
            rule("stop_sequences", Is::List(0, usize::MAX)),
            rule("stream", Is::Flag),
            rule("tools", Is::List(0, usize::MAX)),
            rule("tool_choice", Is::Map),
            rule("tool_choice.type", Is::Word(&["auto", "any", "none", "tool"])),
            rule("output_config", Is::Map),
            rule("output_config.effort", Is::Word(&["low", "medium", "high", "xhigh", "max"])),
            rule("output_config.format", Is::Map),
            rule("output_config.format.type", Is::Word(&["json_schema"])),
            rule("thinking", Is::Map),
            rule("thinking.type", Is::Word(&["adaptive", "between_tools", "disabled", "enabled"])),
            rule("metadata", Is::Map),
            rule("service_tier", Is::Word(&["auto", "standard_only"])),
        ],
    },
    Dialect {
        name: "cohere",
        style: Style::Cohere,
        id: "",
        call: "",
        messages: "messages",
        effort: "thinking.type",
        format: "response_format",
        schema: "response_format.json_schema",
        keeps: false,
        rules: &[
            rule("messages", Is::Needed),
            rule("messages", Is::List(1, usize::MAX)),
            rule("max_tokens", Is::Whole(1, i64::MAX)),
            rule("temperature", Is::Decimal(0, 1)),
            rule("p", Is::Decimal(0, 1)),
            rule("k", Is::Whole(0, 500)),
            rule("frequency_penalty", Is::Decimal(0, 1)),
            rule("presence_penalty", Is::Decimal(0, 1)),
            rule("seed", Is::Whole(0, i64::MAX)),
            rule("stop_sequences", Is::List(0, 5)),
            rule("stream", Is::Flag),
            rule("tools", Is::List(0, usize::MAX)),
            rule("tool_choice", Is::Word(&["REQUIRED", "NONE"])),
            rule("strict_tools", Is::Flag),
            rule("response_format", Is::Map),
            rule("response_format.type", Is::Word(&["text", "json_object"])),
            rule("safety_mode", Is::Word(&["CONTEXTUAL", "STRICT", "OFF"])),
            rule("thinking", Is::Map),
            rule("thinking.type", Is::Word(&["enabled", "disabled"])),
            rule("priority", Is::Whole(0, 999)),
        ],
    },
    Dialect {
        name: "ollama",
        style: Style::Ollama,
        id: "",
        call: "call_",
        messages: "messages",
        effort: "think",
        format: "format",
        schema: "format",
        keeps: false,
        rules: &[
            rule("messages", Is::List(0, usize::MAX)),
            rule("stream", Is::Flag),
            rule("options", Is::Map),
            rule("tools", Is::List(0, usize::MAX)),
        ],
    },
];

impl Dialect {
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|dialect| dialect.name == name)
    }
}
