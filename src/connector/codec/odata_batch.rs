//! `$batch` of OData V2: requests and answers as parts of `multipart/mixed` (OData 2.0, Batch Processing), both ways.
//!
//! A batch is a list of `{ method, url, headers, body }` and of `{ changes: [ … ] }`: the writes of one all-or-nothing
//! change set. Its answer is `{ responses: [ … ] }` in the same order: `{ status, headers, body }` for a request, `{
//! changes: [ … ] }` for a change set that went through, one `{ status, headers, body }` for one that did not. Bodies
//! hold values of OData V2 (see `odata2`).

use super::odata2;
use crate::connector::body;
use crate::connector::body::Payload;
use crate::connector::body::json;
use crate::connector::body::multipart;
use crate::connector::body::multipart::Entity;
use crate::connector::judge;
use crate::model::Map;
use crate::model::Value;

const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "MERGE", "DELETE"];

/// Writes a batch.
///
/// # Errors
/// What is no batch, a read in a change set or a write beside one.
pub fn encode(value: &Value) -> Result<Payload, String> {
    let parts = value.as_list().ok_or("a batch is a list of requests")?;
    let boundary = mark("batch", value);
    let mut out = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        open(&boundary, &mut out);
        match part.get("changes") {
            Some(changes) => {
                let changes = changes.as_list().ok_or("`changes` is a list of requests")?;
                let inner = format!("{}-{at}", mark("changes", value));
                head(&[("Content-Type", &format!("multipart/mixed; boundary={inner}"))], &mut out);
                for (number, change) in (1..).zip(changes) {
                    open(&inner, &mut out);
                    write_request(change, Some(number), &mut out)?;
                }
                close(&inner, &mut out);
                out.extend_from_slice(b"\r\n");
            }
            None => write_request(part, None, &mut out)?,
        }
    }
    close(&boundary, &mut out);
    Ok(Payload::new(&format!("multipart/mixed; boundary={boundary}"), out))
}

/// Reads the answer to a batch; an answer that is none, an error above all, is read as `odata2` does.
///
/// # Errors
/// A part that is damaged, in words.
pub fn decode(content_type: Option<&str>, bytes: &[u8]) -> Result<Value, String> {
    let Some(content_type) = content_type.filter(|kind| is_multipart(kind)) else {
        return odata2::decode(&body::text_of(content_type, bytes));
    };
    let responses = each(content_type, bytes, &read_response)?;
    Ok(Value::map([("responses", Value::list(responses))]))
}

/// Reads a batch, for the side that serves: the list that `encode` takes.
///
/// # Errors
/// A part that is damaged, in words.
pub fn decode_requests(content_type: &str, bytes: &[u8]) -> Result<Value, String> {
    each(content_type, bytes, &read_request).map(Value::list)
}

/// Writes the answers to a batch, for the side that serves: the `responses` that `decode` gives.
///
/// # Errors
/// What is no answer.
pub fn encode_responses(responses: &Value) -> Result<Payload, String> {
    let parts = responses.as_list().ok_or("the answers of a batch are a list")?;
    let boundary = mark("answers", responses);
    let mut out = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        open(&boundary, &mut out);
        match part.get("changes").and_then(Value::as_list) {
            Some(changes) => {
                let inner = format!("{}-{at}", mark("changes", responses));
                head(&[("Content-Type", &format!("multipart/mixed; boundary={inner}"))], &mut out);
                for change in changes {
                    open(&inner, &mut out);
                    write_response(change, &mut out)?;
                }
                close(&inner, &mut out);
                out.extend_from_slice(b"\r\n");
            }
            None => write_response(part, &mut out)?,
        }
    }
    close(&boundary, &mut out);
    Ok(Payload::new(&format!("multipart/mixed; boundary={boundary}"), out))
}

/// Reads each part of a batch or of a change set in it.
fn each(
    content_type: &str,
    bytes: &[u8],
    read: &impl Fn(&[u8]) -> Result<Value, String>,
) -> Result<Vec<Value>, String> {
    let entities = multipart::split(content_type, bytes)?;
    let one = |entity: &Entity<'_>| match entity.header("content-type") {
        Some(kind) if is_multipart(kind) => {
            let inner = multipart::split(kind, entity.content)?;
            let changes: Result<Vec<_>, String> = inner.iter().map(|part| read(part.content)).collect();
            Ok(Value::map([("changes", Value::list(changes?))]))
        }
        _ => read(entity.content),
    };
    entities.iter().map(one).collect()
}

fn is_multipart(content_type: &str) -> bool {
    content_type.trim_start().to_ascii_lowercase().starts_with("multipart/")
}

/// Returns a boundary that the content itself gives; nothing in it can hold its own digest.
fn mark(what: &str, content: &Value) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{what} {content}").as_bytes());
    let hex: String = digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("{what}-{hex}")
}

fn open(boundary: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
}

fn close(boundary: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
}

