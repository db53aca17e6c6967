//! XML bodies: elements ⇄ values.
//!
//! A child element is a key, a repeated one a list, an attribute `@name`, and the text of an element that also has
//! attributes or children `#text`. An element with text only is that text; an empty one the empty text, or null where
//! it says `nil="true"`. Prefixes of namespaces are dropped when reading and written as they are given.

use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::BytesRef;
use quick_xml::events::BytesStart;
use quick_xml::events::Event;

use super::Payload;
use super::scalar;
use crate::model::Map;
use crate::model::Value;

/// The key of the text of an element that has more than text.
pub const TEXT: &str = "#text";

const MAX_DEPTH: usize = 64;

/// An element, its namespace prefix dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    /// Without declarations of namespaces.
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    /// All text directly in it, in one.
    pub text: String,
}

impl Element {
    /// Returns the first child with this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }
}

/// Reads a document into a value: an object with the root element as its one key.
pub fn decode(text: &str) -> Result<Value, String> {
    let root = parse(text)?;
    Ok(Value::map([(root.name.as_str(), to_value(&root))]))
}

/// Writes an object with one key as a document with that root element.
pub fn encode(value: &Value) -> Result<Payload, String> {
    let revealed = value.revealed();
    let root = revealed.as_map().filter(|map| map.len() == 1).and_then(|map| map.first());
    let (name, content) = root.ok_or("xml takes an object with one key, the root element")?;
    if content.as_list().is_some() {
        return Err(format!("the root element `{name}` cannot be a list"));
    }
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    write_element(name, content, 0, &mut text)?;
    Ok(Payload::new("application/xml", text.into_bytes()))
}

/// Reads a document into elements. Depth is bounded, a document type (and with it every entity of one) refused.
pub fn parse(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let event = reader.read_event().map_err(|error| format!("the body is not XML: {error}"))?;
        match event {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err(format!("the XML is deeper than {MAX_DEPTH} elements"));
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => close(element(&start)?, &mut open, &mut root)?,
            Event::End(_) => {
                let done = open.pop().ok_or("the body is not XML: an element ends that never began")?;
                close(done, &mut open, &mut root)?;
            }
            Event::Text(text) => add_text(&text.xml10_content(), &mut open)?,
            Event::CData(text) => add_text(&text.xml10_content(), &mut open)?,
            Event::GeneralRef(reference) => add_text(resolved(&reference)?.encode_utf8(&mut [0; 4]), &mut open)?,
            Event::DocType(_) => return Err("a document type in XML is refused".to_owned()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof if !open.is_empty() => return Err("the body is not XML: it ends within an element".to_owned()),
            Event::Eof => return root.ok_or_else(|| "the body is not XML: it has no element".to_owned()),
        }
    }
}

fn close(done: Element, open: &mut [Element], root: &mut Option<Element>) -> Result<(), String> {
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None if root.is_some() => return Err("the body is not XML: it has two root elements".to_owned()),
        None => *root = Some(done),
    }
    Ok(())
}

fn add_text(text: &str, open: &mut [Element]) -> Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("the body is not XML: there is text outside of its element".to_owned()),
    }
    Ok(())
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| format!("the body is not XML: {error}"))?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| format!("the body is not XML: {error}"))?;
        attributes.push((local(attribute.key.0), value.into_owned()));
    }
    Ok(Element { name: local(start.name().0), attributes, ..Element::default() })
}

fn local(name: &str) -> String {
    name.rsplit_once(':').map_or(name, |(_, local)| local).to_owned()
}

/// Only the five entities of XML itself and character references: a document cannot define more.
fn resolved(reference: &BytesRef<'_>) -> Result<char, String> {
    let character = reference.resolve_char_ref().map_err(|error| format!("the body is not XML: {error}"))?;
    if let Some(character) = character {
        return Ok(character);
    }
    match reference.as_ref() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        other => Err(format!("the body is not XML: there is no entity `{other}`")),
    }
}

