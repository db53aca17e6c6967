//! What was generated, and the notes beside it, with the inverted index of their texts and their vectors.
//!
//! How a text is cut into terms and how documents are ranked is `memory`'s: here are rows.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rust_decimal::Decimal;

use super::Arg;
use super::Batch;
use super::Error;
use super::Row;
use super::Store;
use super::db::args;
use super::runs::ids_from_to;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;

/// One generation, or a note.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationRecord {
    /// Made of run, path and part: see [`generation_id`].
    pub id: String,
    pub at: Timestamp,
    pub run: RunId,
    pub path: StepPath,
    /// Tells several of one step run apart; mostly empty.
    pub part: String,
    pub pipeline: Arc<str>,
    /// `generate`, `classify`, `reflect`, `note` …
    pub kind: String,
    pub topic: Option<String>,
    pub connection: Option<String>,
    pub model: Option<String>,
    /// The prompt's name.
    pub prompt: Option<String>,
    /// The hash of the prompt's text.
    pub prompt_version: Option<String>,
    /// What the prompt was given; secrets in it are stored sealed.
    pub inputs: Value,
    pub output: String,
    /// What the output means, where it has structure.
    pub value: Value,
    /// Tokens by kind.
    pub usage: Value,
    /// What it cost; nothing where that is not known, which is never zero.
    pub cost: Option<Decimal>,
    pub unit: Option<String>,
    pub tags: Vec<String>,
}

/// The text of a document as the index has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Indexed {
    /// Its terms, each once, and how often each is in it.
    pub terms: Vec<(String, u32)>,
    /// The model that made the vector, and the vector.
    pub vector: Option<(String, Vec<f32>)>,
}

/// Which generations to list; newest first.
#[derive(Clone, Debug, Default)]
pub struct GenerationFilter {
    pub kinds: Vec<String>,
    pub topic: Option<String>,
    pub pipeline: Option<String>,
    /// All of these.
    pub tags: Vec<String>,
    /// Made at this moment or later.
    pub since: Option<Timestamp>,
    /// The beginning of the id, in any case.
    pub id_prefix: Option<String>,
    /// At most so many; all when there is no limit.
    pub limit: Option<u32>,
}

/// The figures of all documents together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    pub documents: u64,
    /// All their terms together.
    pub terms: u64,
}

/// A document that has a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    pub generation: String,
    /// How often the term is in it.
    pub times: u32,
    /// How many terms it has.
    pub terms: u32,
}

const COLUMNS: &str = "id, made_at, run_id, path, part, pipeline, kind, topic, connection, model, prompt, prompt_version, \
                       inputs, output, value, tokens, cost, unit, tags";

/// Returns the id of what a step run generates: the same whenever it is performed again.
#[must_use]
pub fn generation_id(run: RunId, path: &StepPath, part: &str) -> String {
    RunId::child_of(run, &format!("{path}/generation/{part}")).to_string()
}