fn head(headers: &[(&str, &str)], out: &mut Vec<u8>) {
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn write_request(request: &Value, number: Option<usize>, out: &mut Vec<u8>) -> Result<(), String> {
    let text = |key: &str| request.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let url = text("url").ok_or("a request of a batch needs a `url`")?;
    let method = text("method").unwrap_or("GET").to_ascii_uppercase();
    if !METHODS.contains(&method.as_str()) {
        return Err(format!("a batch has no method `{method}`"));
    }
    match (method == "GET", number.is_some()) {
        (true, true) => return Err("a read cannot stand among `changes`".to_owned()),
        (false, false) => return Err(format!("a {method} must stand among `changes`")),
        _ => {}
    }
    if url.contains(char::is_whitespace) {
        return Err(format!("the URL `{url}` of a request holds a space"));
    }
    let number = number.map(|number| number.to_string());
    let mut outer = vec![("Content-Type", "application/http"), ("Content-Transfer-Encoding", "binary")];
    outer.extend(number.as_deref().map(|number| ("Content-ID", number)));
    head(&outer, out);
    out.extend_from_slice(format!("{method} {url} HTTP/1.1\r\n").as_bytes());
    write_message(request, &[("Accept", "application/json")], out)
}

fn write_response(response: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let Some(Value::Int(status)) = response.get("status") else {
        return Err("an answer of a batch needs a `status`".to_owned());
    };
    head(&[("Content-Type", "application/http"), ("Content-Transfer-Encoding", "binary")], out);
    let reason = Some(u16::try_from(*status).map_or("", judge::reason)).filter(|it| !it.is_empty());
    out.extend_from_slice(format!("HTTP/1.1 {status}{}\r\n", reason.unwrap_or(" OK")).as_bytes());
    write_message(response, &[], out)
}

/// Writes headers and body of a message.
fn write_message(message: &Value, more: &[(&str, &str)], out: &mut Vec<u8>) -> Result<(), String> {
    let bytes = match message.get("body") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.as_bytes().to_vec(),
        Some(value) => json::write(&odata2::to_wire(value))?.into_bytes(),
    };
    let given = message.get("headers").and_then(Value::as_map).cloned().unwrap_or_default();
    let has = |name: &str| given.keys().any(|key| key.eq_ignore_ascii_case(name));
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        let value = value.to_text();
        if name.contains(['\r', '\n', ':']) || value.contains(['\r', '\n']) {
            return Err(format!("the header `{name}` has more than one line"));
        }
        lines.push((name.to_string(), value));
    }
    lines.extend(more.iter().filter(|(name, _)| !has(name)).map(|(name, value)| ((*name).into(), (*value).into())));
    if !bytes.is_empty() && !has("content-type") {
        lines.push(("Content-Type".into(), "application/json".into()));
    }
    lines.push(("Content-Length".into(), bytes.len().to_string()));
    let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    head(&lines, out);
    out.extend_from_slice(&bytes);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn first_line(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("a part of the batch ends within its first line")?;
    let (line, rest) = bytes.split_at(end);
    let line = std::str::from_utf8(line).map_err(|_| "the first line of a part is not UTF-8".to_owned())?;
    Ok((line.trim_end_matches('\r'), rest.get(1..).unwrap_or_default()))
}

/// Reads what follows the first line of a message.
fn message(bytes: &[u8]) -> Result<[(&'static str, Value); 2], String> {
    let entity = multipart::entity(bytes)?;
    let headers = entity.headers.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str())));
    let headers = Value::from(headers.map(|(name, value)| (name.into(), value)).collect::<Map>());
    // A length counts what belongs to the message; the line end behind it does not.
    let length = entity.header("content-length").and_then(|length| length.parse::<usize>().ok());
    let content = length.and_then(|length| entity.content.get(..length)).unwrap_or(entity.content);
    let content_type = entity.header("content-type");
    let text = body::text_of(content_type, content);
    let body = match text.trim() {
        "" => Value::Null,
        text => odata2::decode(text).unwrap_or_else(|_| text.into()),
    };
    Ok([("headers", headers), ("body", body)])
}

fn read_response(bytes: &[u8]) -> Result<Value, String> {
    let (line, rest) = first_line(bytes)?;
    let mut words = line.split(' ');
    let status = match (words.next(), words.next().and_then(|status| status.parse::<u16>().ok())) {
        (Some(version), Some(status)) if version.starts_with("HTTP/") => status,
        _ => return Err(format!("`{line}` is not the first line of an answer")),
    };
    let [headers, body] = message(rest)?;
    Ok(Value::map([("status", Value::Int(status.into())), headers, body]))
}

