//! Files that no row names any more.
//!
//! Nothing counts references: whoever collects reads all that can name a file, and finds what nothing names. A file that
//! is young is left alone, because a transaction may be about to name it; an old one that is put once more becomes young.
//! What nobody names is put aside first, and goes when the next collection finds nobody either: a value that wandered
//! from one row to another meanwhile, and was seen in neither, is found then, and the file is put back.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration as StdDuration;
use std::time::SystemTime;

use super::Arg;
use super::Error;
use super::Row;
use super::Store;
use super::blobs::ASIDE;
use super::blobs::Blobs;
use super::blobs::PREFIX;
use super::blobs::aside;
use super::blobs::failed;
use super::blobs::file_of;
use super::blobs::is_digest;
use super::db::args;
use super::encode::Codec;
use crate::model::Timestamp;
use crate::system::outside;

/// What a collection came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Files that are gone now, temporary ones among them.
    pub files: u64,
    pub bytes: u64,
    /// Files that nobody seems to name; they go next time.
    pub aside: u64,
    /// All files that remain, and their bytes.
    pub kept: u64,
    pub kept_bytes: u64,
}

/// A table whose rows can name files: its key and the columns with values.
struct Holder {
    table: &'static str,
    key: &'static str,
    /// The second part of the key, a number.
    number: Option<&'static str>,
    values: &'static [&'static str],
}

/// In this order: a value wanders from earlier ones to later ones only.
const HOLDERS: &[Holder] = &[
    Holder { table: "cache", key: "cache_key", number: None, values: &["output"] },
    Holder { table: "streams", key: "stream_key", number: None, values: &["state"] },
    Holder { table: "dataset_pages", key: "dataset_id", number: Some("first_row"), values: &["page"] },
    Holder { table: "generations", key: "id", number: None, values: &["inputs", "output", "value", "tokens"] },
    Holder { table: "posts", key: "id", number: None, values: &["post"] },
    Holder { table: "post_metrics", key: "post", number: Some("measured_at"), values: &["raw"] },
    Holder { table: "votes", key: "approval", number: None, values: &["form"] },
    Holder { table: "inbox", key: "run_id", number: Some("number"), values: &["payload"] },
    Holder { table: "runs", key: "id", number: None, values: &["inputs", "outputs"] },
    Holder { table: "journal", key: "run_id", number: Some("seq"), values: &["events"] },
];

/// So many rows are looked through by one statement.
const ROWS: i64 = 1_000;
/// So many files are looked for in one pass over the rows.
const FILES: usize = 200_000;
/// What is in the store's own form before a sealed text, and before the address of a large value.
const SEALED: &str = "[\"sealed\",";
const BIG: &str = "[\"big\",\"";

/// A file that may be garbage.
#[derive(Debug)]
struct Candidate {
    path: PathBuf,
    bytes: u64,
    /// Put aside, and when.
    aside: Option<SystemTime>,
    named: bool,
}

/// Files by the digits of their addresses.
type Candidates = HashMap<String, Candidate>;