impl Store {
    /// Keeps a generation with its index; one of the same id is replaced, because what was performed last is what the run
    /// goes on with.
    ///
    /// # Errors
    /// The store's, here and below.
    pub async fn put_generation(&self, record: &GenerationRecord, indexed: &Indexed) -> Result<(), Error> {
        const PUT: &str = "INSERT INTO generations (id, made_at, run_id, path, part, pipeline, kind, topic, connection, \
                           model, prompt, prompt_version, inputs, output, value, tokens, cost, unit, tags, terms) VALUES \
                           ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) \
                           ON CONFLICT (id) DO UPDATE SET made_at = excluded.made_at, kind = excluded.kind, \
                           topic = excluded.topic, connection = excluded.connection, model = excluded.model, \
                           prompt = excluded.prompt, prompt_version = excluded.prompt_version, \
                           inputs = excluded.inputs, output = excluded.output, value = excluded.value, \
                           tokens = excluded.tokens, cost = excluded.cost, unit = excluded.unit, \
                           tags = excluded.tags, terms = excluded.terms";
        const TERMS: &str = "INSERT INTO generation_terms (term, generation, times, terms) VALUES ";
        const VECTOR: &str = "INSERT INTO generation_vectors (generation, model, vector) VALUES ($1, $2, $3)";
        let length: i64 = indexed.terms.iter().map(|(_, times)| i64::from(*times)).sum();
        let inputs = self.encode(&record.inputs).await?;
        let output = self.encode(&Value::from(record.output.as_str())).await?;
        let value = self.encode(&record.value).await?;
        let usage = self.encode(&record.usage).await?;
        let id = record.id.as_str();
        let mut batch = Batch::default();
        batch.push(
            PUT,
            args![
                id,
                record.at.micros(),
                record.run.to_string(),
                record.path.to_string(),
                record.part.as_str(),
                &*record.pipeline,
                record.kind.as_str(),
                record.topic.as_deref(),
                record.connection.as_deref(),
                record.model.as_deref(),
                record.prompt.as_deref(),
                record.prompt_version.as_deref(),
                inputs,
                output,
                value,
                usage,
                record.cost.map(|cost| cost.to_string()),
                record.unit.as_deref(),
                json(&record.tags),
                length,
            ],
        );
        batch.push("DELETE FROM generation_terms WHERE generation = $1", args![id]);
        batch.push("DELETE FROM generation_vectors WHERE generation = $1", args![id]);
        // In one order for all: two that write at once do not lock each other out.
        let mut terms: Vec<_> = indexed.terms.iter().collect();
        terms.sort();
        let terms = terms.into_iter().map(|(term, times)| args![term.as_str(), id, i64::from(*times), length]);
        batch.push_rows(TERMS, terms.collect(), " ON CONFLICT DO NOTHING");
        if let Some((model, vector)) = &indexed.vector {
            batch.push(VECTOR, args![id, model.as_str(), written(vector)]);
        }
        self.apply(batch).await?.map_err(|error| self.place().error(error))
    }

    /// Lists generations.
    pub async fn generations(&self, filter: &GenerationFilter) -> Result<Vec<GenerationRecord>, Error> {
        let mut args: Vec<Arg> = Vec::new();
        let Some(condition) = self.generation_condition(filter, &mut args) else { return Ok(Vec::new()) };
        let mut sql = format!("SELECT {COLUMNS} FROM generations WHERE {condition} ORDER BY made_at DESC, id DESC");
        if let Some(limit) = filter.limit {
            args.push(i64::from(limit).into());
            sql.push_str(&format!(" LIMIT ${}", args.len()));
        }
        let rows = self.fetch(sql, args).await?;
        rows.iter().map(|row| self.generation_record(row)).collect()
    }

    /// Lists the ids of the generations that a filter lets through; its limit does not count.
    pub async fn generation_ids(&self, filter: &GenerationFilter) -> Result<Vec<String>, Error> {
        let mut args: Vec<Arg> = Vec::new();
        let Some(condition) = self.generation_condition(filter, &mut args) else { return Ok(Vec::new()) };
        // One row: so many small ones would cost more than what is in them.
        let rows = self.fetch(format!("SELECT string_agg(id, ',') FROM generations WHERE {condition}"), args).await?;
        let ids = rows.first().map(|row| row.optional_text(0)).transpose()?.flatten().unwrap_or_default();
        Ok(ids.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect())
    }

