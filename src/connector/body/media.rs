//! Media types: `type/subtype; name=value`.

/// A media type as a `Content-Type` header states it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaType {
    /// `type/subtype` in lower case.
    pub essence: String,
    /// Names in lower case, values as they are, without quotes.
    pub parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads a header value; what is malformed in it is passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (essence, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let mut parameters = Vec::new();
        while let Some((name, tail)) = rest.split_once('=') {
            // A `;` before the `=` ends a parameter without a value.
            if name.contains(';') {
                rest = rest.split_once(';').map_or("", |(_, tail)| tail);
                continue;
            }
            let (value, tail) = parameter_value(tail);
            parameters.push((name.trim().to_ascii_lowercase(), value));
            rest = tail;
        }
        Self { essence: essence.trim().to_ascii_lowercase(), parameters }
    }

    /// Returns the first parameter with this name, which is given in lower case.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Splits the value of a parameter, quoted or not, from what follows its `;`.
pub(super) fn parameter_value(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_once(';').unwrap_or((text, ""));
        return (value.trim().to_owned(), rest);
    };
    let mut value = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => value.extend(letters.next()),
            other => value.push(other),
        }
    }
    (value, letters.as_str().split_once(';').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, essence: &str, parameters: &[(&str, &str)]) {
        let media = MediaType::parse(text);
        assert_eq!(media.essence, essence, "{text}");
        let found: Vec<_> = media.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, parameters, "{text}");
    }

    #[test]
    fn a_media_type_has_an_essence_and_parameters() {
        check("text/html", "text/html", &[]);
        check(" Text/HTML ; Charset=UTF-8", "text/html", &[("charset", "UTF-8")]);
        check(
            "multipart/mixed; boundary=\"a;b=\\\"c\\\"\"; x=1",
            "multipart/mixed",
            &[("boundary", "a;b=\"c\""), ("x", "1")],
        );
        check("a/b; flag; c=d", "a/b", &[("c", "d")]);
        check("a/b; c=\"unclosed", "a/b", &[("c", "unclosed")]);
        check("", "", &[]);
    }
}
