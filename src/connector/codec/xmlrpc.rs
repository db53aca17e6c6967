//! XML-RPC: calls, answers and faults.
//!
//! A double is its decimal text in both directions, no digit lost. A moment goes out as `dateTime.iso8601` in UTC and
//! comes in as ISO text without a zone, since the format has none. Binary data is `{ $base64: text }`; null the
//! extension `nil`.

use crate::connector::body::Payload;
use crate::connector::body::described;
use crate::connector::body::xml;
use crate::connector::body::xml::Element;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_number;

const BASE64: &str = "$base64";
const MAX_DEPTH: usize = 64;

/// Writes a call from `{ method, params }`.
pub fn encode(value: &Value) -> Result<Payload, String> {
    let method = value.get("method").and_then(Value::as_str).ok_or("a call of xmlrpc has a text `method`")?;
    let params = match value.get("params") {
        None | Some(Value::Null) => &[],
        Some(params) => params.as_list().ok_or("`params` of xmlrpc is a list")?,
    };
    let mut text = String::from("<methodCall><methodName>");
    xml::escape(method, false, &mut text)?;
    text.push_str("</methodName><params>");
    for param in params {
        text.push_str("<param>");
        write_value(param, 0, &mut text)?;
        text.push_str("</param>");
    }
    text.push_str("</params></methodCall>");
    Ok(document(&text))
}

/// Reads an answer as `{ value }` or `{ fault: { code, string } }`.
pub fn decode(text: &str) -> Result<Value, String> {
    let root = xml::parse(text)?;
    if root.name != "methodResponse" {
        return Err(format!("expected `methodResponse` of XML-RPC, found `{}`", root.name));
    }
    if let Some(fault) = root.child("fault") {
        let fault = read_value(only_value(fault)?, 0)?;
        let part = |name: &str| fault.get(name).cloned().unwrap_or_default();
        let fault = Value::map([("code", part("faultCode")), ("string", part("faultString"))]);
        return Ok(Value::map([("fault", fault)]));
    }
    let param = root.child("params").and_then(|params| params.child("param"));
    let value = read_value(only_value(param.ok_or("the answer of XML-RPC has neither value nor fault")?)?, 0)?;
    Ok(Value::map([("value", value)]))
}

/// Reads a call, for the side that serves.
pub fn decode_call(text: &str) -> Result<(String, Vec<Value>), String> {
    let root = xml::parse(text)?;
    if root.name != "methodCall" {
        return Err(format!("expected `methodCall` of XML-RPC, found `{}`", root.name));
    }
    let method = root.child("methodName").ok_or("the call of XML-RPC has no `methodName`")?.text.trim().to_owned();
    let params = root.child("params").map_or(&[][..], |params| &params.children);
    let params = params.iter().map(|param| read_value(only_value(param)?, 0)).collect::<Result<_, String>>()?;
    Ok((method, params))
}

/// Writes the answer to a call, for the side that serves.
pub fn encode_answer(value: &Value) -> Result<Payload, String> {
    let mut text = String::from("<methodResponse><params><param>");
    write_value(value, 0, &mut text)?;
    text.push_str("</param></params></methodResponse>");
    Ok(document(&text))
}

/// Writes a fault, for the side that serves. Its code is a number, or a text where a server is older than the rules.
pub fn encode_fault(code: impl Into<Value>, string: &str) -> Result<Payload, String> {
    let fault = Value::map([("faultCode", code.into()), ("faultString", Value::from(string))]);
    let mut text = String::from("<methodResponse><fault>");
    write_value(&fault, 0, &mut text)?;
    text.push_str("</fault></methodResponse>");
    Ok(document(&text))
}

fn document(content: &str) -> Payload {
    Payload::new("text/xml", format!("<?xml version=\"1.0\"?>{content}"))
}

fn write_value(value: &Value, depth: usize, out: &mut String) -> Result<(), String> {
    if depth >= MAX_DEPTH {
        return Err(format!("a value of xmlrpc is deeper than {MAX_DEPTH}"));
    }
    out.push_str("<value>");
    match value {
        Value::Secret(inner) => {
            // The frame is written once: by this call.
            let mut text = String::new();
            write_value(inner, depth, &mut text)?;
            let inner = text.strip_prefix("<value>").and_then(|text| text.strip_suffix("</value>"));
            out.push_str(inner.unwrap_or_default());
        }
        Value::Null => out.push_str("<nil/>"),
        Value::Bool(value) => out.push_str(if *value { "<boolean>1</boolean>" } else { "<boolean>0</boolean>" }),
        Value::Int(integer) if i32::try_from(*integer).is_ok() => out.push_str(&format!("<int>{integer}</int>")),
        Value::Int(integer) if i64::try_from(*integer).is_ok() => out.push_str(&format!("<i8>{integer}</i8>")),
        Value::Int(integer) => return Err(format!("xmlrpc cannot hold the integer {integer}")),
        Value::Decimal(_) | Value::Number(_) => out.push_str(&format!("<double>{}</double>", value.to_text())),
        Value::Float(float) if float.is_finite() => out.push_str(&format!("<double>{float:?}</double>")),
        Value::Float(float) => return Err(format!("xmlrpc cannot hold the float {float}")),
        Value::Time(time) => {
            let text = time.to_jiff().strftime("%Y%m%dT%H:%M:%S").to_string();
            out.push_str(&format!("<dateTime.iso8601>{text}</dateTime.iso8601>"));
        }
        Value::String(_) | Value::Money(_) | Value::Duration(_) => {
            out.push_str("<string>");
            xml::escape(&value.to_text(), false, out)?;
            out.push_str("</string>");
        }
        Value::List(items) => {
            out.push_str("<array><data>");
            items.iter().try_for_each(|item| write_value(item, depth + 1, out))?;
            out.push_str("</data></array>");
        }
        Value::Map(map) => write_struct(map, depth, out)?,
        Value::Blob(_) | Value::Dataset(_) | Value::Unknown(_) => {
            return Err(format!("xmlrpc cannot hold {}", described(value)));
        }
    }
    out.push_str("</value>");
    Ok(())
}

