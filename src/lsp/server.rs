//! The loop: takes what the editor says, answers, and tells what checks find.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use crossbeam_channel::select;
use lsp_server::ErrorCode;
use lsp_server::Message;
use lsp_server::Notification;
use lsp_server::Request;
use lsp_server::RequestId;
use lsp_server::Response;
use lsp_types::CodeActionKind;
use lsp_types::CodeActionOptions;
use lsp_types::CodeActionParams;
use lsp_types::CodeActionProviderCapability;
use lsp_types::CodeDescription;
use lsp_types::CompletionOptions;
use lsp_types::CompletionParams;
use lsp_types::DiagnosticRelatedInformation;
use lsp_types::DiagnosticSeverity;
use lsp_types::DidChangeTextDocumentParams;
use lsp_types::DidCloseTextDocumentParams;
use lsp_types::DidOpenTextDocumentParams;
use lsp_types::DocumentFormattingParams;
use lsp_types::DocumentSymbolParams;
use lsp_types::DocumentSymbolResponse;
use lsp_types::GotoDefinitionParams;
use lsp_types::GotoDefinitionResponse;
use lsp_types::HoverParams;
use lsp_types::HoverProviderCapability;
use lsp_types::InitializeParams;
use lsp_types::Location;
use lsp_types::NumberOrString;
use lsp_types::OneOf;
use lsp_types::Position;
use lsp_types::PublishDiagnosticsParams;
use lsp_types::ReferenceParams;
use lsp_types::RenameOptions;
use lsp_types::RenameParams;
use lsp_types::SaveOptions;
use lsp_types::ServerCapabilities;
use lsp_types::TextDocumentPositionParams;
use lsp_types::TextDocumentSyncCapability;
use lsp_types::TextDocumentSyncKind;
use lsp_types::TextDocumentSyncOptions;
use lsp_types::TextDocumentSyncSaveOptions;
use lsp_types::Uri;
use lsp_types::WorkDoneProgressOptions;
use lsp_types::WorkspaceFoldersServerCapabilities;
use lsp_types::WorkspaceServerCapabilities;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_json::json;

use super::actions;
use super::check;
use super::check::Done;
use super::check::Job;
use super::complete;
use super::hover;
use super::names;
use super::outline;
use super::position::Encoding;
use super::position::Lines;
use super::position::path_of;
use super::position::uri_of;
use super::prose;
use super::rename;
use super::state::State;
use super::state::either;
use super::state::text_in;
use super::view::View;
use super::wire::Incoming;
use crate::diag;
use crate::diag::Severity;

/// How often the disk is looked at though the editor said nothing: not every editor watches files.
const ROUND: Duration = Duration::from_secs(5);

/// Serves an editor; tells whether it took its leave in order.
pub(super) fn run(incoming: &Receiver<Incoming>, sender: Sender<Message>) -> bool {
    crate::template::only_check();
    let (jobs, due) = crossbeam_channel::unbounded::<Job>();
    let (found, done) = crossbeam_channel::unbounded::<Done>();
    let checker = thread::spawn(move || {
        prose::load();
        for job in due {
            if found.send(check::check(job)).is_err() {
                return;
            }
        }
    });
    let mut server = Server { state: State::new(Encoding::Utf16), sender, phase: Phase::New, watches: false, asked: 0 };
    let orderly = server.serve(incoming, &jobs, &done);
    drop(jobs);
    drop(done);
    if checker.join().is_err() {
        tracing::error!("the checker has stopped");
    }
    orderly
}

/// How far the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Open,
    ShutDown,
}

struct Server {
    state: State,
    sender: Sender<Message>,
    phase: Phase,
    /// Whether the editor can be asked to watch files.
    watches: bool,
    /// How many requests the server has made.
    asked: i32,
}

/// What follows from a message.
enum Next {
    Go,
    Exit,
}

/// Why a request has no result.
struct Refused(ErrorCode, String);

