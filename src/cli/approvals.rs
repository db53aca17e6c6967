//! `pipewright approvals`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::person::Who;
use super::print;
use super::run::program;
use super::runs::find;
use super::validate::open_project;
use crate::app::App;
use crate::app::Fault;
use crate::approval;
use crate::approval::Ballot;
use crate::approval::Refusal;
use crate::approval::Request;
use crate::approval::Standing;
use crate::model::RunId;
use crate::model::Value;
use crate::pipeline::Given;
use crate::store::ApprovalFilter;
use crate::store::ApprovalRecord;
use crate::store::ApprovalState;
use crate::store::Vote;

/// What can be done with approvals.
#[derive(Debug, Subcommand)]
pub(super) enum Approvals {
    /// List what waits for people to decide, the oldest first.
    List {
        /// Also what is decided, expired or canceled.
        #[arg(long)]
        all: bool,
        /// Only those of this run.
        #[arg(long, add = ArgValueCandidates::new(complete::runs))]
        run: Option<String>,
        /// How many, the newest.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show what is asked, what is to be filled in, and what was said.
    Show {
        /// The approval's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::approvals))]
        approval: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say yes. Until it is decided, a later word of the same person takes the place of the earlier one.
    Approve {
        /// The approval's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::approvals))]
        approval: String,
        /// Fill in a field, as text or as JSON; may be repeated.
        #[arg(short, long, value_name = "FIELD=VALUE")]
        form: Vec<String>,
        /// Say something to it.
        #[arg(short, long, value_name = "TEXT")]
        comment: Option<String>,
        #[command(flatten)]
        who: Who,
    },
    /// Say no.
    Reject {
        /// The approval's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::approvals))]
        approval: String,
        /// Say why; the step's error tells it.
        #[arg(short, long, value_name = "TEXT")]
        comment: Option<String>,
        #[command(flatten)]
        who: Who,
    },
}

/// An approval with all that is told of it.
struct Told {
    record: ApprovalRecord,
    request: Option<Request>,
    votes: Vec<Vote>,
    pipeline: String,
}

impl Approvals {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        match self {
            Self::List { all, run, limit, json } => {
                let run = match run {
                    Some(run) => Some(find(&app, &run).await?.id),
                    None => None,
                };
                let filter = ApprovalFilter { open: !all, run, limit: Some(limit), ..ApprovalFilter::default() };
                list(&app, &filter, json).await
            }
            Self::Show { approval, json } => show(&app, named(&app, &approval).await?, json).await,
            Self::Approve { approval, form, comment, who } => {
                let given = form.iter().map(|text| field(text)).collect::<Result<Vec<_>, _>>()?;
                let record = named(&app, &approval).await?;
                vote(&app, record, &who, true, comment, given).await
            }
            Self::Reject { approval, comment, who } => {
                let record = named(&app, &approval).await?;
                vote(&app, record, &who, false, comment, Vec::new()).await
            }
        }
    }
}

fn field(text: &str) -> Result<(String, Given), Fault> {
    let split = text.split_once('=').map(|(key, value)| (key.to_owned(), Given::Text(value.to_owned())));
    split.ok_or_else(|| Fault::Usage(format!("`--form {text}`: expected `field=value`")))
}

/// Finds the one approval whose id begins so.
pub(super) async fn named(app: &App, prefix: &str) -> Result<ApprovalRecord, Fault> {
    super::runs::is_given(prefix)?;
    let filter = ApprovalFilter { id_prefix: Some(prefix.to_owned()), limit: Some(2), ..ApprovalFilter::default() };
    let mut found = app.engine.parts().store.approvals(&filter).await?;
    match (found.pop(), found.pop()) {
        (Some(record), None) => Ok(record),
        (None, _) => {
            let text = format!("there is no approval `{prefix}`; `pipewright approvals list --all` shows them");
            Err(Fault::Usage(text))
        }
        (Some(_), Some(_)) => {
            Err(Fault::Usage(format!("several approvals begin with `{prefix}`; give more of the id")))
        }
    }
}

async fn told(app: &App, record: ApprovalRecord) -> Result<Told, Fault> {
    let store = &app.engine.parts().store;
    let votes = store.votes(&record.id).await?;
    let pipeline = store.run(record.run).await?.map(|run| run.pipeline.to_string()).unwrap_or_default();
    let request = record.ask.as_ref().and_then(|ask| Request::from_value(&ask.request));
    Ok(Told { record, request, votes, pipeline })
}

impl Told {
    fn title(&self) -> String {
        match self.request.as_ref().map(|request| &request.title) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.to_string(),
            // The text of a secret is its mask.
            Some(other) => other.to_string(),
        }
    }

    fn asked(&self) -> String {
        self.request.as_ref().map(Request::asked).unwrap_or_default()
    }

