//! Server-sent events: `text/event-stream` as the WHATWG reads it, from pieces of any size.

use crate::model::Value;

/// How much of one event is held, in bytes.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `message` where the stream names none.
    pub event: String,
    /// The `data` lines, joined by LF.
    pub data: String,
    /// The last id that the stream gave, in this event or before.
    pub id: Option<String>,
}

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    begun: bool,
    event: String,
    data: String,
    has_data: bool,
    id: Option<String>,
    /// How long to wait before connecting again, in milliseconds, if the stream said.
    pub retry: Option<u64>,
}

impl Parser {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        for byte in bytes {
            let ends = matches!(byte, b'\r' | b'\n');
            let second = *byte == b'\n' && self.after_cr;
            self.after_cr = *byte == b'\r';
            if second {
                continue;
            }
            if ends {
                events.extend(self.end_line());
            } else {
                self.line.push(*byte);
            }
            if self.line.len() + self.data.len() > MAX_EVENT {
                return Err(format!("an event of the stream is larger than {MAX_EVENT} bytes"));
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        // Only the very first line may begin with a byte order mark.
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix('\u{feff}').unwrap_or(&line) } else { &line };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok();
            }
            // A comment has an empty field name; unknown fields are passed over.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Event { event, data, id: self.id.clone() })
    }
}

/// Reads a whole stream. An event that its empty line does not end is dropped, as the standard says.
pub fn events(bytes: &[u8]) -> Result<Vec<Event>, String> {
    Parser::new().push(bytes)
}

/// Reads a whole stream as a list of `{ event, data, id }`.
pub fn decode(bytes: &[u8]) -> Result<Value, String> {
    let value = |event: Event| {
        let id = event.id.map_or(Value::Null, Value::from);
        Value::map([("event", Value::from(event.event)), ("data", Value::from(event.data)), ("id", id)])
    };
    Ok(Value::list(events(bytes)?.into_iter().map(value).collect()))
}

/// Appends one event as it goes over the wire; without a name, or with the name `message`, only its data.
pub fn write(event: Option<&str>, data: &str, out: &mut String) {
    if let Some(name) = event.filter(|name| *name != "message") {
        out.push_str("event: ");
        out.push_str(name);
        out.push('\n');
    }
    for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;

    fn check(text: &str, expected: &[(&str, &str, Option<&str>)]) {
        let found = events(text.as_bytes()).unwrap();
        let found: Vec<_> = found.iter().map(|e| (e.event.as_str(), e.data.as_str(), e.id.as_deref())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        check("data: YHOO\ndata: +2\ndata: 10\n\n", &[("message", "YHOO\n+2\n10", None)]);
        check(
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            &[("message", "first event", Some("1")), ("message", "second event", Some(""))],
        );
        check("data\n\ndata\ndata\n\ndata:", &[("message", "", None), ("message", "\n", None)]);
        check("data:test\n\ndata: test\n\n", &[("message", "test", None), ("message", "test", None)]);
    }

    #[test]
    fn line_ends_comments_marks_and_names_are_read() {
        check(
            "\u{feff}event: add\r\ndata: 1\r\n\r\nevent: add\rdata: 2\r\r: ping\n\ndata: 3\n\n",
            &[("add", "1", None), ("add", "2", None), ("message", "3", None)],
        );
        check("event: lost\n\ndata: x\n\n", &[("message", "x", None)]);
        check("id: a\0b\nfoo: bar\nretry: 1x\ndata: x\n\n", &[("message", "x", None)]);
    }

    #[test]
    fn retry_is_kept() {
        let mut parser = Parser::new();
        assert_eq!(parser.push(b"retry: 2500\n").unwrap(), []);
        assert_eq!(parser.retry, Some(2500));
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::new();
        let piece = vec![b'x'; 1024 * 1024];
        let error = (0..20).find_map(|_| parser.push(&piece).err()).unwrap();
        assert!(error.contains("larger than"), "{error}");
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_events(
            pieces in proptest::collection::vec("(data|event|id|:|retry)?(: ?)?[a-zä€]{0,4}(\r|\n|\r\n|\n\n|\r\n\r\n)?", 0..20),
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let bytes = pieces.concat().into_bytes();
            let whole = events(&bytes).unwrap();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut parser = Parser::new();
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                found.extend(parser.push(&bytes[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn what_is_written_is_read_back(drawn in proptest::collection::vec(("[a-z.]{1,8}", "[ -~\nä€]{0,20}"), 0..6)) {
            let mut text = String::new();
            for (name, data) in &drawn {
                write(Some(name), data, &mut text);
            }
            let found: Vec<_> = events(text.as_bytes()).unwrap().into_iter().map(|e| (e.event, e.data)).collect();
            prop_assert_eq!(found, drawn);
        }

        #[test]
        fn damaged_streams_never_panic(bytes in samples::mutated(b"event: a\r\ndata: {}\r\n\r\nid: 1\ndata: x\n\n".to_vec())) {
            let _ = events(&bytes);
        }
    }
}
