//! What goes wrong in the sandbox when it is asked for: `429=0.2`, `x:drop-after-send=#2`, `expire-tokens=30s`.

use std::str::FromStr;

use crate::diag::did_you_mean;
use crate::model::Duration;

/// Something that goes wrong, where, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A connector, or one of its stand-ins.
    pub stand: Option<String>,
    pub operation: Option<String>,
    pub kind: Kind,
    pub when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request does nothing, and this is the answer.
    Status(u16),
    /// No connection comes about: the client knows that nothing was sent.
    Refuse,
    /// The request does not arrive, and the client cannot know.
    DropBeforeSend,
    /// The request arrives and works; its answer is lost.
    DropAfterSend,
    /// The answer takes so long.
    Delay(Duration),
    /// Access tokens serve no longer than this.
    ExpireTokens(Duration),
    /// The access token that the request shows has just expired.
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// So often in a million requests.
    Chance(u32),
    /// At this request, counted from 1.
    Nth(u64),
    /// At the first request for this page, counted from 1: so many were answered before.
    Page(u64),
}

/// The words for what may go wrong beside a status.
pub const KINDS: &[&str] = &["refuse", "drop-before-send", "drop-after-send", "delay", "expire-tokens", "expired"];

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scope, rest) = match text.split_once(':') {
            Some((scope, rest)) => (Some(scope), rest),
            None => (None, text),
        };
        let (stand, operation) = match scope.map(|scope| scope.split_once('.').unwrap_or((scope, ""))) {
            Some((stand, operation)) => {
                (Some(stand.to_owned()), Some(operation.to_owned()).filter(|name| !name.is_empty()))
            }
            None => (None, None),
        };
        let (word, value) = rest.split_once('=').map_or((rest, None), |(word, value)| (word, Some(value)));
        let length = || -> Result<Duration, String> {
            let value = value.ok_or_else(|| format!("`{word}` needs a length of time: `{word}=30s`"))?;
            value.parse().map_err(|error: crate::model::ParseDurationError| error.to_string())
        };
        let (kind, when) = match word {
            "refuse" => (Kind::Refuse, when(value)?),
            "drop-before-send" => (Kind::DropBeforeSend, when(value)?),
            "drop-after-send" => (Kind::DropAfterSend, when(value)?),
            "expired" => (Kind::Expired, when(value)?),
            "delay" => (Kind::Delay(length()?), When::Always),
            "expire-tokens" => (Kind::ExpireTokens(length()?), When::Always),
            status => match status.parse().ok().filter(|status| (400..600).contains(status)) {
                Some(status) => (Kind::Status(status), when(value)?),
                None => {
                    let near = did_you_mean(word, KINDS.iter().copied());
                    let near = near.map(|near| format!("did you mean `{near}`?"));
                    let all = || format!("there are a status from 400 to 599, `{}`", KINDS.join("`, `"));
                    return Err(format!("there is no fault `{word}`; {}", near.unwrap_or_else(all)));
                }
            },
        };
        Ok(Self { stand, operation, kind, when })
    }
}

fn when(value: Option<&str>) -> Result<When, String> {
    let Some(value) = value else { return Ok(When::Always) };
    let wrong = || format!("`{value}`: expected a share such as `0.2`, a request such as `#3`, or a page such as `@2`");
    let counted = |number: &str| number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong);
    if let Some(number) = value.strip_prefix('#') {
        return counted(number).map(When::Nth);
    }
    if let Some(number) = value.strip_prefix('@') {
        return counted(number).map(When::Page);
    }
    let share: rust_decimal::Decimal = value.parse().map_err(|_| wrong())?;
    let millionths = (share * rust_decimal::Decimal::from(1_000_000)).trunc();
    let millionths = u32::try_from(millionths).ok().filter(|share| *share <= 1_000_000);
    millionths.map(When::Chance).ok_or_else(wrong)
}

/// Faults at work.
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<Working>);

/// A fault, and what it has seen.
#[derive(Clone, Debug)]
struct Working {
    fault: Fault,
    /// How many requests it could have struck.
    seen: u64,
    /// How many of them nothing was wrong with.
    passed: u64,
    /// How often it came.
    struck: u64,
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Of `Status`, `Refuse` and the drops the first that is due.
    pub kind: Option<Kind>,
    pub delay: Option<Duration>,
}

