//! Holding cases against the pipeline and the manifests that they speak of, without playing them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::case::Case;
use super::case::Suite;
use super::faults::TroubleKind;
use super::matcher::Matcher;
use super::matcher::OPERATORS;
use super::stage::Stage;
use crate::connector::library::Library;
use crate::connector::library::Loaded;
use crate::connector::manifest::Act;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::model::Phase;
use crate::model::Timestamp;
use crate::pipeline::Pipeline;
use crate::sandbox::fault::Faults;
use crate::sandbox::world::World;
use crate::secrets::Secrets;
use crate::system::System;

/// Tells what the cases of a file name that there is not.
pub async fn check(stage: &Stage, suite: &Suite, pipeline: &Arc<Pipeline>) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for case in &suite.cases {
        let Ok(secrets) = stage.secrets(&case.given.secrets).await else { continue };
        diagnostics.extend(Checker::new(stage, pipeline, case, &secrets).map_or_else(
            |reason| vec![Diagnostic::error(Code::BadConnection, case.span.clone(), reason)],
            Checker::check,
        ));
    }
    diagnostics
}

struct Checker<'c> {
    pipeline: &'c Pipeline,
    case: &'c Case,
    library: &'c Library,
    world: World,
    steps: BTreeSet<String>,
    undone: BTreeSet<String>,
    /// Steps of the runs that it starts.
    below: BTreeSet<String>,
    diagnostics: Vec<Diagnostic>,
}

/// Collects the steps of a pipeline and of those that it calls.
fn collect(pipeline: &Pipeline, steps: &mut BTreeSet<String>) {
    for phase in [Phase::Main, Phase::OnFailure, Phase::Finally] {
        for step in &pipeline.graph(phase).steps {
            steps.insert(step.id.to_string());
            if let Some(child) = &step.child {
                collect(child, steps);
            }
        }
    }
}

impl<'c> Checker<'c> {
    fn new(stage: &'c Stage, pipeline: &'c Pipeline, case: &'c Case, secrets: &Arc<Secrets>) -> Result<Self, String> {
        let (system, _) = System::simulated(Timestamp(0), 0);
        let world = stage.world(case, secrets, system, Faults::default())?;
        let (mut steps, mut undone, mut below) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for phase in [Phase::Main, Phase::OnFailure, Phase::Finally] {
            for step in &pipeline.graph(phase).steps {
                steps.insert(step.id.to_string());
                if let Some(child) = &step.child {
                    collect(child, &mut below);
                }
                if step.undo.is_some() {
                    undone.insert(format!("undo/{}", step.id));
                }
            }
        }
        Ok(Self { pipeline, case, library: &stage.library, world, steps, undone, below, diagnostics: Vec::new() })
    }

    fn check(mut self) -> Vec<Diagnostic> {
        let case = self.case;
        for (name, _, span) in &case.given.inputs {
            let known: Vec<&str> = self.pipeline.inputs.iter().map(|input| &*input.name).collect();
            if !known.contains(&&**name) {
                self.unknown(Code::UnknownInput, span, "the pipeline has no input", name, known);
            }
        }
        for (name, span, _) in &case.given.steps {
            self.step(name, span, true);
        }
        for (name, span, _) in &case.given.answers {
            self.step(name, span, false);
        }
        for load in &case.given.sandbox {
            self.load(&load.stand, &load.collection, &load.rows);
        }
        for trouble in &case.faults {
            match &trouble.kind {
                TroubleKind::Remote { faults, on } => {
                    for fault in faults {
                        let span = on.as_ref().unwrap_or(&trouble.span);
                        let Some(stand) = &fault.stand else { continue };
                        self.operation(stand, fault.operation.as_deref(), span);
                    }
                }
                TroubleKind::Step { step, .. } => self.step(&step.0, &step.1, true),
                TroubleKind::Crash { step, .. } if self.below.contains(&*step.0) => {}
                TroubleKind::Crash { step, .. } => self.step(&step.0, &step.1, true),
            }
        }
        for then in &case.then.steps {
            self.step(&then.step, &then.span, false);
        }
        for (name, span, _) in &case.then.requests {
            if !name.contains(' ') {
                let (stand, operation) = name.split_once('.').map_or((&**name, None), |(one, two)| (one, Some(two)));
                self.operation(stand, operation, span);
            }
        }
        for (name, span, matcher) in &case.then.sandbox {
            self.stand(name, span, matcher);
        }
        self.diagnostics
    }

