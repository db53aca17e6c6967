//! The options of a query: which rows, in which order, and how much of each.

use std::cmp::Ordering;
use std::sync::Arc;

use indexmap::IndexMap;

use super::Desk;
use super::edm::Version;
use super::expression;
use super::expression::Expression;
use super::fault::Fault;
use super::fault::Reason;
use super::filter;
use super::schema::Set;
use super::store::Store;

/// How deep entities may be expanded in each other.
const DEPTH: usize = 6;

/// What a query says of rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    filter: Option<Expression>,
    order: Vec<(Expression, bool)>,
    pub top: Option<usize>,
    skip: usize,
    /// How many of the rows went before.
    pub token: usize,
    pub count: bool,
    pub shape: Shape,
}

/// What a query says of each row.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// Everything without.
    pub select: Option<Vec<Arc<str>>>,
    pub expand: IndexMap<Arc<str>, Query>,
}

/// Rows that a query finds.
#[derive(Debug)]
pub(super) struct Page {
    pub rows: Vec<usize>,
    /// All that the filter finds.
    pub count: usize,
    /// The token of the next page.
    pub next: Option<usize>,
}

/// What the options stand behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Many,
    One,
    Count,
}

impl Query {
    /// Reads the options that begin with `$`; what others there are is the vendor's.
    pub(super) fn read(desk: &Desk<'_>, set: &Set, of: Of, options: &[(String, String)]) -> Result<Self, Fault> {
        let mut query = Self::default();
        query.take(desk, set, of, options, 0)?;
        Ok(query)
    }

    fn take(
        &mut self,
        desk: &Desk<'_>,
        set: &Set,
        of: Of,
        options: &[(String, String)],
        depth: usize,
    ) -> Result<(), Fault> {
        let version = desk.service.version;
        let find = |name: &str| set.column(name);
        let wrong = |error: String| Fault::new(Reason::Query, format!("Invalid query: {error}"));
        // What is selected of others is told when it is known which are expanded.
        let rank = |name: &str| usize::from(name == "$select");
        let mut sorted: Vec<_> = options.iter().filter(|(name, _)| name.starts_with('$')).collect();
        sorted.sort_by_key(|(name, _)| rank(name));
        for (name, text) in sorted {
            let text = text.as_str();
            match (name.as_str(), of, version) {
                ("$format", ..) if text == "json" || text.starts_with("application/json") => {}
                ("$format", ..) => {
                    return Err(Fault::new(Reason::Unsupported, format!("Format '{text}' is not supported")));
                }
                ("$expand", Of::Many | Of::One, Version::V2) => {
                    for path in text.split(',').map(str::trim).filter(|path| !path.is_empty()) {
                        self.shape.expand_path(desk, set, path, 0)?;
                    }
                }
                ("$expand", Of::Many | Of::One, Version::V4) => self.shape.expand_nested(desk, set, text, depth)?,
                ("$select", Of::Many | Of::One, _) => {
                    for path in text.split(',').map(str::trim).filter(|path| !path.is_empty()) {
                        self.shape.select_path(desk, set, path)?;
                    }
                }
                ("$filter", Of::Many | Of::Count, _) => {
                    self.filter = Some(filter::condition(text, version, &find).map_err(wrong)?);
                }
                ("$orderby", Of::Many, _) => self.order = filter::order(text, version, &find).map_err(wrong)?,
                ("$top", Of::Many | Of::Count, _) => self.top = Some(number(name, text)?),
                ("$skip", Of::Many | Of::Count, _) => self.skip = number(name, text)?,
                ("$skiptoken", Of::Many, _) => self.token = number(name, text)?,
                ("$inlinecount", Of::Many, Version::V2) if matches!(text, "allpages" | "none") => {
                    self.count = text == "allpages";
                }
                ("$count", Of::Many, Version::V4) if matches!(text, "true" | "false") => self.count = text == "true",
                ("$search", _, Version::V4) => {
                    return Err(Fault::new(Reason::Unsupported, "System query option '$search' is not supported"));
                }
                _ => {
                    let message = format!("System query option '{name}' is not allowed here, or has a wrong value");
                    return Err(Fault::new(Reason::Query, message));
                }
            }
        }
        Ok(())
    }