impl Server {
    fn serve(&mut self, incoming: &Receiver<Incoming>, jobs: &Sender<Job>, done: &Receiver<Done>) -> bool {
        let mut queue = VecDeque::new();
        loop {
            queue.extend(incoming.try_iter());
            self.cancel(&mut queue);
            if let Some(message) = queue.pop_front() {
                match self.take(message) {
                    Next::Go => continue,
                    Next::Exit => return self.phase == Phase::ShutDown,
                }
            }
            if self.phase == Phase::Open {
                for job in self.state.jobs() {
                    // The checker ends after this loop.
                    let _ = jobs.send(job);
                }
            }
            select! {
                recv(incoming) -> message => match message {
                    Ok(message) => queue.push_back(message),
                    // The editor is gone.
                    Err(_) => return false,
                },
                recv(done) -> found => match found {
                    Ok(found) => self.checked(found),
                    Err(_) => {
                        tracing::error!("the checker has stopped");
                        return false;
                    }
                },
                default(ROUND) => self.state.looked(),
            }
        }
    }

    /// Answers requests that were canceled before their turn came.
    fn cancel(&self, queue: &mut VecDeque<Incoming>) {
        let canceled: Vec<RequestId> = queue
            .iter()
            .filter_map(|message| match message {
                Incoming::Message(Message::Notification(it)) if it.method == "$/cancelRequest" => {
                    serde_json::from_value(it.params.get("id")?.clone()).ok()
                }
                _ => None,
            })
            .collect();
        if canceled.is_empty() {
            return;
        }
        queue.retain(|message| {
            let Incoming::Message(Message::Request(request)) = message else { return true };
            let gone = canceled.contains(&request.id);
            if gone {
                self.refuse(request.id.clone(), Refused(ErrorCode::RequestCanceled, "canceled".to_owned()));
            }
            !gone
        });
    }

    fn take(&mut self, message: Incoming) -> Next {
        match message {
            Incoming::Malformed(why) => {
                tracing::warn!(why, "a message is none");
            }
            Incoming::Message(Message::Request(request)) => self.request(request),
            Incoming::Message(Message::Notification(notification)) => {
                if notification.method == "exit" {
                    return Next::Exit;
                }
                if self.phase == Phase::Open {
                    let method = notification.method.clone();
                    let told = catch_unwind(AssertUnwindSafe(|| self.notification(notification)));
                    if told.is_err() {
                        tracing::error!(method, "a notification could not be taken");
                    }
                }
            }
            Incoming::Message(Message::Response(response)) => {
                if let Err(error) = response.response_result {
                    tracing::warn!(message = error.message, "the editor refuses");
                }
            }
        }
        Next::Go
    }

    fn send(&self, message: impl Into<Message>) {
        // An editor that is gone is noticed by the reader.
        let _ = self.sender.send(message.into());
    }

    fn refuse(&self, id: RequestId, Refused(code, message): Refused) {
        self.send(Response::new_err(id, code as i32, message));
    }

    fn request(&mut self, request: Request) {
        let id = request.id.clone();
        let answer = match (self.phase, request.method.as_str()) {
            (Phase::New, "initialize") => self.initialize(request.params),
            (Phase::New, _) => Err(Refused(ErrorCode::ServerNotInitialized, "`initialize` comes first".to_owned())),
            (Phase::ShutDown, _) => Err(Refused(ErrorCode::InvalidRequest, "the server is shut down".to_owned())),
            (Phase::Open, "initialize") => Err(Refused(ErrorCode::InvalidRequest, "it is initialized".to_owned())),
            (Phase::Open, "shutdown") => {
                self.phase = Phase::ShutDown;
                Ok(Json::Null)
            }
            (Phase::Open, method) => {
                let params = request.params;
                let answered = catch_unwind(AssertUnwindSafe(|| self.answer(method, params)));
                answered.unwrap_or_else(|_| Err(Refused(ErrorCode::InternalError, format!("`{method}` failed"))))
            }
        };
        match answer {
            Ok(result) => self.send(Response::new_ok(id, result)),
            Err(refused) => self.refuse(id, refused),
        }
    }

