//! Finding what was written before: BM25 over the inverted index, blended with vectors where there are any.

use std::collections::HashMap;
use std::collections::HashSet;

use super::terms::terms;
use crate::store::Collection;
use crate::store::Error;
use crate::store::GenerationFilter;
use crate::store::GenerationRecord;
use crate::store::Posting;
use crate::store::Store;

/// How soon more of the same term counts no more (k1), and how much the length of a text counts (b).
const SATURATION: f64 = 1.2;
const LENGTH: f64 = 0.75;
/// Terms that more than every so manieth document has say nothing, where the query has others.
const COMMON: u64 = 2;
/// A collection that is smaller has no common terms.
const SMALL: u64 = 20;
/// So many postings are read at most, those of the rarest terms.
const MOST_POSTINGS: u64 = 20_000;
/// So many of those that words have found are compared by their vectors, and so many of the newest beside.
const NEAREST: usize = 200;
const NEWEST: u32 = 1_000;

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub text: String,
    /// The model that made the vector of the text, and the vector.
    pub vector: Option<(String, Vec<f32>)>,
    /// What may be found.
    pub filter: GenerationFilter,
    pub limit: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub generation: GenerationRecord,
    /// From 0 to 1 by words and by vectors each; only for comparing what was found together.
    pub score: f64,
}

/// Finds what is most like a text, the best first.
///
/// # Errors
/// The store's.
pub async fn search(store: &Store, query: &Query) -> Result<Vec<Found>, Error> {
    let wanted: Vec<String> = terms(&query.text).into_iter().map(|(term, _)| term).collect();
    let collection = store.collection().await?;
    let counts = store.term_counts(&wanted).await?;
    let postings = store.postings(&telling(counts, collection.documents)).await?;
    let mut scores = relative(scores(&postings, collection));
    let filter = &query.filter;
    let narrows = filter.topic.is_some()
        || filter.since.is_some()
        || filter.pipeline.is_some()
        || !filter.kinds.is_empty()
        || !filter.tags.is_empty();
    let allowed: Option<HashSet<String>> =
        if narrows { Some(store.generation_ids(filter).await?.into_iter().collect()) } else { None };
    let is_allowed = |id: &String| allowed.as_ref().is_none_or(|allowed| allowed.contains(id));
    scores.retain(|id, _| is_allowed(id));
    if let Some((model, vector)) = &query.vector {
        let nearest: Vec<String> = best(&scores).into_iter().take(NEAREST).map(|(id, _)| id).collect();
        let vectors = store.vectors(model, &nearest, NEWEST).await?;
        let near = vectors.into_iter().filter(|(id, _)| is_allowed(id));
        let near = near.map(|(id, other)| (id, cosine(vector, &other))).collect();
        scores = blended(&scores, near);
    }
    let mut ranked = best(&scores);
    ranked.truncate(query.limit);
    let ids: Vec<String> = ranked.iter().map(|(id, _)| id.clone()).collect();
    let mut records: HashMap<String, GenerationRecord> =
        store.generations_by_id(&ids).await?.into_iter().map(|record| (record.id.clone(), record)).collect();
    let found = ranked.into_iter().filter_map(|(id, score)| Some(Found { generation: records.remove(&id)?, score }));
    Ok(found.collect())
}

/// Chooses the terms that tell documents apart, the rarest first.
fn telling(mut counts: Vec<(String, u64)>, documents: u64) -> Vec<String> {
    counts.sort_by(|(one, few), (other, many)| few.cmp(many).then_with(|| one.cmp(other)));
    let (mut chosen, mut postings) = (Vec::new(), 0);
    for (term, count) in counts {
        let common = documents > SMALL && count.saturating_mul(COMMON) > documents;
        if !chosen.is_empty() && (common || postings + count > MOST_POSTINGS) {
            break;
        }
        postings += count;
        chosen.push(term);
    }
    chosen
}

/// Scores documents by the terms that they have: Okapi BM25.
fn scores(postings: &[(String, Vec<Posting>)], collection: Collection) -> HashMap<String, f64> {
    let documents = count(collection.documents.max(1));
    let average = (count(collection.terms) / documents).max(1.0);
    let mut scores: HashMap<String, f64> = HashMap::new();
    for (_, postings) in postings {
        let having = f64::from(u32::try_from(postings.len()).unwrap_or(u32::MAX));
        let rarity = (1.0 + (documents - having + 0.5).max(0.5) / (having + 0.5)).ln();
        for posting in postings {
            let times = f64::from(posting.times);
            let length = 1.0 - LENGTH + LENGTH * f64::from(posting.terms) / average;
            let score = rarity * times * (SATURATION + 1.0) / (times + SATURATION * length);
            match scores.get_mut(&posting.generation) {
                Some(sum) => *sum += score,
                None => {
                    scores.insert(posting.generation.clone(), score);
                }
            }
        }
    }
    scores
}

