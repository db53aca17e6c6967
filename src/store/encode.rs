//! Values and events as the store keeps them: `model`'s stored form, secrets sealed, large texts in the blob store.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::Error;
use super::Sealer;
use super::blobs::Blobs;
use crate::model::Map;
use crate::model::RunEvent;
use crate::model::Value;
use crate::model::from_stored;
use crate::model::to_stored;

/// A text longer than this goes to the blob store, and the row keeps its address.
const LARGE: usize = 64 * 1024;
/// How the row begins that keeps an address: a tag that `model` does not know.
const BIG: &str = "{\"$\":[\"big\",\"";
const BIG_END: &str = "\"]}";

/// Writes and reads stored texts.
#[derive(Debug)]
pub(super) struct Codec {
    pub(super) blobs: Blobs,
    pub(super) sealer: Option<Arc<dyn Sealer>>,
    pub(super) read_only: bool,
}

impl Codec {
    /// Returns the stored form of a value. Writes a file where it is large: call it off the runtime's threads then.
    pub(super) fn encode(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.encode_into(value, &mut out)?;
        Ok(out)
    }

    fn encode_into(&self, value: &Value, out: &mut String) -> Result<(), Error> {
        let start = out.len();
        let mut seal = |open: &str| match &self.sealer {
            Some(sealer) => sealer.seal(open).map_err(Error::Seal),
            None => Err(Error::NoMasterKey),
        };
        to_stored(value, out, &mut seal)?;
        if out.len() - start > LARGE && self.blobs.take_values() {
            let text = out.split_off(start);
            let address = self.blobs.put(text.as_bytes())?;
            out.push_str(BIG);
            out.push_str(&address);
            out.push_str(BIG_END);
        }
        Ok(())
    }

    /// Reads a stored value.
    pub(super) fn decode(&self, text: &str, what: &str) -> Result<Value, Error> {
        let damaged = |reason: String| Error::Damaged { what: what.to_owned(), reason };
        if let Some(address) = text.strip_prefix(BIG).and_then(|rest| rest.strip_suffix(BIG_END)) {
            let bytes = self.blobs.get(address)?;
            let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
            return self.decode_text(&text, what);
        }
        self.decode_text(text, what)
    }

    fn decode_text(&self, text: &str, what: &str) -> Result<Value, Error> {
        // The reader knows texts alone; what sealing has to say is kept beside it.
        let failure = std::cell::RefCell::new(None);
        let unseal = |sealed: &str| match &self.sealer {
            Some(sealer) => sealer.unseal(sealed).map_err(|error| {
                let text = error.to_string();
                *failure.borrow_mut() = Some(Error::Seal(error));
                text
            }),
            // Nothing can be executed from a store that is only read: a placeholder does no harm there.
            None if self.read_only => Ok("\"***\"".to_owned()),
            None => {
                *failure.borrow_mut() = Some(Error::NoMasterKey);
                Err("no master key".to_owned())
            }
        };
        let value = from_stored(text, &unseal);
        value.map_err(|reason| failure.take().unwrap_or_else(|| Error::Damaged { what: what.to_owned(), reason }))
    }

    /// Appends an event as one line, without the line's end.
    pub(super) fn encode_event(&self, event: &RunEvent, out: &mut String) -> Result<(), Error> {
        let value = event.to_value();
        let fields = value.as_map().expect("to_value() gives an object");
        out.push('{');
        for (index, (key, value)) in fields.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            // The keys of events are words of ours: nothing in them needs escaping.
            out.push('"');
            out.push_str(key);
            out.push_str("\":");
            self.encode_into(value, out)?;
        }
        out.push('}');
        Ok(())
    }

    /// Reads a line that `encode_event` wrote.
    pub(super) fn decode_event(&self, line: &str, what: &str) -> Result<RunEvent, Error> {
        let damaged = |reason: String| Error::Damaged { what: what.to_owned(), reason };
        let raw: IndexMap<Arc<str>, &RawValue> =
            serde_json::from_str(line).map_err(|error| damaged(error.to_string()))?;
        let mut fields = Map::with_capacity(raw.len());
        for (key, text) in raw {
            fields.insert(key, self.decode(text.get(), what)?);
        }
        RunEvent::from_value(&Value::from(fields)).map_err(damaged)
    }
}