    fn initialize(&mut self, params: Json) -> Result<Json, Refused> {
        let params: InitializeParams = read(params)?;
        let general = params.capabilities.general.as_ref();
        let encoding = Encoding::negotiated(general.and_then(|it| it.position_encodings.as_deref()));
        self.state = State::new(encoding);
        let watches = params.capabilities.workspace.as_ref().and_then(|it| it.did_change_watched_files);
        self.watches = watches.is_some_and(|it| it.dynamic_registration == Some(true));
        let mut folders: Vec<Uri> = params.workspace_folders.into_iter().flatten().map(|it| it.uri).collect();
        #[expect(deprecated, reason = "editors that know no folders still say it")]
        if folders.is_empty() {
            folders.extend(params.root_uri);
        }
        for folder in folders.iter().filter_map(path_of) {
            self.state.folder(&folder);
        }
        self.phase = Phase::Open;
        answer(json!({
            "capabilities": capabilities(encoding),
            "serverInfo": { "name": "pipewright", "version": env!("CARGO_PKG_VERSION") },
        }))
    }

    fn answer(&self, method: &str, params: Json) -> Result<Json, Refused> {
        match method {
            "textDocument/completion" => {
                let params: CompletionParams = read(params)?;
                let view = self.view(&params.text_document_position)?;
                answer(view.map(|view| complete::complete(&view)))
            }
            "textDocument/hover" => {
                let params: HoverParams = read(params)?;
                let view = self.view(&params.text_document_position_params)?;
                answer(view.and_then(|view| hover::hover(&view)))
            }
            "textDocument/definition" => {
                let params: GotoDefinitionParams = read(params)?;
                let found = self.found(&params.text_document_position_params, |gives| gives)?;
                answer(found.map(GotoDefinitionResponse::Array))
            }
            "textDocument/references" => {
                let params: ReferenceParams = read(params)?;
                let also = params.context.include_declaration;
                answer(self.found(&params.text_document_position, |gives| also || !gives)?)
            }
            "textDocument/prepareRename" => {
                let params: TextDocumentPositionParams = read(params)?;
                answer(self.view(&params)?.and_then(|view| rename::prepare(&view)))
            }
            "textDocument/rename" => {
                let params: RenameParams = read(params)?;
                let Some(view) = self.view(&params.text_document_position)? else { return Ok(Json::Null) };
                let edit = rename::rename(&view, &params.new_name);
                answer(edit.map_err(|message| Refused(ErrorCode::InvalidParams, message))?)
            }
            "textDocument/formatting" => {
                let params: DocumentFormattingParams = read(params)?;
                answer(self.whole(&params.text_document.uri).and_then(|view| outline::formatted(&view)))
            }
            "textDocument/documentSymbol" => {
                let params: DocumentSymbolParams = read(params)?;
                let view = self.whole(&params.text_document.uri);
                answer(view.map(|view| DocumentSymbolResponse::Nested(outline::outline(&view))))
            }
            "textDocument/codeAction" => {
                let params: CodeActionParams = read(params)?;
                let view = self.whole(&params.text_document.uri);
                answer(view.map(|view| actions::actions(&view, &params.context.diagnostics)))
            }
            _ => Err(Refused(ErrorCode::MethodNotFound, format!("there is no `{method}`"))),
        }
    }

