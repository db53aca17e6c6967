//! The rows of a stand-in, by collection.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::model::Timestamp;
use crate::model::Value;

/// Collections of rows. A row keeps its number for life, so that a page can begin behind one whatever comes and goes.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    collections: IndexMap<Arc<str>, Collection>,
    numbered: u64,
    named: u64,
}

#[derive(Clone, Debug, Default)]
struct Collection {
    /// In the order they came; shared with the expressions that read them.
    rows: Arc<Vec<Value>>,
    numbers: Vec<u64>,
}

/// A row that was found: where it is, and what it holds.
#[derive(Clone, Debug)]
pub struct Found {
    pub collection: Arc<str>,
    pub at: usize,
    pub row: Value,
}

/// From when ids count, in milliseconds since 1970, and how many bits of one are not time: those of snowflakes.
const ID_EPOCH: u64 = 1_288_834_974_657;
const ID_BITS: u32 = 22;

impl Rows {
    /// Makes collections of what a manifest gives them.
    #[must_use]
    pub fn new(data: &IndexMap<Arc<str>, Vec<Value>>) -> Self {
        let mut rows = Self::default();
        for (name, given) in data {
            rows.load(name, given);
        }
        rows
    }

    /// Replaces the rows of a collection.
    pub fn load(&mut self, name: &str, rows: &[Value]) {
        let start = self.numbered;
        self.numbered += rows.len() as u64;
        let collection = Collection { rows: Arc::new(rows.to_vec()), numbers: (start..self.numbered).collect() };
        self.collections.insert(name.into(), collection);
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.collections.contains_key(name)
    }

    /// Returns all rows, by collection; cheap.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::map(self.collections.iter().map(|(name, own)| (name.clone(), Value::List(own.rows.clone()))))
    }

    /// Returns the rows of a collection with their numbers, in the order they came.
    pub fn of(&self, name: &str) -> impl DoubleEndedIterator<Item = (u64, &Value)> {
        let own = self.collections.get(name);
        own.into_iter().flat_map(|own| own.numbers.iter().copied().zip(own.rows.iter()))
    }

    /// Adds a row at the end.
    pub fn insert(&mut self, name: &str, row: Value) {
        let own = self.collections.entry(name.into()).or_default();
        Arc::make_mut(&mut own.rows).push(row);
        own.numbers.push(self.numbered);
        self.numbered += 1;
    }

    /// Replaces a row.
    pub fn replace(&mut self, found: &Found, row: Value) {
        let own = self.collections.get_mut(&found.collection);
        if let Some(place) = own.and_then(|own| Arc::make_mut(&mut own.rows).get_mut(found.at)) {
            *place = row;
        }
    }

    /// Takes a row away.
    pub fn remove(&mut self, found: &Found) {
        let Some(own) = self.collections.get_mut(&found.collection) else { return };
        if found.at < own.numbers.len() {
            Arc::make_mut(&mut own.rows).remove(found.at);
            own.numbers.remove(found.at);
        }
    }

    /// Returns an id that no row has, nor one of another sandbox: digits, the later the larger.
    #[must_use]
    pub fn next_id(&self, now: Timestamp) -> String {
        let milliseconds = u64::try_from(now.micros() / 1_000).unwrap_or(0).saturating_sub(ID_EPOCH);
        ((milliseconds << ID_BITS) + self.named + 1).to_string()
    }

    /// Takes the id of `next_id`.
    pub fn take_id(&mut self) {
        self.named += 1;
    }
}