fn to_value(element: &Element) -> Value {
    let nil = |(name, value): &(String, String)| name == "nil" && matches!(value.as_str(), "true" | "1");
    if element.children.is_empty() && element.attributes.iter().any(nil) {
        return Value::Null;
    }
    if element.children.is_empty() && element.attributes.is_empty() {
        return Value::from(element.text.as_str());
    }
    let mut map = Map::new();
    for (name, value) in &element.attributes {
        map.insert(format!("@{name}").into(), Value::from(value.as_str()));
    }
    // Grouped first: adding to a list in the map one by one would copy it each time.
    let mut groups: indexmap::IndexMap<&str, Vec<Value>> = indexmap::IndexMap::new();
    for child in &element.children {
        groups.entry(&child.name).or_default().push(to_value(child));
    }
    for (name, mut values) in groups {
        let value = if values.len() == 1 { values.remove(0) } else { Value::list(values) };
        map.insert(name.into(), value);
    }
    // White space between elements is layout.
    let text = if element.children.is_empty() { &element.text } else { element.text.trim() };
    if !text.is_empty() {
        map.insert(Arc::from(TEXT), Value::from(text));
    }
    Value::from(map)
}

fn write_element(name: &str, value: &Value, depth: usize, out: &mut String) -> Result<(), String> {
    if depth >= MAX_DEPTH {
        return Err(format!("the XML is deeper than {MAX_DEPTH} elements"));
    }
    check_name(name)?;
    if let Value::List(items) = value {
        return items.iter().try_for_each(|item| match item {
            Value::List(_) => Err(format!("`{name}` in xml is a list in a list")),
            item => write_element(name, item, depth, out),
        });
    }
    out.push('<');
    out.push_str(name);
    let Some(map) = value.as_map() else {
        let text = scalar(value, &format!("`{name}` in xml"))?;
        return write_content(name, &text, |_| Ok(()), out);
    };
    for (key, value) in map {
        if let Some(attribute) = key.strip_prefix('@').filter(|_| !value.is_null()) {
            check_name(attribute)?;
            out.push_str(&format!(" {attribute}=\""));
            escape(&scalar(value, &format!("`{key}` in xml"))?, true, out)?;
            out.push('"');
        }
    }
    let text = map.get(TEXT).map_or(Ok(String::new()), |text| scalar(text, "`#text` in xml"))?;
    let children = |out: &mut String| {
        let children = map.iter().filter(|(key, _)| !key.starts_with('@') && &***key != TEXT);
        children.into_iter().try_for_each(|(key, value)| write_element(key, value, depth + 1, out))
    };
    write_content(name, &text, children, out)
}

/// Ends a start tag and writes what is within.
fn write_content(
    name: &str,
    text: &str,
    children: impl Fn(&mut String) -> Result<(), String>,
    out: &mut String,
) -> Result<(), String> {
    out.push('>');
    let before = out.len();
    escape(text, false, out)?;
    children(out)?;
    if out.len() == before {
        out.pop();
        out.push_str("/>");
    } else {
        out.push_str(&format!("</{name}>"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let begins = |letter: char| letter.is_alphabetic() || letter == '_';
    let goes_on = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':');
    if name.starts_with(begins) && name.chars().all(goes_on) && !name.ends_with(':') {
        return Ok(());
    }
    Err(format!("`{name}` is not a name in XML"))
}

/// Appends text with what is markup escaped; characters that XML cannot hold are refused.
pub(in crate::connector) fn escape(text: &str, attribute: bool, out: &mut String) -> Result<(), String> {
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' if attribute => out.push_str("&quot;"),
            // A reader would turn a bare CR into LF, and either into a space within an attribute.
            '\r' => out.push_str("&#13;"),
            '\n' | '\t' if attribute => out.push_str(&format!("&#{};", u32::from(letter))),
            '\n' | '\t' => out.push(letter),
            '\0'..=' ' if letter != ' ' => return Err(unfit(letter)),
            '\u{fffe}' | '\u{ffff}' => return Err(unfit(letter)),
            other => out.push(other),
        }
    }
    Ok(())
}