fn write_struct(map: &Map, depth: usize, out: &mut String) -> Result<(), String> {
    if let Some(Value::String(text)) = map.get(BASE64).filter(|_| map.len() == 1) {
        out.push_str("<base64>");
        xml::escape(text, false, out)?;
        out.push_str("</base64>");
        return Ok(());
    }
    out.push_str("<struct>");
    for (name, value) in map {
        out.push_str("<member><name>");
        xml::escape(name, false, out)?;
        out.push_str("</name>");
        write_value(value, depth + 1, out)?;
        out.push_str("</member>");
    }
    out.push_str("</struct>");
    Ok(())
}

fn only_value(parent: &Element) -> Result<&Element, String> {
    parent.child("value").ok_or_else(|| format!("`{}` of XML-RPC has no value", parent.name))
}

fn read_value(element: &Element, depth: usize) -> Result<Value, String> {
    if depth >= MAX_DEPTH {
        return Err(format!("a value of XML-RPC is deeper than {MAX_DEPTH}"));
    }
    // Without a type it is a string.
    let Some(typed) = element.children.first() else { return Ok(Value::from(element.text.as_str())) };
    let text = typed.text.trim();
    let wrong = || format!("`{text}` is no `{}` of XML-RPC", typed.name);
    match typed.name.as_str() {
        "string" => Ok(Value::from(typed.text.as_str())),
        "int" | "i1" | "i2" | "i4" | "i8" | "biginteger" => {
            text.strip_prefix('+').unwrap_or(text).parse().map(Value::Int).map_err(|_| wrong())
        }
        "boolean" => match text {
            "1" | "true" => Ok(Value::Bool(true)),
            "0" | "false" => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        "double" | "float" | "bigdecimal" => decimal(text).ok_or_else(wrong),
        "dateTime.iso8601" => date_time(text).map(Value::from).ok_or_else(wrong),
        "base64" => {
            let text: String = text.split_ascii_whitespace().collect();
            Ok(Value::map([(BASE64, Value::from(text))]))
        }
        "nil" => Ok(Value::Null),
        "array" => {
            let data = typed.child("data").map_or(&[][..], |data| &data.children);
            let items = data.iter().map(|item| read_value(item, depth + 1));
            items.collect::<Result<_, String>>().map(Value::list)
        }
        "struct" => read_struct(typed, depth),
        other => Err(format!("`{other}` is no type of XML-RPC")),
    }
}

fn read_struct(element: &Element, depth: usize) -> Result<Value, String> {
    let mut map = Map::new();
    for member in &element.children {
        let name = member.child("name").ok_or("a member of XML-RPC has no name")?;
        map.insert(name.text.as_str().into(), read_value(only_value(member)?, depth + 1)?);
    }
    Ok(Value::from(map))
}

/// Reads a double as the digits that it is written with; some servers leave out the digit on one side of the point.
fn decimal(text: &str) -> Option<Value> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let padded = if digits.starts_with('.') { format!("{sign}0{digits}") } else { text.to_owned() };
    parse_number(&padded).or_else(|| parse_number(padded.strip_suffix('.')?))
}