fn read_request(bytes: &[u8]) -> Result<Value, String> {
    let (line, rest) = first_line(bytes)?;
    let words: Vec<_> = line.split(' ').collect();
    let [method, url, ..] = words.as_slice() else {
        return Err(format!("`{line}` is not the first line of a request"));
    };
    let [headers, body] = message(rest)?;
    Ok(Value::map([("method", Value::from(*method)), ("url", Value::from(*url)), headers, body]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    fn value(text: &str) -> Value {
        parse_json(text).unwrap()
    }

    #[test]
    fn a_batch_stands_on_the_wire_as_services_want_it() {
        let batch = value(
            r#"[{"url":"A_Product?$top=1"},{"changes":[{"method":"post","url":"A_SalesOrder","body":{"Net":"1.00"}},
            {"method":"MERGE","url":"A_SalesOrder('1')","headers":{"If-Match":"W/\"1\""},"body":{"At":null}}]}]"#,
        );
        let payload = encode(&batch).unwrap();
        let text = String::from_utf8(payload.bytes.clone()).unwrap();
        let kind = payload.content_type.unwrap();
        let boundary = kind.strip_prefix("multipart/mixed; boundary=").unwrap();
        let inner = text.split("Content-Type: multipart/mixed; boundary=").nth(1).unwrap().lines().next().unwrap();
        let expected = format!(
            "--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
             GET A_Product?$top=1 HTTP/1.1\r\nAccept: application/json\r\nContent-Length: 0\r\n\r\n\r\n\
             --{boundary}\r\nContent-Type: multipart/mixed; boundary={inner}\r\n\r\n\
             --{inner}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: 1\r\n\r\n\
             POST A_SalesOrder HTTP/1.1\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n\
             {{\"Net\":\"1.00\"}}\r\n\
             --{inner}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: 2\r\n\r\n\
             MERGE A_SalesOrder('1') HTTP/1.1\r\nIf-Match: W/\"1\"\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n\
             {{\"At\":null}}\r\n--{inner}--\r\n\r\n--{boundary}--\r\n"
        );
        assert_eq!(text, expected);
        let read = decode_requests(&kind, &payload.bytes).unwrap();
        let second = read.as_list().unwrap()[1].get("changes").and_then(Value::as_list).unwrap()[1].clone();
        assert_eq!(second.get("url"), Some(&"A_SalesOrder('1')".into()));
        assert_eq!(second.get("body"), Some(&value(r#"{"At":null}"#)));
    }

    #[test]
    fn an_answer_is_read_part_by_part() {
        // As a gateway writes it: a change set that failed is one part, and there is a line before the first boundary.
        let text = "\r\n--A\r\nContent-Type: application/http\r\nContent-Length: 99\r\ncontent-transfer-encoding: binary\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 41\r\n\r\n{\"d\":{\"On\":\"\\/Date(0)\\/\",\"Net\":\"1.00\"}}  \r\n--A\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n\r\n--B--\r\n\r\n--A\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\r\n{\"error\":{\"code\":\"005056A509B11EE1B9A8FEC11C21578E\"}}\r\n--A--\r\n";
        let read = decode(Some("multipart/mixed; boundary=A"), text.as_bytes()).unwrap();
        assert_eq!(
            read.to_string(),
            r#"{"responses":[{"status":200,"headers":{"content-type":"application/json","content-length":"41"},"body":{"d":{"On":"1970-01-01T00:00:00Z","Net":"1.00"}}},{"changes":[{"status":204,"headers":{"content-length":"0"},"body":null}]},{"status":400,"headers":{"content-type":"application/json"},"body":{"error":{"code":"005056A509B11EE1B9A8FEC11C21578E"}}}]}"#
        );
        let again = encode_responses(read.get("responses").unwrap()).unwrap();
        let again = decode(again.content_type.as_deref(), &again.bytes).unwrap();
        let bodies = |it: &Value| it.to_string().matches("005056A509B11EE1B9A8FEC11C21578E").count();
        assert_eq!((bodies(&again), bodies(&read)), (1, 1));
        let refused = decode(Some("application/json"), br#"{"error":{"code":"x"}}"#).unwrap();
        assert_eq!(refused.to_string(), r#"{"error":{"code":"x"}}"#);
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        for (batch, expected) in [
            (r#"{}"#, "a batch is a list"),
            (r#"[{"method":"POST","url":"x"}]"#, "a POST must stand among `changes`"),
            (r#"[{"changes":[{"url":"x"}]}]"#, "a read cannot stand among `changes`"),
            (r#"[{"method":"TRACE","url":"x"}]"#, "a batch has no method `TRACE`"),
            (r#"[{"url":"a b"}]"#, "holds a space"),
            (r#"[{"url":"a","headers":{"x":"1\r\ny: 2"}}]"#, "has more than one line"),
        ] {
            let error = encode(&value(batch)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        for damaged in
            ["", "--A", "--A\r\n\r\n", "--A\r\n\r\nHTTP/1.1\r\n--A--", "--A\r\n\r\nnonsense 200\r\n\r\n--A--"]
        {
            assert!(decode(Some("multipart/mixed; boundary=A"), damaged.as_bytes()).is_err(), "{damaged:?}");
        }
    }
}
