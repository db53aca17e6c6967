//! A client of the language server, as an editor is one.

#![expect(clippy::needless_pass_by_value, reason = "what is said reads best where it is written into the call")]

use std::collections::HashMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value as Json;
use serde_json::json;

/// How long an answer is waited for: only a test that has failed waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// An editor with one project open.
pub(crate) struct Editor {
    child: Child,
    input: Option<ChildStdin>,
    messages: mpsc::Receiver<Json>,
    root: String,
    asked: i64,
    versions: HashMap<String, i64>,
    texts: HashMap<String, String>,
    /// The newest diagnostics by file, with their versions.
    pub(crate) diagnostics: HashMap<String, (Option<i64>, Json)>,
    /// What the server asks for.
    pub(crate) requests: Vec<Json>,
}

impl Editor {
    /// Starts a server and greets it.
    pub(crate) fn open(root: &Path) -> Self {
        let mut editor = Self::start(root);
        let folder = json!({ "uri": format!("file://{}", editor.root), "name": "project" });
        let capabilities = json!({ "workspace": { "didChangeWatchedFiles": { "dynamicRegistration": true } } });
        editor
            .ask("initialize", json!({ "processId": null, "capabilities": capabilities, "workspaceFolders": [folder] }))
            .unwrap();
        editor.tell("initialized", json!({}));
        editor
    }

    pub(crate) fn start(root: &Path) -> Self {
        let root = root.canonicalize().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipewright"));
        command.arg("lsp").current_dir(&root).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        for name in ["PIPEWRIGHT_LOG", "PIPEWRIGHT_MASTER_KEY"] {
            command.env_remove(name);
        }
        let mut child = command.spawn().unwrap();
        let (sender, messages) = mpsc::channel();
        let output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(message) = read(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            input: child.stdin.take(),
            child,
            messages,
            root: root.to_str().unwrap().to_owned(),
            asked: 0,
            versions: HashMap::new(),
            texts: HashMap::new(),
            diagnostics: HashMap::new(),
            requests: Vec::new(),
        }
    }

    /// Returns the number of the server's process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn uri(&self, file: &str) -> String {
        format!("file://{}/{file}", self.root)
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap();
        write!(input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        input.flush().unwrap();
    }

