//! The base protocol on two streams: `Content-Length`, an empty line, JSON.
//!
//! Messages are read as JSON first and then as messages: with exact numbers JSON text does not decode into enums without a
//! tag. A message that is none is answered as such, and the next one is read.

use std::io;
use std::io::BufRead;
use std::io::Write;
use std::thread;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use lsp_server::Message;
use serde_json::Value as Json;
use serde_json::json;

/// The longest message that is read, in bytes.
const LONGEST: usize = 64 << 20;
/// The longest line of a head.
const LONGEST_LINE: u64 = 4096;

/// What comes over the stream.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(Message),
    /// It is no message: why.
    Malformed(String),
}

/// Reads and writes in threads of their own.
pub(super) fn start(
    input: impl BufRead + Send + 'static,
    output: impl Write + Send + 'static,
) -> (Receiver<Incoming>, Sender<Message>, JoinHandle<()>) {
    // Unbounded as the editor is: whoever reads slowly must not stop an editor that does not read meanwhile.
    let (incoming, received) = crossbeam_channel::unbounded();
    let (sender, outgoing) = crossbeam_channel::unbounded();
    thread::spawn(move || read_all(input, &incoming));
    let writer = thread::spawn(move || write_all(output, &outgoing));
    (received, sender, writer)
}

fn read_all(mut input: impl BufRead, incoming: &Sender<Incoming>) {
    loop {
        let read = match read(&mut input) {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "the editor's stream cannot be read");
                return;
            }
        };
        if incoming.send(read).is_err() {
            return;
        }
    }
}

/// Reads one message; nothing at the end of the stream.
fn read(input: &mut impl BufRead) -> io::Result<Option<Incoming>> {
    let Some(length) = length(input)? else { return Ok(None) };
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    let message = serde_json::from_slice::<Json>(&bytes).and_then(serde_json::from_value::<Message>);
    Ok(Some(match message {
        Ok(message) => Incoming::Message(message),
        Err(error) => Incoming::Malformed(error.to_string()),
    }))
}

/// Reads a head.
fn length(input: &mut impl BufRead) -> io::Result<Option<usize>> {
    let mut length = None;
    loop {
        let mut line = Vec::new();
        io::Read::take(&mut *input, LONGEST_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        match (text.split_once(':'), length) {
            (Some((name, value)), _) if name.eq_ignore_ascii_case("content-length") => {
                length = Some(value.trim().parse().map_err(|_| broken(text))?);
            }
            (Some(_), _) => {}
            (None, Some(length)) if text.is_empty() => return Ok(Some(length)),
            _ => return Err(broken(text)),
        }
    }
}

fn broken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` is no head of a message"))
}

fn write_all(mut output: impl Write, outgoing: &Receiver<Message>) {
    for message in outgoing {
        if let Err(error) = write(&mut output, message) {
            tracing::error!(%error, "the editor's stream cannot be written");
            return;
        }
    }
}

fn write(output: &mut impl Write, message: Message) -> io::Result<()> {
    let mut json = serde_json::to_value(message)?;
    if let Some(object) = json.as_object_mut() {
        object.insert("jsonrpc".to_owned(), json!("2.0"));
    }
    let text = json.to_string();
    write!(output, "Content-Length: {}\r\n\r\n{text}", text.len())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_told_and_the_next_one_is_read() {
        let frame = |text: &str| format!("Content-Type: x\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        let stream = [
            frame("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":{\"n\":1.5}}"),
            frame("{nonsense"),
            frame("[]"),
            frame("{\"method\":\"b\"}"),
        ];
        let mut input = io::Cursor::new(stream.concat().into_bytes());
        let mut kinds = Vec::new();
        while let Some(read) = read(&mut input).unwrap() {
            kinds.push(match read {
                Incoming::Message(Message::Request(request)) => format!("{} {}", request.id, request.params),
                Incoming::Message(Message::Notification(notification)) => notification.method,
                Incoming::Message(Message::Response(_)) => "response".to_owned(),
                Incoming::Malformed(_) => "malformed".to_owned(),
            });
        }
        assert_eq!(kinds, ["1 {\"n\":1.5}", "malformed", "malformed", "b"]);
        for broken in ["hello\r\n\r\n", "Content-Length: x\r\n\r\n", "Content-Length: 99999999999\r\n\r\n"] {
            assert!(super::read(&mut io::Cursor::new(broken.as_bytes())).is_err(), "{broken}");
        }
    }
}