/// Turns `19980717T14:08:55` into `1998-07-17T14:08:55`.
fn date_time(text: &str) -> Option<String> {
    let (date, time) = text.split_once('T')?;
    let date = date.replace('-', "");
    let digits = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    let time_fits = time.len() >= 8 && time.bytes().all(|byte| byte.is_ascii_digit() || b":.Z+-".contains(&byte));
    if !digits || !time_fits {
        return None;
    }
    Some(format!("{}-{}-{}T{time}", date.get(..4)?, date.get(4..6)?, date.get(6..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;
    use crate::model::parse_json;

    fn text(payload: Payload) -> String {
        assert_eq!(payload.content_type.as_deref(), Some("text/xml"));
        String::from_utf8(payload.bytes).unwrap()
    }

    fn answer(value: &str) -> String {
        format!("<?xml version=\"1.0\"?>\n<methodResponse><params><param>{value}</param></params></methodResponse>")
    }

    #[test]
    fn a_call_is_written_as_the_sheet_shows_it() {
        let value = parse_json(
            r#"{"method":"execute_kw","params":["acme",7,[["write_date",">=","2026-11-01 00:00:00"]],{"active":false},1998.50,null,3000000000]}"#,
        );
        assert_eq!(
            text(encode(&value.unwrap()).unwrap()),
            "<?xml version=\"1.0\"?><methodCall><methodName>execute_kw</methodName><params>\
             <param><value><string>acme</string></value></param><param><value><int>7</int></value></param>\
             <param><value><array><data><value><array><data><value><string>write_date</string></value>\
             <value><string>&gt;=</string></value><value><string>2026-11-01 00:00:00</string></value></data></array></value>\
             </data></array></value></param><param><value><struct><member><name>active</name><value><boolean>0</boolean>\
             </value></member></struct></value></param><param><value><double>1998.50</double></value></param>\
             <param><value><nil/></value></param><param><value><i8>3000000000</i8></value></param></params></methodCall>"
        );
    }

    #[test]
    fn secrets_and_moments_go_out() {
        let time = Value::Time("2026-11-02T09:15:30.5Z".parse().unwrap());
        let call = Value::map([
            ("method", Value::from("m")),
            ("params", Value::list(vec![Value::from("key").tainted(), time])),
        ]);
        let text = text(encode(&call).unwrap());
        assert!(text.contains("<param><value><string>key</string></value></param>"), "{text}");
        assert!(text.contains("<dateTime.iso8601>20261102T09:15:30</dateTime.iso8601>"), "{text}");
    }

    #[test]
    fn values_of_all_types_are_read() {
        let cases = [
            ("<value>plain </value>", r#""plain ""#),
            ("<value><string> x </string></value>", r#"" x ""#),
            ("<value><i4>-7</i4></value>", "-7"),
            ("<value><i8>9007199254740993</i8></value>", "9007199254740993"),
            ("<value><double>2377.6200</double></value>", "2377.6200"),
            ("<value><double>1e-05</double></value>", "0.00001"),
            ("<value><double>-.5</double></value>", "-0.5"),
            ("<value><double>3.</double></value>", "3"),
            ("<value><boolean>0</boolean></value>", "false"),
            ("<value><dateTime.iso8601>19980717T14:08:55</dateTime.iso8601></value>", r#""1998-07-17T14:08:55""#),
            ("<value><base64>aGk\n=</base64></value>", r#"{"$base64":"aGk="}"#),
            ("<value><nil/></value>", "null"),
            ("<value><array><data>\n<value><int>1</int></value></data></array></value>", "[1]"),
            ("<value><struct/></value>", "{}"),
            ("<value><e:nil xmlns:e='x'/></value>", "null"),
        ];
        for (xml, json) in cases {
            assert_eq!(decode(&answer(xml)).unwrap().to_string(), format!("{{\"value\":{json}}}"), "{xml}");
        }
    }

    #[test]
    fn a_fault_is_a_body_too() {
        let payload = encode_fault(2, "a partner <with> this VAT exists").unwrap();
        assert_eq!(
            decode(&text(payload)).unwrap().to_string(),
            r#"{"fault":{"code":2,"string":"a partner <with> this VAT exists"}}"#
        );
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let cases = [
            ("<html/>".to_owned(), "expected `methodResponse` of XML-RPC, found `html`"),
            ("<methodResponse/>".to_owned(), "the answer of XML-RPC has neither value nor fault"),
            (answer("<value><int>x</int></value>"), "`x` is no `int` of XML-RPC"),
            (answer("<value><double>nan</double></value>"), "`nan` is no `double` of XML-RPC"),
            (answer("<value><boolean>2</boolean></value>"), "`2` is no `boolean` of XML-RPC"),
            (answer("<value><odd/></value>"), "`odd` is no type of XML-RPC"),
            (answer("<value><struct><member/></struct></value>"), "a member of XML-RPC has no name"),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(&text).unwrap_err(), expected);
        }
        assert!(encode(&Value::map([("method", Value::from(1))])).is_err());
        assert!(encode_answer(&Value::Int(i128::from(u64::MAX))).is_err());
        assert!(encode_answer(&Value::Float(f64::NAN)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(params in proptest::collection::vec(samples::tree(), 0..4)) {
            let call = Value::map([("method", Value::from("a.b")), ("params", Value::list(params.clone()))]);
            let (method, read) = decode_call(&text(encode(&call).unwrap())).unwrap();
            prop_assert_eq!(method, "a.b");
            prop_assert_eq!(&read, &params);
            let value = Value::list(params);
            let read = decode(&text(encode_answer(&value).unwrap())).unwrap();
            prop_assert_eq!(read.get("value"), Some(&value));
        }

        #[test]
        fn damaged_answers_never_panic(bytes in samples::mutated(answer(
            "<value><struct><member><name>a</name><value><array><data><value><double>1.5</double></value></data></array></value></member></struct></value>"
        ).into_bytes())) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = decode(&text);
            let _ = decode_call(&text);
        }
    }
}