fn unfit(letter: char) -> String {
    format!("XML cannot hold the character U+{:04X}", u32::from(letter))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connector::body::samples;
    use crate::model::parse_json;

    fn check(xml: &str, json: &str) {
        assert_eq!(decode(xml).unwrap().to_string(), json, "{xml}");
    }

    fn written(json: &str) -> Result<String, String> {
        let text = String::from_utf8(encode(&parse_json(json).unwrap())?.bytes).unwrap();
        Ok(text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").unwrap().to_owned())
    }

    #[test]
    fn elements_become_keys_lists_and_texts() {
        check("<a/>", r#"{"a":""}"#);
        check("<a> x </a>", r#"{"a":" x "}"#);
        check("<a b='1'>x</a>", r##"{"a":{"@b":"1","#text":"x"}}"##);
        check("<a>\n <b>1</b>\n <c/> <b>2</b></a>", r#"{"a":{"b":["1","2"],"c":""}}"#);
        check("<a>x<b/> y </a>", r##"{"a":{"b":"","#text":"x y"}}"##);
        check(
            "<d:a xmlns:d='u' xmlns='v' d:id='7'><d:b>&lt;&#65;&#x42;<![CDATA[<&]]></d:b></d:a>",
            r#"{"a":{"@id":"7","b":"<AB<&"}}"#,
        );
        check("<a xmlns:i='u'><b i:nil='true'/></a>", r#"{"a":{"b":null}}"#);
    }

    #[test]
    fn a_listing_of_a_bucket_is_read() {
        check(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Prefix>runs/</Prefix><Contents><Key>a b</Key><ETag>\"8238\"</ETag></Contents><Contents><Key>c</Key></Contents>\
             </ListBucketResult>",
            r#"{"ListBucketResult":{"Prefix":"runs/","Contents":[{"Key":"a b","ETag":"\"8238\""},{"Key":"c"}]}}"#,
        );
    }

    #[test]
    fn values_become_elements() {
        let json =
            r##"{"u:a":{"@xmlns:u":"n\"\n","@x":null,"Part":[{"N":1.50},{"N":true}],"e":null,"m":{},"#text":"<&>"}}"##;
        assert_eq!(
            written(json).unwrap(),
            "<u:a xmlns:u=\"n&quot;&#10;\">&lt;&amp;&gt;<Part><N>1.50</N></Part><Part><N>true</N></Part><e/><m/></u:a>"
        );
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let cases = [
            ("[]", "xml takes an object with one key, the root element"),
            (r#"{"a":1,"b":2}"#, "xml takes an object with one key, the root element"),
            (r#"{"a":[1]}"#, "the root element `a` cannot be a list"),
            (r#"{"a b":1}"#, "`a b` is not a name in XML"),
            (r#"{"a":{"@b c=":1}}"#, "`b c=` is not a name in XML"),
            (r#"{"a":"\u0000"}"#, "XML cannot hold the character U+0000"),
            (r#"{"a":{"b":[[1]]}}"#, "`b` in xml is a list in a list"),
        ];
        for (json, expected) in cases {
            assert_eq!(written(json).unwrap_err(), expected, "{json}");
        }
    }

    #[test]
    fn bombs_and_broken_documents_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"yyyyyyyy\"><!ENTITY z \"&x;&x;&x;\">]><a>&z;</a>";
        assert_eq!(decode(bomb).unwrap_err(), "a document type in XML is refused");
        assert_eq!(decode("<a>&nbsp;</a>").unwrap_err(), "the body is not XML: there is no entity `nbsp`");
        assert_eq!(decode(&"<a>".repeat(100_000)).unwrap_err(), "the XML is deeper than 64 elements");
        for text in [
            "",
            "x",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>x",
            "<a b=1/>",
            "<a b='1' b='2'/>",
            "<a",
            "<a>&#0;</a>",
            "<a>&",
        ] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    /// What XML can tell apart: texts, objects with such members, lists of two and more.
    fn document() -> impl Strategy<Value = Value> {
        let text = "[!-~ä€\n\r\t]{0,9}".prop_map(Value::from);
        let content = text.clone().prop_recursive(4, 30, 4, move |inner| {
            let many = proptest::collection::vec(inner.clone(), 2..4).prop_map(Value::list);
            let attributes = proptest::collection::vec(("@[a-z]{1,4}", text.clone()), 0..3);
            let member = prop_oneof![3 => inner, 1 => many];
            let children = proptest::collection::vec((samples::key(), member), 1..4);
            (attributes, children).prop_map(|(attributes, children)| Value::map(attributes.into_iter().chain(children)))
        });
        let content = content.prop_filter("a nil attribute reads as null", |value| !value.to_string().contains("@nil"));
        content.prop_map(|content| Value::map([("root", content)]))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in document()) {
            let text = String::from_utf8(encode(&value).unwrap().bytes).unwrap();
            prop_assert_eq!(decode(&text).unwrap(), value, "{}", text);
        }

        #[test]
        fn any_value_is_written_or_refused(value in samples::tree()) {
            if let Ok(payload) = encode(&value) {
                decode(std::str::from_utf8(&payload.bytes).unwrap()).unwrap();
            }
        }

        #[test]
        fn damaged_documents_never_panic(bytes in samples::mutated(
            b"<?xml version=\"1.0\"?><a x=\"1\"><b>&lt;&#65;</b><![CDATA[x]]><!-- c --><c/></a>".to_vec()
        )) {
            let _ = decode(&String::from_utf8_lossy(&bytes));
        }
    }
}