    fn generation_condition(&self, filter: &GenerationFilter, args: &mut Vec<Arg>) -> Option<String> {
        let mut bind = |arg: Arg| {
            args.push(arg);
            format!("${}", args.len())
        };
        let mut sql = "1 = 1".to_owned();
        if !filter.kinds.is_empty() {
            let places: Vec<String> = filter.kinds.iter().map(|kind| bind(kind.as_str().into())).collect();
            sql.push_str(&format!(" AND kind IN ({})", places.join(", ")));
        }
        for (column, wanted) in [("topic", &filter.topic), ("pipeline", &filter.pipeline)] {
            if let Some(wanted) = wanted {
                sql.push_str(&format!(" AND {column} = {}", bind(wanted.as_str().into())));
            }
        }
        let find = if self.is_postgres() { "strpos" } else { "instr" };
        for tag in &filter.tags {
            // Tags are stored as a list in JSON, each in its quotes.
            sql.push_str(&format!(" AND {find}(tags, {}) > 0", bind(json(tag).into())));
        }
        if let Some(since) = filter.since {
            sql.push_str(&format!(" AND made_at >= {}", bind(since.micros().into())));
        }
        if let Some(prefix) = &filter.id_prefix {
            let (first, last) = ids_from_to(prefix)?;
            let (first, last) = (bind(first.into()), bind(last.into()));
            sql.push_str(&format!(" AND id BETWEEN {first} AND {last}"));
        }
        Some(sql)
    }