/// Returns scores as parts of the best.
fn relative(mut scores: HashMap<String, f64>) -> HashMap<String, f64> {
    let most = scores.values().copied().fold(0.0, f64::max);
    if most > 0.0 {
        scores.values_mut().for_each(|score| *score /= most);
    }
    scores
}

/// Blends what words say with what vectors say: each half. What only one of them knows has nothing of the other.
fn blended(words: &HashMap<String, f64>, near: HashMap<String, f64>) -> HashMap<String, f64> {
    let mut scores: HashMap<String, f64> = words.iter().map(|(id, score)| (id.clone(), score / 2.0)).collect();
    for (id, likeness) in near.into_iter().filter(|(_, likeness)| *likeness > 0.0) {
        *scores.entry(id).or_default() += likeness / 2.0;
    }
    scores
}

/// Sorts by score, the best first; of equal ones the newer, by its id, so that the order is always the same.
fn best(scores: &HashMap<String, f64>) -> Vec<(String, f64)> {
    let mut ranked: Vec<_> = scores.iter().map(|(id, score)| (id.clone(), *score)).collect();
    ranked.sort_by(|(one, high), (other, low)| low.total_cmp(high).then_with(|| other.cmp(one)));
    ranked
}

/// Returns the cosine of the angle between two vectors; of vectors of different lengths, 0.
#[must_use]
pub fn cosine(one: &[f32], other: &[f32]) -> f64 {
    if one.len() != other.len() {
        return 0.0;
    }
    let (mut product, mut ones, mut others) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (one, other) in one.iter().zip(other) {
        let (one, other) = (f64::from(*one), f64::from(*other));
        product += one * other;
        ones += one * one;
        others += other * other;
    }
    let length = (ones * others).sqrt();
    if length > 0.0 { product / length } else { 0.0 }
}

fn count(number: u64) -> f64 {
    // A collection has fewer documents and terms than this holds.
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting(generation: &str, times: u32, terms: u32) -> Posting {
        Posting { generation: generation.to_owned(), times, terms }
    }

    #[test]
    fn a_rare_term_counts_more_than_a_common_one_and_a_short_text_more_than_a_long_one() {
        let collection = Collection { documents: 100, terms: 2_000 };
        let common: Vec<_> = (0..40).map(|number| posting(&format!("d{number}"), 1, 20)).collect();
        let rare = vec![posting("r", 1, 20)];
        let found = scores(&[("common".to_owned(), common), ("rare".to_owned(), rare)], collection);
        assert!(found["r"] > 3.0 * found["d0"]);
        let lengths =
            vec![posting("short", 1, 5), posting("long", 1, 200), posting("often", 4, 20), posting("once", 1, 20)];
        let found = scores(&[("tea".to_owned(), lengths)], collection);
        assert!(found["short"] > found["long"] && found["often"] > found["once"]);
        // However often: a term alone is bounded.
        assert!(found["often"] < (SATURATION + 1.0) * found["once"]);
    }

    #[test]
    fn common_terms_are_left_out_where_there_are_others() {
        let counts = |counts: &[(&str, u64)]| counts.iter().map(|(term, count)| ((*term).to_owned(), *count)).collect();
        assert_eq!(telling(counts(&[("the", 90), ("tea", 3)]), 100), ["tea"]);
        assert_eq!(telling(counts(&[("the", 90)]), 100), ["the"]);
        assert_eq!(telling(counts(&[("the", 9), ("tea", 3)]), 10), ["tea", "the"]);
        assert_eq!(telling(counts(&[("a", 30_000), ("b", 20_000)]), 100_000), ["b"]);
    }

    #[test]
    fn vectors_compare_by_their_angle() {
        assert!((cosine(&[1.0, 0.0], &[2.0, 0.0]) - 1.0).abs() < 1e-9);
        assert!(cosine(&[1.0, 0.0], &[0.0, 1.0]).abs() < 1e-9);
        assert!(cosine(&[1.0, 0.0], &[-1.0, 0.0]) < -0.99);
        assert!(cosine(&[1.0], &[1.0, 0.0]).abs() < 1e-9 && cosine(&[0.0], &[0.0]).abs() < 1e-9);
    }
}