impl Faults {
    #[must_use]
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self(faults.into_iter().map(|fault| Working { fault, seen: 0, passed: 0, struck: 0 }).collect())
    }

    /// Tells of each fault, in the order in which they were given, how many requests it could have struck, and how many it
    /// did.
    pub fn told(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|working| (working.seen, working.struck))
    }

    /// Returns how long tokens of a stand-in serve, where it was asked for.
    #[must_use]
    pub fn token_lifetime(&self, names: &[&str]) -> Option<Duration> {
        self.0.iter().find_map(|Working { fault, .. }| match fault.kind {
            Kind::ExpireTokens(length) if fault.is_of(names) => Some(length),
            _ => None,
        })
    }

    /// Decides what goes wrong with a request; `names` are those of the stand-in and its connector.
    pub fn decide(&mut self, names: &[&str], operation: Option<&str>, random: &mut fastrand::Rng) -> Trouble {
        let mut trouble = Trouble::default();
        let is_meant = |fault: &Fault| {
            fault.is_of(names) && (fault.operation.is_none() || fault.operation.as_deref() == operation)
        };
        for working in self.0.iter_mut().filter(|working| is_meant(&working.fault)) {
            working.seen += 1;
            let due = match working.fault.when {
                When::Always => true,
                When::Chance(millionths) => random.u32(..1_000_000) < millionths,
                When::Nth(number) => working.seen == number,
                When::Page(number) => working.passed + 1 == number && working.struck == 0,
            };
            if !due {
                continue;
            }
            working.struck += 1;
            match working.fault.kind {
                Kind::Delay(length) => trouble.delay = Some(length),
                Kind::ExpireTokens(_) => {}
                kind => trouble.kind = trouble.kind.or(Some(kind)),
            }
        }
        if trouble.kind.is_none() {
            self.0.iter_mut().filter(|working| is_meant(&working.fault)).for_each(|working| working.passed += 1);
        }
        trouble
    }
}

impl Fault {
    fn is_of(&self, names: &[&str]) -> bool {
        self.stand.as_deref().is_none_or(|own| names.contains(&own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_wrong_ones_are_told() {
        let read = |text: &str| text.parse::<Fault>();
        let fault = read("x.create_post:429=#3").unwrap();
        assert_eq!(
            (fault.stand.as_deref(), fault.operation.as_deref(), fault.kind, fault.when),
            (Some("x"), Some("create_post"), Kind::Status(429), When::Nth(3))
        );
        assert_eq!(read("x.list_posts:503=@2").unwrap().when, When::Page(2));
        assert_eq!(read("x:expired=#1").unwrap().kind, Kind::Expired);
        assert_eq!(read("drop-after-send=0.05").unwrap().when, When::Chance(50_000));
        assert_eq!(read("503").unwrap().when, When::Always);
        assert_eq!(read("x:expire-tokens=30s").unwrap().kind, Kind::ExpireTokens(Duration::from_secs(30)));
        for (text, part) in [
            ("drop-after-sent=1", "did you mean `drop-after-send`?"),
            ("200=0.1", "there is no fault `200`"),
            ("429=2", "expected a share"),
            ("429=-0.1", "expected a share"),
            ("429=#0", "expected a share"),
            ("delay", "needs a length of time"),
            ("expire-tokens=soon", "expected a duration"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_page_fails_once_and_every_fault_tells_how_often_it_came() {
        let mut faults = Faults::new(["x.list:503=@2".parse().unwrap(), "x:429=#9".parse().unwrap()]);
        let mut random = fastrand::Rng::with_seed(1);
        let kinds: Vec<_> = (0..4).map(|_| faults.decide(&["x"], Some("list"), &mut random).kind).collect();
        assert_eq!(kinds, [None, Some(Kind::Status(503)), None, None]);
        assert_eq!(faults.told().collect::<Vec<_>>(), [(4, 1), (4, 0)]);
    }

    #[test]
    fn the_same_seed_goes_wrong_at_the_same_requests() {
        let decide = || {
            let mut faults = Faults::new(["x:429=0.5".parse().unwrap(), "drop-after-send=#2".parse().unwrap()]);
            let mut random = fastrand::Rng::with_seed(7);
            (0..20).map(|_| faults.decide(&["x"], None, &mut random).kind).collect::<Vec<_>>()
        };
        assert_eq!(decide(), decide());
        let drawn = decide();
        assert!(drawn.contains(&Some(Kind::Status(429))) && drawn.contains(&None));
        let mut others = Faults::new(["x:429".parse().unwrap()]);
        assert_eq!(others.decide(&["sap"], None, &mut fastrand::Rng::with_seed(1)), Trouble::default());
    }
}