impl Store {
    /// Puts files aside that are older than `age` and that no row names, and removes those that were put aside longer ago
    /// than that and are named by none still.
    ///
    /// # Errors
    /// The store's, those of the folder, and `NoMasterKey` where sealed values cannot be looked into: nothing is removed
    /// then.
    pub async fn collect_garbage(&self, now: Timestamp, age: crate::model::Duration) -> Result<Garbage, Error> {
        let Blobs::Folder(folder) = &self.codec().blobs else { return Ok(Garbage::default()) };
        let (folder, mut garbage) = (folder.clone(), Garbage::default());
        let now = moment(now);
        let before = now.checked_sub(age.to_std()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut shelves = fs_task(move || shelves(&folder)).await?;
        while !shelves.is_empty() {
            let (candidates, rest, seen) = fs_task(move || candidates(shelves, before)).await?;
            shelves = rest;
            garbage = garbage.and(seen);
            if candidates.is_empty() {
                continue;
            }
            let candidates = self.look_through(candidates).await?;
            let swept = fs_task(move || sweep(candidates, now, before)).await?;
            garbage = garbage.and(swept);
        }
        Ok(garbage)
    }

    /// Notes which files are named by a row, or by a large value that a row names.
    async fn look_through(&self, mut candidates: Candidates) -> Result<Candidates, Error> {
        for holder in HOLDERS {
            let mut after = (String::new(), i64::MIN);
            while let Some((upto, texts)) = self.some_values(holder, &after).await? {
                after = upto;
                if texts.is_empty() {
                    continue;
                }
                let shared = self.0.shared.clone();
                candidates = fs_task(move || {
                    for text in &texts {
                        note(text, &shared.codec, &mut candidates)?;
                    }
                    Ok(candidates)
                })
                .await?;
            }
        }
        Ok(candidates)
    }

    /// Reads what the next rows of a table hold that can name a file; nothing when there are no more rows.
    async fn some_values(
        &self,
        holder: &Holder,
        (key, number): &(String, i64),
    ) -> Result<Option<((String, i64), Vec<String>)>, Error> {
        let table = holder.table;
        let (keys, order, behind) = match holder.number {
            Some(number) => {
                let keys = format!("{}, {number}", holder.key);
                (keys.clone(), keys.clone(), format!("({keys}) > ($1, $2)"))
            }
            None => {
                (format!("{}, CAST(0 AS BIGINT)", holder.key), holder.key.to_owned(), format!("{} > $1", holder.key))
            }
        };
        let args = |more: &[Arg]| {
            let mut args = args![key.as_str()];
            args.extend(holder.number.map(|_| Arg::from(*number)));
            args.extend_from_slice(more);
            args
        };
        // Where these rows end, by the key alone; then those of them that hold what is looked for.
        let place = |offset: usize| format!("${}", args(&[]).len() + offset);
        let limit = place(1);
        let last = format!("SELECT {keys} FROM {table} WHERE {behind} ORDER BY {order} LIMIT {limit}");
        let rows = self.fetch(last, args(&[Arg::from(ROWS)])).await?;
        let Some(end) = rows.last() else { return Ok(None) };
        let end: (String, i64) = (end.text(0)?.to_owned(), end.int(1)?);
        let find = if self.is_postgres() { "strpos" } else { "instr" };
        let holds: Vec<String> = holder
            .values
            .iter()
            .map(|column| format!("{find}({column}, '{PREFIX}') > 0 OR {find}({column}, '{SEALED}') > 0"))
            .collect();
        let (upto, more) = match holder.number {
            Some(_) => {
                let upto = format!("({order}) <= ({}, {})", place(1), place(2));
                (upto, vec![Arg::from(end.0.as_str()), Arg::from(end.1)])
            }
            None => (format!("{order} <= {}", place(1)), vec![Arg::from(end.0.as_str())]),
        };
        let values = format!(
            "SELECT {} FROM {table} WHERE {behind} AND {upto} AND ({})",
            holder.values.join(", "),
            holds.join(" OR ")
        );
        let rows = self.fetch(values, args(&more)).await?;
        let texts = |row: &Row| -> Result<Vec<String>, Error> {
            let texts = (0..holder.values.len()).map(|column| row.optional_text(column));
            Ok(texts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().map(str::to_owned).collect())
        };
        let texts: Vec<Vec<String>> = rows.iter().map(texts).collect::<Result<_, Error>>()?;
        Ok(Some((end, texts.into_iter().flatten().collect())))
    }
}

impl Garbage {
    fn and(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            aside: self.aside + other.aside,
            kept: self.kept + other.kept,
            kept_bytes: self.kept_bytes + other.kept_bytes,
        }
    }
}

async fn fs_task<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    outside(tokio::task::spawn_blocking(work)).await.map_err(|_| Error::Closed)?
}

