//! `approval.request`: waits until people have decided.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::approval;
use crate::approval::Request;
use crate::model::Answer;
use crate::model::Ask;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Lapse;
use crate::model::StepError;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Asks people, and waits until they have decided.
///
/// The wait is durable and holds no worker: `pipewright approvals` lists what is open, approves and rejects. One rejection
/// ends it, and the step fails with class `rejected`; `on_error` and `retry: { on: [rejected] }` see it as any failure, and
/// a retry asks anew. Each item of a `for_each` is asked for by itself. What those who approve filled in is the output's
/// `form`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalRequest {
    /// What is asked, in a line.
    #[serde(default)]
    #[schemars(with = "String")]
    title: Value,
    /// What those who are asked see, e.g. `"{{ steps.draft.output }}"`. Secrets in it are masked.
    #[serde(default)]
    show: Value,
    /// Fields that those who approve fill in, each declared like an input of a pipeline, e.g. `{ note: { type: string } }`.
    /// A `default` may be an expression. With a quorum, the latest value of each field counts.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    form: Value,
    /// Who is asked: roles and persons of `people` in the project file. Without it anybody.
    #[serde(default)]
    approvers: Vec<String>,
    /// How many people must approve.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    quorum: u32,
    /// How many people must reject.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    rejections: u32,
    /// Whether whoever started the run may approve it.
    #[serde(default)]
    self_approval: bool,
    /// How long it can be decided, e.g. `2d`. Without it as long as it takes.
    #[serde(default)]
    expires: Option<Duration>,
    /// What becomes of it when that time is over: `reject` fails the step with class `rejected`, `fail` with class
    /// `timeout`, and `approve` goes on with the defaults of the form.
    #[serde(default)]
    on_expiry: OnExpiry,
    /// `plan` binds the approval to the effects behind it: those who are asked see them, and where they have changed when
    /// the yes comes, it is void and they are asked again.
    #[serde(default)]
    bind: Option<Bind>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnExpiry {
    #[default]
    Reject,
    Approve,
    Fail,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Bind {
    Plan,
}

/// What an approval gives back.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Approved {
    /// Always true: what is not approved fails.
    approved: bool,
    /// Who approved; nobody where it was approved because its time was over.
    by: Vec<String>,
    /// When it was decided.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// What was said to it.
    comments: Vec<Comment>,
    /// What was filled in, by field.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    form: Value,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
struct Comment {
    by: String,
    text: String,
}

fn one() -> u32 {
    1
}

#[async_trait]
impl NodeType for ApprovalRequest {
    const NAME: &'static str = "approval.request";
    const EXAMPLE: &'static str =
        "title: Publish the post?\nshow: { text: Tea is ready. }\nform: { note: { type: string, default: \"\" } }\nexpires: 2d\n";
    const LITERALS: &'static [&'static str] = &["bind"];
    type Output = Approved;

    fn effect(_with: &Value) -> Effect {
        Effect::Read
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        if self.quorum == 0 || self.rejections == 0 {
            return Err(NodeError::invalid("`quorum` and `rejections` are at least 1"));
        }
        let fields = approval::fields(&self.form).map_err(NodeError::invalid)?;
        let lapse = match self.expires {
            Some(length) => {
                let at = ctx.system.clock.now().plus(length);
                Some(Lapse { at, answer: lapsed(self.on_expiry, at, &fields)? })
            }
            None => None,
        };
        let request = Request {
            title: self.title,
            show: self.show,
            form: self.form,
            approvers: self.approvers,
            quorum: self.quorum,
            rejections: self.rejections,
            self_approval: self.self_approval,
        };
        let reason = match lapse.as_ref() {
            Some(lapse) => format!("waits for approval by {}, until {}", request.asked(), lapse.at),
            None => format!("waits for approval by {}", request.asked()),
        };
        Ok(Outcome::Ask { kind: Ask::APPROVAL, request: request.to_value(), reason, lapse, binds: self.bind.is_some() })
    }
}

/// Returns what becomes of an approval that nobody decided on in time.
fn lapsed(on_expiry: OnExpiry, at: Timestamp, fields: &[approval::Field]) -> Result<Answer, NodeError> {
    let failed = |class| Err(StepError { class, message: format!("nobody decided until {at}") });
    Ok(match on_expiry {
        OnExpiry::Reject => failed(ErrorClass::Rejected),
        OnExpiry::Fail => failed(ErrorClass::Timeout),
        OnExpiry::Approve => {
            if let Some(field) = fields.iter().find(|field| field.required) {
                let text = format!("`on_expiry: approve` leaves nobody to fill in `{}`", field.name);
                return Err(NodeError::invalid(text));
            }
            Ok(approval::output(&[], approval::defaults(fields), at))
        }
    })
}