    /// Returns generations by their ids, in the order of the ids; what is not there is left out.
    pub async fn generations_by_id(&self, ids: &[String]) -> Result<Vec<GenerationRecord>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (places, args) = places(ids.iter().map(String::as_str));
        let rows = self.fetch(format!("SELECT {COLUMNS} FROM generations WHERE id IN ({places})"), args).await?;
        let mut found = HashMap::new();
        for row in &rows {
            let record = self.generation_record(row)?;
            found.insert(record.id.clone(), record);
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// Returns the figures of all documents together.
    pub async fn collection(&self) -> Result<Collection, Error> {
        const ALL: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(terms), 0) AS BIGINT) FROM generations";
        let rows = self.fetch(ALL, args![]).await?;
        let Some(row) = rows.first() else { return Ok(Collection::default()) };
        Ok(Collection { documents: row.int(0)?.unsigned_abs(), terms: row.int(1)?.unsigned_abs() })
    }

    /// Counts the documents that have each of some terms; terms that none has are left out.
    pub async fn term_counts(&self, terms: &[String]) -> Result<Vec<(String, u64)>, Error> {
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        let (places, args) = places(terms.iter().map(String::as_str));
        let sql =
            format!("SELECT term, COUNT(*) FROM generation_terms WHERE term IN ({places}) GROUP BY term ORDER BY term");
        let rows = self.fetch(sql, args).await?;
        rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?.unsigned_abs()))).collect()
    }

    /// Returns the documents that have each of some terms.
    pub async fn postings(&self, terms: &[String]) -> Result<Vec<(String, Vec<Posting>)>, Error> {
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        let (places, args) = places(terms.iter().map(String::as_str));
        // A row for each term: the documents of a common one are thousands.
        let sql = format!(
            "SELECT term, string_agg(generation || ' ' || times || ' ' || terms, ',') FROM generation_terms \
             WHERE term IN ({places}) GROUP BY term ORDER BY term"
        );
        let rows = self.fetch(sql, args).await?;
        let damaged =
            || Error::Damaged { what: "the index of generations".to_owned(), reason: "no posting".to_owned() };
        let posting = |text: &str| {
            let mut parts = text.split(' ');
            let mut next = || parts.next().ok_or_else(damaged);
            let generation = next()?.to_owned();
            let times = next()?.parse().map_err(|_| damaged())?;
            Ok(Posting { generation, times, terms: next()?.parse().map_err(|_| damaged())? })
        };
        rows.iter()
            .map(|row| {
                let postings: Result<Vec<_>, Error> = row.text(1)?.split(',').map(posting).collect();
                Ok((row.text(0)?.to_owned(), postings?))
            })
            .collect()
    }

    /// Returns the vectors of a model: those of `these`, and of the `newest` of all.
    pub async fn vectors(&self, model: &str, these: &[String], newest: u32) -> Result<Vec<(String, Vec<f32>)>, Error> {
        const NEWEST: &str = "SELECT generation, vector FROM generation_vectors WHERE model = $1 \
                              ORDER BY generation DESC LIMIT $2";
        let mut rows = self.fetch(NEWEST, args![model, i64::from(newest)]).await?;
        if !these.is_empty() {
            let (list, mut args) = places(these.iter().map(String::as_str));
            args.push(model.into());
            let sql = format!(
                "SELECT generation, vector FROM generation_vectors WHERE generation IN ({list}) AND model = ${}",
                args.len()
            );
            rows.extend(self.fetch(sql, args).await?);
        }
        let mut found = HashMap::new();
        for row in &rows {
            let generation = row.text(0)?;
            if !found.contains_key(generation) {
                let vector = read(row.text(1)?).ok_or_else(|| Error::Damaged {
                    what: format!("the vector of generation {generation}"),
                    reason: "it is no list of numbers".to_owned(),
                })?;
                found.insert(generation.to_owned(), vector);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Removes generations that were made before a moment, with what the index has of them, a bounded number. Returns how
    /// many.
    pub async fn remove_generations(&self, before: Timestamp, most: u32) -> Result<u64, Error> {
        const OLD: &str = "SELECT id FROM generations WHERE made_at < $1 ORDER BY made_at LIMIT $2";
        let rows = self.fetch(OLD, args![before.micros(), i64::from(most)]).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let ids: Vec<&str> = rows.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
        let (list, args) = places(ids.iter().copied());
        let mut batch = Batch::default();
        batch.push(format!("DELETE FROM generation_terms WHERE generation IN ({list})"), args.clone());
        batch.push(format!("DELETE FROM generation_vectors WHERE generation IN ({list})"), args.clone());
        batch.push(format!("DELETE FROM generations WHERE id IN ({list})"), args);
        batch.vary();
        self.apply(batch).await?.map_err(|error| self.place().error(error))?;
        Ok(rows.len() as u64)
    }

    fn generation_record(&self, row: &Row) -> Result<GenerationRecord, Error> {
        let id = row.text(0)?.to_owned();
        let what = format!("generation {id}");
        let damaged = |reason: String| Error::Damaged { what: what.clone(), reason };
        let text = |column: usize| row.optional_text(column).map(|text| text.map(str::to_owned));
        let cost = row.optional_text(16)?.map(Decimal::from_str_exact).transpose();
        Ok(GenerationRecord {
            at: Timestamp(row.int(1)?),
            run: row.parsed(2)?,
            path: row.parsed(3)?,
            part: row.text(4)?.to_owned(),
            pipeline: row.text(5)?.into(),
            kind: row.text(6)?.to_owned(),
            topic: text(7)?,
            connection: text(8)?,
            model: text(9)?,
            prompt: text(10)?,
            prompt_version: text(11)?,
            inputs: self.codec().decode(row.text(12)?, &what)?,
            output: self.codec().decode(row.text(13)?, &what)?.to_text(),
            value: self.codec().decode(row.text(14)?, &what)?,
            usage: self.codec().decode(row.text(15)?, &what)?,
            cost: cost.map_err(|error| damaged(error.to_string()))?,
            unit: text(17)?,
            tags: serde_json::from_str(row.text(18)?).map_err(|error| damaged(error.to_string()))?,
            id,
        })
    }
}

/// Returns placeholders for a list, and its arguments.
pub(super) fn places<'t>(texts: impl Iterator<Item = &'t str>) -> (String, Vec<Arg>) {
    let args: Vec<Arg> = texts.map(Arg::from).collect();
    let places: Vec<String> = (1..=args.len()).map(|number| format!("${number}")).collect();
    (places.join(", "), args)
}

/// Writes what is JSON by its type.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts, and lists and maps of them, are JSON")
}

fn written(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

fn read(text: &str) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(text).ok()?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