    /// Looks at a place of an open file; at nothing where it is not open.
    fn view(&self, at: &TextDocumentPositionParams) -> Result<Option<View<'_>>, Refused> {
        let document = self.state.documents.get(at.text_document.uri.as_str());
        Ok(document
            .filter(|document| self.state.is_ours(document))
            .map(|document| View::new(&self.state, document, at.position)))
    }

    fn whole(&self, uri: &Uri) -> Option<View<'_>> {
        let document = self.state.documents.get(uri.as_str()).filter(|document| self.state.is_ours(document))?;
        Some(View::new(&self.state, document, Position::default()))
    }

    /// Finds where the name at a place stands.
    fn found(
        &self,
        at: &TextDocumentPositionParams,
        wanted: impl Fn(bool) -> bool,
    ) -> Result<Option<Vec<Location>>, Refused> {
        let Some(view) = self.view(at)? else { return Ok(None) };
        let (Some((symbol, _)), Some(project)) = (names::symbol(&view), view.project) else { return Ok(None) };
        let mut found = names::occurrences(project, &symbol);
        found.retain(|occurrence| wanted(occurrence.gives));
        Ok(Some(names::locations(&view, project, &found)))
    }

    fn notification(&mut self, notification: Notification) {
        let Notification { method, params } = notification;
        match method.as_str() {
            "initialized" => self.watch_files(),
            "textDocument/didOpen" => {
                if let Some(params) = told::<DidOpenTextDocumentParams>(&method, params) {
                    let document = params.text_document;
                    self.state.opened(document.uri, document.version, &document.text);
                }
            }
            "textDocument/didChange" => {
                if let Some(params) = told::<DidChangeTextDocumentParams>(&method, params) {
                    let document = params.text_document;
                    self.state.edited(&document.uri, document.version, &params.content_changes);
                }
            }
            "textDocument/didClose" => {
                if let Some(params) = told::<DidCloseTextDocumentParams>(&method, params) {
                    self.state.closed(&params.text_document.uri);
                    self.state.looked();
                }
            }
            "textDocument/didSave" | "workspace/didChangeWatchedFiles" => self.state.looked(),
            "workspace/didChangeWorkspaceFolders" => {
                let added = params.get("event").and_then(|event| event.get("added")).and_then(Json::as_array);
                let uris =
                    added.into_iter().flatten().filter_map(|it| serde_json::from_value(it.get("uri")?.clone()).ok());
                for folder in uris.collect::<Vec<Uri>>().iter().filter_map(path_of) {
                    self.state.folder(&folder);
                }
            }
            _ => {}
        }
    }

    /// Asks the editor to tell of files that change on the disk.
    fn watch_files(&mut self) {
        if !self.watches {
            return;
        }
        self.asked += 1;
        let globs = ["**/*.{yaml,yml}", "**/*.{j2,md,txt}", "**/.env*"].map(|glob| json!({ "globPattern": glob }));
        let registration = json!({
            "id": "files",
            "method": "workspace/didChangeWatchedFiles",
            "registerOptions": { "watchers": globs },
        });
        let params = json!({ "registrations": [registration] });
        self.send(Request { id: RequestId::from(self.asked), method: "client/registerCapability".to_owned(), params });
    }

    /// Tells the editor what a check found, of each file for which that is something else than before.
    fn checked(&mut self, done: Done) {
        let (files, versions) = (done.files.clone(), done.versions.clone());
        let encoding = self.state.encoding;
        let open: BTreeMap<_, _> =
            self.state.documents.values().filter_map(|it| Some((it.path.clone()?, it.version))).collect();
        let mut messages = Vec::new();
        let Some(project) = self.state.checked(done) else { return };
        let found = project.diagnostics.clone();
        let before = std::mem::take(&mut project.published);
        let nothing = Vec::new();
        let mut all = either(&before, &found);
        // Of an open file the editor is told that all is well, too.
        all.extend(versions.keys().filter(|path| open.contains_key(*path)));
        for path in all {
            let (old, new) = (before.get(path), found.get(path).unwrap_or(&nothing));
            // Of a text that is another by now the next check tells.
            if open.get(path).is_some_and(|version| versions.get(path) != Some(version)) {
                project.published.extend(old.map(|old| (path.clone(), old.clone())));
                continue;
            }
            // What stands in no file, as the manifests of the binary do, can be shown in none.
            let there = files.get(path).is_some() || old.is_some();
            if there && (old.unwrap_or(&nothing) != new || open.contains_key(path)) {
                let lines = Lines::new(text_in(&files, path).unwrap_or_default(), encoding);
                let diagnostics = new.iter().map(|it| shown_as(it, &lines, &files, encoding)).collect();
                let version = versions.get(path).copied();
                messages.extend(uri_of(path).map(|uri| PublishDiagnosticsParams { uri, diagnostics, version }));
            }
            if !new.is_empty() {
                project.published.insert(path.clone(), new.clone());
            }
        }
        for params in messages {
            let params = serde_json::to_value(params).unwrap_or_default();
            self.send(Notification { method: "textDocument/publishDiagnostics".to_owned(), params });
        }
    }
}