fn moment(at: Timestamp) -> SystemTime {
    let length = StdDuration::from_micros(u64::try_from(at.micros()).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(length).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Lists the folders that files lie in.
fn shelves(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", folder, error)),
    };
    let mut found: Vec<PathBuf> = read.filter_map(Result::ok).map(|entry| entry.path()).collect();
    found.retain(|path| path.file_name().is_some_and(|name| name.len() == 2) && path.is_dir());
    found.sort_unstable();
    Ok(found)
}

/// Lists the files of some folders that may be garbage, and removes what a writer that died left half-written. Returns
/// the folders that are left, too.
fn candidates(mut shelves: Vec<PathBuf>, before: SystemTime) -> Result<(Candidates, Vec<PathBuf>, Garbage), Error> {
    let (mut found, mut garbage) = (Candidates::new(), Garbage::default());
    while found.len() < FILES
        && let Some(shelf) = shelves.pop()
    {
        let first = shelf.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = fs::read_dir(&shelf).map_err(|error| failed("list", &shelf, error))?;
        for entry in read.filter_map(Result::ok) {
            // What vanishes meanwhile is nobody's.
            let Ok(about) = entry.metadata() else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            let changed = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let (rest, put_aside) = match name.strip_prefix(ASIDE) {
                Some(rest) => (rest, Some(changed)),
                None => (name.as_str(), None),
            };
            let digits = format!("{first}{rest}");
            if !is_digest(&digits) {
                if name.starts_with('.') && changed < before && fs::remove_file(entry.path()).is_ok() {
                    garbage.files += 1;
                    garbage.bytes += about.len();
                }
                continue;
            }
            if put_aside.is_none() && changed >= before {
                garbage.kept += 1;
                garbage.kept_bytes += about.len();
                continue;
            }
            let path = entry.path();
            found.insert(digits, Candidate { path, bytes: about.len(), aside: put_aside, named: false });
        }
    }
    Ok((found, shelves, garbage))
}

/// Notes the files that a stored text names: itself, within what is sealed, and within large values that it names.
fn note(text: &str, codec: &Codec, candidates: &mut Candidates) -> Result<(), Error> {
    for (at, _) in text.match_indices(PREFIX) {
        let digits = text.get(at + PREFIX.len()..at + PREFIX.len() + 64).unwrap_or_default();
        let Some(candidate) = candidates.get_mut(digits) else {
            // A young one is not looked for, but what it names may be.
            if is_digest(digits) && is_big(text, at) {
                note_large(digits, codec, candidates)?;
            }
            continue;
        };
        let first = !std::mem::replace(&mut candidate.named, true);
        if first && is_big(text, at) {
            note_large(digits, codec, candidates)?;
        }
    }
    for (at, _) in text.match_indices(SEALED) {
        let rest = text.get(at + SEALED.len()..).unwrap_or_default();
        let mut parsed = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let Some(Ok(sealed)) = parsed.next() else { continue };
        let sealer = codec.sealer.as_ref().ok_or(Error::NoMasterKey)?;
        note(&sealer.unseal(&sealed).map_err(Error::Seal)?, codec, candidates)?;
    }
    Ok(())
}

fn is_big(text: &str, at: usize) -> bool {
    text.get(..at).is_some_and(|before| before.ends_with(BIG))
}

fn note_large(digits: &str, codec: &Codec, candidates: &mut Candidates) -> Result<(), Error> {
    match codec.blobs.get(&format!("{PREFIX}{digits}")) {
        Ok(bytes) => note(&String::from_utf8_lossy(&bytes), codec, candidates),
        // Its run will say so when it is read; nothing can be named by it.
        Err(Error::NoBlob { .. } | Error::Damaged { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts aside, puts back, removes.
fn sweep(candidates: Candidates, now: SystemTime, before: SystemTime) -> Result<Garbage, Error> {
    let mut garbage = Garbage::default();
    for (digits, candidate) in candidates {
        let Candidate { path, bytes, aside: put_aside, named } = candidate;
        let gone = match put_aside {
            None if named => false,
            None => {
                garbage.aside += u64::from(put(&path, now, before)?);
                false
            }
            Some(_) if named => {
                let folder = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
                let back = file_of(folder, &digits);
                fs::rename(&path, &back).map_err(|error| failed("put back", &back, error))?;
                false
            }
            Some(since) if since <= before => {
                fs::remove_file(&path).map_err(|error| failed("remove", &path, error))?;
                true
            }
            Some(_) => {
                garbage.aside += 1;
                false
            }
        };
        let (count, sum) =
            if gone { (&mut garbage.files, &mut garbage.bytes) } else { (&mut garbage.kept, &mut garbage.kept_bytes) };
        *count += 1;
        *sum += bytes;
    }
    Ok(garbage)
}

/// Puts a file aside, unless somebody has just put it into the store once more. Returns whether it lies aside.
fn put(path: &Path, now: SystemTime, before: SystemTime) -> Result<bool, Error> {
    let target = aside(path);
    fs::rename(path, &target).map_err(|error| failed("put aside", path, error))?;
    let file = File::options().append(true).open(&target).map_err(|error| failed("open", &target, error))?;
    let changed = file.metadata().and_then(|about| about.modified()).unwrap_or(now);
    if changed >= before {
        fs::rename(&target, path).map_err(|error| failed("put back", path, error))?;
        return Ok(false);
    }
    file.set_modified(now).map_err(|error| failed("put aside", path, error))?;
    Ok(true)
}