    /// Says how far it is, or how it ended.
    fn note(&self) -> String {
        match (self.record.state, &self.request) {
            (ApprovalState::Open, Some(request)) => match approval::standing(request, &self.votes) {
                Standing::Open { approvals: 0, rejections: 0 } => String::new(),
                Standing::Open { approvals, rejections } => {
                    format!("{approvals} of {} approve, {rejections} reject", request.quorum)
                }
                _ => String::new(),
            },
            _ => {
                let said = self.votes.iter().map(|vote| match (vote.approves, &vote.comment) {
                    (true, _) => format!("`{}`", vote.person),
                    (false, None) => format!("`{}` rejects", vote.person),
                    (false, Some(comment)) => format!("`{}` rejects: {comment}", vote.person),
                });
                said.collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Returns the plan that an approval is bound to: what happens behind it.
    fn plan(&self) -> Option<&Value> {
        self.record.ask.as_ref()?.request.get("plan")
    }

    fn json(&self) -> Value {
        let time = |time: Option<crate::model::Timestamp>| time.map_or(Value::Null, Value::Time);
        let record = &self.record;
        let request = self.request.as_ref();
        let count = |count: Option<u32>| count.map_or(Value::Null, Value::from);
        let votes = self.votes.iter().map(|vote| {
            Value::map([
                ("person", Value::from(vote.person.as_str())),
                ("approves", vote.approves.into()),
                ("comment", vote.comment.as_deref().map_or(Value::Null, Value::from)),
                ("form", vote.form.clone()),
                ("at", Value::Time(vote.at)),
            ])
        });
        let approvers = request.map(|request| request.approvers.clone()).unwrap_or_default();
        Value::map([
            ("approval", Value::from(&*record.id.0)),
            ("run", record.run.to_string().into()),
            ("pipeline", self.pipeline.as_str().into()),
            ("step", record.path.to_string().into()),
            ("state", record.state.name().into()),
            ("title", request.map(|request| request.title.clone()).unwrap_or_default()),
            ("show", request.map(|request| request.show.clone()).unwrap_or_default()),
            ("form", request.map(|request| request.form.clone()).unwrap_or_default()),
            ("plan", self.plan().cloned().unwrap_or_default()),
            ("approvers", Value::list(approvers.into_iter().map(Value::from).collect())),
            ("quorum", count(request.map(|request| request.quorum))),
            ("rejections", count(request.map(|request| request.rejections))),
            ("asked", Value::Time(record.asked_at)),
            ("expires", time(record.expires_at)),
            ("ended", time(record.ended_at)),
            ("votes", Value::list(votes.collect())),
        ])
    }
}

async fn list(app: &App, filter: &ApprovalFilter, json: bool) -> Result<Exit, Fault> {
    let found = app.engine.parts().store.approvals(filter).await?;
    let now = app.engine.parts().system.clock.now();
    let mut rows = Vec::new();
    for record in found {
        let told = told(app, record).await?;
        if json {
            print::line(&told.json().to_string());
            continue;
        }
        let expires = match (told.record.state, told.record.expires_at) {
            (ApprovalState::Open, Some(at)) if at <= now => "expired".to_owned(),
            (ApprovalState::Open, Some(at)) => format!("in {}", print::length(at.since(now))),
            _ => String::new(),
        };
        rows.push(vec![
            told.record.id.to_string(),
            format!("{}/{}", told.pipeline, told.record.path),
            told.record.state.name().to_owned(),
            told.asked(),
            expires,
            print::clip(&[told.title(), told.note()].join("  "), 80).trim().to_owned(),
        ]);
    }
    if json {
        return Ok(Exit::Well);
    }
    if rows.is_empty() {
        print::talk("nothing waits for approval");
    } else {
        print::table(&["approval", "step", "state", "asks", "expires", "title"], &rows);
    }
    Ok(Exit::Well)
}

async fn show(app: &App, record: ApprovalRecord, json: bool) -> Result<Exit, Fault> {
    let told = told(app, record).await?;
    if json {
        print::line(&told.json().to_string());
        return Ok(Exit::Well);
    }
    let record = &told.record;
    let mut facts = vec![
        ("approval", record.id.to_string()),
        ("run", format!("{} ({})", record.run, told.pipeline)),
        ("step", record.path.to_string()),
        ("state", record.state.name().to_owned()),
        ("title", told.title()),
        ("asks", told.asked()),
        ("who", who(app, told.request.as_ref())),
        ("asked", record.asked_at.to_string()),
        ("expires", record.expires_at.map(|at| at.to_string()).unwrap_or_default()),
        ("ended", record.ended_at.map(|at| at.to_string()).unwrap_or_default()),
    ];
    let starter = approval::starter(&app.engine.parts().store, record.run).await?;
    let own = told.request.as_ref().is_some_and(|request| !request.self_approval);
    facts.extend(
        starter.map(|name| ("started", format!("by `{name}`{}", if own { ", who cannot approve" } else { "" }))),
    );
    for (name, text) in facts.into_iter().filter(|(_, text)| !text.is_empty()) {
        print::line(&format!("{name:<10}{}", print::clean(&text)));
    }
    if let Some(request) = &told.request {
        if !request.show.is_null() {
            print::line(&format!("\n{}", print::clean(&print::pretty(&request.show))));
        }
        fields(&request.form);
    }
    if let Some(plan) = told.plan() {
        planned(plan);
    }
    let votes = told.votes.iter().map(|vote| {
        let word = if vote.approves { "approves" } else { "rejects" };
        let form =
            if vote.form.as_map().is_some_and(|form| !form.is_empty()) { vote.form.to_string() } else { String::new() };
        let said = [vote.comment.clone().unwrap_or_default(), form].join("  ");
        vec![vote.person.clone(), word.to_owned(), vote.at.to_string(), said.trim().to_owned()]
    });
    let votes: Vec<_> = votes.collect();
    if !votes.is_empty() {
        print::line("");
        print::table(&["person", "says", "at", "note"], &votes);
    }
    Ok(Exit::Well)
}

/// Shows what happens behind an approval that is bound to its plan.
fn planned(plan: &Value) {
    let text = |value: Option<&Value>| value.map(Value::to_text).unwrap_or_default();
    let effects = plan.get("effects").and_then(Value::as_list).unwrap_or_default();
    print::line(&format!("\nwhat happens then, and nothing else (plan {}):", text(plan.get("hash"))));
    if effects.is_empty() {
        print::line("  nothing outside will change");
    }
    for effect in effects {
        let [step, kind, operation] = ["step", "kind", "operation"].map(|key| text(effect.get(key)));
        let input = effect.get("input").map(ToString::to_string).unwrap_or_default();
        print::line(&print::clip(&format!("  {kind} {step}  {operation}  {input}"), 160));
    }
}

/// Names the people who are asked, where it is roles that are.
fn who(app: &App, request: Option<&Request>) -> String {
    let Some(request) = request.filter(|request| !request.approvers.is_empty()) else { return String::new() };
    let people = app.project.people.iter().filter(|person| approval::is_asked(request, person));
    let people: Vec<_> = people.map(|person| format!("`{}`", person.name)).collect();
    if people.is_empty() { "nobody, by the project file as it is".to_owned() } else { people.join(", ") }
}

fn fields(form: &Value) {
    let rows = form.as_map().into_iter().flatten().map(|(name, declared)| {
        let text = |key: &str| declared.get(key).filter(|it| !it.is_null()).map(ToString::to_string);
        let word = |key: &str| declared.get(key).and_then(Value::as_str).map(str::to_owned);
        let kind = word("type").unwrap_or_else(|| "string".to_owned());
        let default = text("default").unwrap_or_else(|| {
            if declared.get("default").is_some() { String::new() } else { "must be given".to_owned() }
        });
        let mut note = word("description").unwrap_or_default();
        if let Some(words) = text("enum") {
            note = format!("one of {words}  {note}").trim().to_owned();
        }
        vec![name.to_string(), kind, default, note]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        print::line("");
        print::table(&["field", "type", "default", "note"], &rows);
    }
}

async fn vote(
    app: &App,
    record: ApprovalRecord,
    who: &Who,
    approves: bool,
    comment: Option<String>,
    form: Vec<(String, Given)>,
) -> Result<Exit, Fault> {
    let parts = app.engine.parts();
    // What is said is kept and shown as it is.
    let comment = comment.map(|text| parts.secrets.mask(text));
    let ballot = Ballot { voter: who.person(&app.project)?, approves, comment, form };
    let (id, run) = (record.id.clone(), record.run);
    match approval::cast(&parts.store, record, &ballot, parts.system.clock.now()).await {
        Ok(Standing::Open { approvals, rejections }) => {
            print::talk(&format!("noted: {approvals} approve, {rejections} reject; it is not decided yet"));
            Ok(Exit::Well)
        }
        Ok(Standing::Approved) => goes_on(app, run, "approved").await,
        Ok(Standing::Rejected) => goes_on(app, run, "rejected").await,
        Err(approval::Error::Refused(Refusal::Form(problems))) => Err(Fault::Usage(problems.join("\n       "))),
        Err(approval::Error::Refused(refusal)) => Err(Fault::Usage(format!("approval `{id}`: {refusal}"))),
        Err(approval::Error::Store(error)) => Err(error.into()),
    }
}

/// Says who goes on with a run that was told something: whoever tells it need not execute it.
pub(super) async fn goes_on(app: &App, run: RunId, word: &str) -> Result<Exit, Fault> {
    if app.ring().await? {
        print::talk(&format!("{word}; the daemon goes on with run {run}"));
        return Ok(Exit::Well);
    }
    let parts = app.engine.parts();
    let mut top = run;
    while let Some((parent, _)) = parts.store.run(top).await?.and_then(|record| record.parent) {
        top = parent;
    }
    let owner = parts.store.lease(top).await?.and_then(|lease| lease.owner);
    if owner.is_some_and(|owner| !(parts.owner_is_gone)(&owner)) {
        print::talk(&format!("{word}; the process that executes run {top} goes on within a second"));
        return Ok(Exit::Well);
    }
    print::talk(word);
    let program = program(app);
    print::hint(&format!(
        "nobody executes run {top}: `{program} runs resume {top}` or `{program} daemon` goes on with it"
    ));
    Ok(Exit::Well)
}