    fn unknown<'n>(
        &mut self,
        code: Code,
        span: &Span,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        let known: Vec<&str> = known.into_iter().collect();
        let near = did_you_mean(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let few = !known.is_empty() && known.len() <= 12;
        let listed = few.then(|| format!("known here: `{}`", known.join("`, `")));
        let mut told = Diagnostic::error(code, span.clone(), format!("{what} `{name}`"));
        told.help = near.or(listed);
        self.diagnostics.push(told);
    }

    /// A step may be named with an item, `post[1]`, and what takes it back as `undo/post`.
    fn step(&mut self, name: &str, span: &Span, with_undo: bool) {
        let bare = name.split('[').next().unwrap_or(name);
        if self.steps.contains(bare) || (with_undo && self.undone.contains(bare)) {
            return;
        }
        let known: Vec<String> = self.steps.iter().cloned().collect();
        let what = format!("`{}` has no step", self.pipeline.name);
        self.unknown(Code::UnknownStep, span, &what, name, known.iter().map(String::as_str));
    }

    fn seat(&mut self, name: &str, span: &Span) -> Option<Arc<crate::sandbox::world::Seat>> {
        let stand = self.world.stand_of_connection(name);
        match self.world.seat(&stand) {
            Ok(seat) => Some(seat),
            Err(crate::sandbox::world::NoStand::Unknown(_)) => {
                let names = self.world.names();
                self.unknown(
                    Code::UnknownConnection,
                    span,
                    "there is no connector or connection",
                    name,
                    names.iter().map(|own| &**own),
                );
                None
            }
            Err(error) => {
                let told = Diagnostic::error(Code::FaultyConnector, span.clone(), error.to_string());
                self.diagnostics.push(told);
                None
            }
        }
    }

    fn load(&mut self, stand: &(Arc<str>, Span), collection: &(Arc<str>, Span), rows: &[crate::model::Value]) {
        let Some(seat) = self.seat(&stand.0, &stand.1) else { return };
        if let Err(reason) = seat.load(&collection.0, rows) {
            let state = seat.state();
            let names: Vec<&str> = state.as_map().into_iter().flatten().map(|(name, _)| &**name).collect();
            let near = did_you_mean(&collection.0, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let few = !names.is_empty() && names.len() <= 12;
            let listed = few.then(|| format!("known here: `{}`", names.join("`, `")));
            let mut told = Diagnostic::error(Code::UnknownName, collection.1.clone(), reason);
            told.help = near.or(listed);
            self.diagnostics.push(told);
        }
    }

    /// An operation that a stand-in can count: one that sends a request.
    fn operation(&mut self, stand: &str, operation: Option<&str>, span: &Span) {
        let Some(seat) = self.seat(stand, span) else { return };
        let (Some(wanted), Loaded::Manifest(manifest)) = (operation, self.library.get(&seat.connector)) else { return };
        match manifest.operations.get(wanted).map(|operation| &operation.act) {
            Some(Act::Request(_)) => {}
            Some(_) => {
                let message = format!("`{stand}.{wanted}` is made of other operations, which are what is sent");
                self.diagnostics.push(Diagnostic::error(Code::UnknownOperation, span.clone(), message));
            }
            None => {
                let what = format!("connector `{}` has no operation", manifest.name);
                let known: Vec<String> = manifest.operations.keys().map(ToString::to_string).collect();
                self.unknown(Code::UnknownOperation, span, &what, wanted, known.iter().map(String::as_str));
            }
        }
    }

    /// What a stand-in is expected to hold names its collections.
    fn stand(&mut self, name: &str, span: &Span, matcher: &Matcher) {
        let Some(seat) = self.seat(name, span) else { return };
        let state = seat.state();
        let names: Vec<&str> = state.as_map().into_iter().flatten().map(|(name, _)| &**name).collect();
        for (collection, inner) in matcher.fields() {
            if names.contains(&&**collection) || OPERATORS.contains(&&**collection) {
                continue;
            }
            // Some families make a collection when its first row comes.
            if seat.load(collection, &[]).is_err() {
                let what = format!("the stand-in `{name}` has no collection");
                self.unknown(Code::UnknownName, &inner.span, &what, collection, names.iter().copied());
            }
        }
    }
}