/// Shows a diagnostic as the editor wants it.
fn shown_as(
    diagnostic: &diag::Diagnostic,
    lines: &Lines<'_>,
    files: &crate::pipeline::Snapshot,
    encoding: Encoding,
) -> lsp_types::Diagnostic {
    let range = |span: &diag::Span, lines: &Lines<'_>| {
        let (start, end) = (span.start.offset, span.end.offset.max(span.start.offset));
        let range = lines.range(&(start..end));
        // A place without width is hard to see and to point at.
        if start == end { lines.range(&(start..start + 1)) } else { range }
    };
    let related = diagnostic.notes.iter().filter_map(|(span, message)| {
        let span = span.as_ref()?;
        let path = check::path_of(&span.file);
        let text = text_in(files, &path)?;
        let location = Location { uri: uri_of(&path)?, range: range(span, &Lines::new(text, encoding)) };
        Some(DiagnosticRelatedInformation { location, message: message.clone() })
    });
    let related: Vec<_> = related.collect();
    let said = diagnostic.notes.iter().filter(|(span, _)| span.is_none()).map(|(_, note)| format!("\nnote: {note}"));
    let mut message = diagnostic.message.clone();
    if let Some(help) = &diagnostic.help {
        message.push_str(&format!("{}{help}", actions::HELP));
    }
    message.extend(said);
    let code = diagnostic.code.as_str();
    lsp_types::Diagnostic {
        range: range(&diagnostic.span, lines),
        severity: Some(match diagnostic.severity {
            Severity::Error => DiagnosticSeverity::ERROR,
            Severity::Warning => DiagnosticSeverity::WARNING,
        }),
        code: Some(NumberOrString::String(code.to_owned())),
        code_description: explained(code, env!("CARGO_PKG_REPOSITORY")),
        source: Some("pipewright".to_owned()),
        message,
        related_information: (!related.is_empty()).then_some(related),
        ..lsp_types::Diagnostic::default()
    }
}

/// Returns the page of a code; nothing as long as the package names no repository in which it could be read.
fn explained(code: &str, repository: &str) -> Option<CodeDescription> {
    let repository = Some(repository.trim_end_matches('/')).filter(|repository| !repository.is_empty())?;
    let href = format!("{repository}/blob/main/docs/diagnostics.md#{code}").parse().ok()?;
    Some(CodeDescription { href })
}

fn capabilities(encoding: Encoding) -> ServerCapabilities {
    ServerCapabilities {
        position_encoding: Some(encoding.kind()),
        text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::INCREMENTAL),
            save: Some(TextDocumentSyncSaveOptions::SaveOptions(SaveOptions { include_text: Some(false) })),
            ..TextDocumentSyncOptions::default()
        })),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some([".", "|", "{", ":", " ", "'", "-"].map(str::to_owned).to_vec()),
            ..CompletionOptions::default()
        }),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        definition_provider: Some(OneOf::Left(true)),
        references_provider: Some(OneOf::Left(true)),
        rename_provider: Some(OneOf::Right(RenameOptions {
            prepare_provider: Some(true),
            work_done_progress_options: WorkDoneProgressOptions::default(),
        })),
        document_formatting_provider: Some(OneOf::Left(true)),
        document_symbol_provider: Some(OneOf::Left(true)),
        code_action_provider: Some(CodeActionProviderCapability::Options(CodeActionOptions {
            code_action_kinds: Some(vec![CodeActionKind::QUICKFIX]),
            ..CodeActionOptions::default()
        })),
        workspace: Some(WorkspaceServerCapabilities {
            workspace_folders: Some(WorkspaceFoldersServerCapabilities {
                supported: Some(true),
                change_notifications: Some(OneOf::Left(true)),
            }),
            ..WorkspaceServerCapabilities::default()
        }),
        ..ServerCapabilities::default()
    }
}

fn read<T: DeserializeOwned>(params: Json) -> Result<T, Refused> {
    serde_json::from_value(params).map_err(|error| Refused(ErrorCode::InvalidParams, error.to_string()))
}

fn told<T: DeserializeOwned>(method: &str, params: Json) -> Option<T> {
    match serde_json::from_value(params) {
        Ok(params) => Some(params),
        Err(error) => {
            tracing::warn!(method, %error, "a notification says something else than it should");
            None
        }
    }
}

fn answer(result: impl Serialize) -> Result<Json, Refused> {
    serde_json::to_value(result).map_err(|error| Refused(ErrorCode::InternalError, error.to_string()))
}