    pub(crate) fn tell(&mut self, method: &str, params: Json) {
        self.raw(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }

    /// Sends a request and does not wait for its answer.
    pub(crate) fn send(&mut self, method: &str, params: Json) -> i64 {
        self.asked += 1;
        self.raw(&json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params }).to_string());
        self.asked
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, method: &str, params: Json) -> Result<Json, Json> {
        let id = self.send(method, params);
        self.answer(id)
    }

    pub(crate) fn answer(&mut self, id: i64) -> Result<Json, Json> {
        loop {
            let message = self.next();
            if message["id"] == id && message.get("method").is_none() {
                return match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].clone()),
                };
            }
        }
    }

    fn next(&mut self) -> Json {
        let message = self.messages.recv_timeout(PATIENCE).expect("the server says something");
        if message["method"] == "textDocument/publishDiagnostics" {
            let params = &message["params"];
            let told = (params["version"].as_i64(), params["diagnostics"].clone());
            self.diagnostics.insert(params["uri"].as_str().unwrap().to_owned(), told);
        } else if message.get("method").is_some() {
            self.requests.push(message.clone());
        }
        message
    }

    /// Opens a file as it is on the disk.
    pub(crate) fn show(&mut self, file: &str) {
        let text = std::fs::read_to_string(Path::new(&self.root).join(file)).unwrap();
        self.show_text(file, &text);
    }

    pub(crate) fn show_text(&mut self, file: &str, text: &str) {
        let uri = self.uri(file);
        self.versions.insert(file.to_owned(), 1);
        self.texts.insert(file.to_owned(), text.to_owned());
        let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
    }

    pub(crate) fn text(&self, file: &str) -> &str {
        &self.texts[file]
    }

    /// Replaces a part of a file: the first place where it stands.
    pub(crate) fn edit(&mut self, file: &str, from: &str, to: &str) {
        let text = self.texts[file].clone();
        let at = text.find(from).unwrap_or_else(|| panic!("no `{from}` in\n{text}"));
        let range = json!({ "start": place(&text, at), "end": place(&text, at + from.len()) });
        self.change(file, json!([{ "range": range, "text": to }]), text.replacen(from, to, 1));
    }

    pub(crate) fn replace(&mut self, file: &str, text: &str) {
        self.change(file, json!([{ "text": text }]), text.to_owned());
    }

    /// Replaces a range; `after` is the text then.
    pub(crate) fn ranged(&mut self, file: &str, range: Json, text: &str, after: String) {
        self.change(file, json!([{ "range": range, "text": text }]), after);
    }

    fn change(&mut self, file: &str, changes: Json, text: String) {
        let version = self.versions.get_mut(file).unwrap();
        *version += 1;
        let document = json!({ "uri": format!("file://{}/{file}", self.root), "version": *version });
        self.texts.insert(file.to_owned(), text);
        self.tell("textDocument/didChange", json!({ "textDocument": document, "contentChanges": changes }));
    }

    /// Waits for the diagnostics of a file's newest version.
    pub(crate) fn faults(&mut self, file: &str) -> Vec<String> {
        let (uri, version) = (self.uri(file), self.versions.get(file).copied());
        loop {
            if let Some((told, diagnostics)) = self.diagnostics.get(&uri).filter(|(told, _)| *told == version) {
                let _ = told;
                return shown(diagnostics);
            }
            self.next();
        }
    }

    /// Waits until a file has diagnostics for which this holds.
    pub(crate) fn until(&mut self, file: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let uri = self.uri(file);
        loop {
            if let Some((_, diagnostics)) = self.diagnostics.get(&uri) {
                let shown = shown(diagnostics);
                if holds(&shown) {
                    return shown;
                }
            }
            self.next();
        }
    }

    /// Asks about the place behind a text.
    pub(crate) fn at(&mut self, method: &str, file: &str, behind: &str) -> Result<Json, Json> {
        self.at_with(method, file, behind, json!({}))
    }

    pub(crate) fn at_with(&mut self, method: &str, file: &str, behind: &str, more: Json) -> Result<Json, Json> {
        let text = &self.texts[file];
        let at = text.find(behind).unwrap_or_else(|| panic!("no `{behind}` in\n{text}")) + behind.len();
        let mut params = json!({ "textDocument": { "uri": self.uri(file) }, "position": place(text, at) });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.ask(method, params)
    }

    /// Lists the labels that can be written behind a text.
    pub(crate) fn complete(&mut self, file: &str, behind: &str) -> Vec<String> {
        let list = self.at("textDocument/completion", file, behind).unwrap();
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }

    /// Shows an answer without what differs from run to run.
    pub(crate) fn plain(&self, json: &Json) -> String {
        format!("{json:#}").replace(&self.root, "[ROOT]")
    }

    /// Takes leave, and returns the server's exit code.
    pub(crate) fn close(mut self) -> i32 {
        self.ask("shutdown", Json::Null).unwrap();
        self.tell("exit", Json::Null);
        self.child.wait().unwrap().code().unwrap()
    }

    /// Goes away without a word.
    pub(crate) fn vanish(mut self) -> i32 {
        drop(self.input.take());
        self.child.wait().unwrap().code().unwrap()
    }

    /// Says something last.
    pub(crate) fn leave(mut self, method: &str) -> i32 {
        self.tell(method, Json::Null);
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        // It has ended already where a test took its leave.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(output: &mut impl BufRead) -> Option<Json> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().strip_prefix("Content-Length: ") {
            Some(number) => length = number.parse().ok()?,
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let mut bytes = vec![0; length];
    output.read_exact(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Returns line and column of a byte, in UTF-16.
pub(crate) fn place(text: &str, offset: usize) -> Json {
    let before = text.get(..offset).unwrap();
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap().encode_utf16().count();
    json!({ "line": line, "character": column })
}

/// Applies edits to a text, the last first.
pub(crate) fn applied(text: &str, edits: &Json) -> String {
    let offset = |position: &Json| {
        let (line, column) = (position["line"].as_u64().unwrap(), position["character"].as_u64().unwrap());
        let start: usize = text.split_inclusive('\n').take(usize::try_from(line).unwrap()).map(str::len).sum();
        let mut units = 0;
        let letters = text.get(start..).unwrap().char_indices();
        let found = letters.take_while(|(_, letter)| *letter != '\n').find(|(_, letter)| {
            let reached = units >= usize::try_from(column).unwrap();
            units += letter.len_utf16();
            reached
        });
        let line_end = text.get(start..).unwrap().find('\n').unwrap_or(text.len() - start);
        start + found.map_or(line_end, |(at, _)| at)
    };
    let mut edits: Vec<(usize, usize, &str)> = edits
        .as_array()
        .unwrap()
        .iter()
        .map(|edit| (offset(&edit["range"]["start"]), offset(&edit["range"]["end"]), edit["newText"].as_str().unwrap()))
        .collect();
    edits.sort_unstable();
    let mut text = text.to_owned();
    for (start, end, new) in edits.into_iter().rev() {
        text.replace_range(start..end, new);
    }
    text
}

/// Shows diagnostics one a line.
pub(crate) fn shown(diagnostics: &Json) -> Vec<String> {
    let one = |it: &Json| {
        let (start, end) = (&it["range"]["start"], &it["range"]["end"]);
        format!(
            "{}:{}-{}:{} {} {}",
            start["line"],
            start["character"],
            end["line"],
            end["character"],
            it["code"].as_str().unwrap(),
            it["message"].as_str().unwrap()
        )
    };
    diagnostics.as_array().unwrap().iter().map(one).collect()
}