    /// Finds the rows of a page of this length.
    pub(super) fn page(&self, store: &Store, set: &Set, among: &[usize], length: usize) -> Page {
        let rows = store.rows(set.table);
        let fits =
            |at: &&usize| rows.get(**at).is_some_and(|row| self.filter.as_ref().is_none_or(|filter| filter.holds(row)));
        let mut found: Vec<usize> = among.iter().filter(fits).copied().collect();
        found.sort_by(|left, right| match (rows.get(*left), rows.get(*right)) {
            (Some(left), Some(right)) => expression::ordering(&self.order, left, right),
            _ => Ordering::Equal,
        });
        let count = found.len();
        let end = self.top.map_or(count, |top| self.skip.saturating_add(top).min(count));
        let start = self.skip.saturating_add(self.token).min(end);
        let rows = found.get(start..end).unwrap_or_default();
        let next = (rows.len() > length).then(|| self.token.saturating_add(length));
        Page { rows: rows.iter().take(length).copied().collect(), count, next }
    }
}

impl Shape {
    /// Tells whether a property or a navigation was asked for.
    pub(super) fn selects(&self, name: &str) -> bool {
        self.select.as_ref().is_none_or(|select| select.iter().any(|own| &**own == name))
    }

    /// V2: `to_Item/to_SalesOrder`.
    fn expand_path(&mut self, desk: &Desk<'_>, set: &Set, path: &str, depth: usize) -> Result<(), Fault> {
        let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (inner, to) = self.enter(desk, set, first)?;
        match rest {
            Some(_) if depth >= DEPTH => Err(Fault::new(Reason::Query, "Expanded too deep")),
            Some(rest) => inner.shape.expand_path(desk, to, rest, depth + 1),
            None => Ok(()),
        }
    }

    /// V4: `_Item($select=Product;$filter=…)`.
    fn expand_nested(&mut self, desk: &Desk<'_>, set: &Set, text: &str, depth: usize) -> Result<(), Fault> {
        if depth >= DEPTH {
            return Err(Fault::new(Reason::Query, "Expanded too deep"));
        }
        for part in filter::parts(text, ',') {
            let (name, options) = match part.trim().split_once('(') {
                Some((name, rest)) => (name, rest.strip_suffix(')').unwrap_or(rest)),
                None => (part.trim(), ""),
            };
            let options = filter::parts(options, ';').into_iter().filter(|option| !option.trim().is_empty());
            let options: Vec<(String, String)> = options
                .map(|option| option.trim().split_once('=').unwrap_or((option, "")))
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .collect();
            let many = set.navigations.get(name).is_some_and(|navigation| navigation.many);
            let (inner, to) = self.enter(desk, set, name)?;
            inner.take(desk, to, if many { Of::Many } else { Of::One }, &options, depth + 1)?;
        }
        Ok(())
    }

    fn enter<'a>(&mut self, desk: &Desk<'a>, set: &Set, name: &str) -> Result<(&mut Query, &'a Set), Fault> {
        let unknown =
            || Fault::new(Reason::Query, format!("Navigation property '{name}' is not found in '{}'", set.type_name));
        let (name, navigation) = set.navigations.get_key_value(name).ok_or_else(unknown)?;
        let to = desk.set(&navigation.set)?;
        Ok((self.expand.entry(name.clone()).or_default(), to))
    }

    fn select_path(&mut self, desk: &Desk<'_>, set: &Set, path: &str) -> Result<(), Fault> {
        let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let select = self.select.get_or_insert_default();
        if path == "*" {
            select.extend(set.properties.keys().cloned());
            return Ok(());
        }
        let property = set.properties.get_key_value(first).map(|(name, _)| name).filter(|_| rest.is_none());
        let navigation = set.navigations.get_key_value(first);
        let known = property.or(navigation.map(|(name, _)| name));
        let known = known.ok_or_else(|| {
            Fault::new(Reason::Query, format!("Property '{first}' is not found in type '{}'", set.type_name))
        })?;
        select.push(known.clone());
        if let (Some(rest), Some((_, navigation))) = (rest, navigation) {
            let to = desk.set(&navigation.set)?;
            if let Some(inner) = self.expand.get_mut(first) {
                return inner.shape.select_path(desk, to, rest);
            }
            return Err(Fault::new(Reason::Query, format!("'{first}' is selected from, but not expanded")));
        }
        Ok(())
    }
}

fn number(name: &str, text: &str) -> Result<usize, Fault> {
    let message = || format!("System query option '{name}' has the wrong value '{text}'");
    text.parse().map_err(|_| Fault::new(Reason::Query, message()))
}
