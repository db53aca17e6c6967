//! Sessions: the token of writes is one with the cookies that came with it.

use super::settings::Csrf;
use crate::model::Timestamp;
use crate::sandbox::family::Moment;

/// More than these nobody has; the oldest are ended.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Vec<Session>,
}

#[derive(Debug)]
struct Session {
    token: String,
    cookies: Vec<(String, String)>,
    used: Timestamp,
    writes: u32,
}

impl Sessions {
    /// Gives a token: the one of the session that the cookies name, or that of a new one, with its cookies.
    pub(super) fn fetch(&mut self, csrf: &Csrf, cookies: Option<&str>, moment: &mut Moment) -> Vec<(String, String)> {
        self.end(csrf, moment.now);
        let given = pairs(cookies);
        if let Some(session) = self.open.iter_mut().find(|session| session.is_shown(&given)) {
            session.used = moment.now;
            return vec![(csrf.header.clone(), session.token.clone())];
        }
        let mut chance = |length: usize| -> String { (0..length).map(|_| moment.random.alphanumeric()).collect() };
        let token = format!("{}==", chance(22));
        let cookies = csrf.cookies.iter().map(|(name, value)| {
            // As it is with Base64 in a cookie: whoever decodes it sends another.
            (name.clone(), value.clone().unwrap_or_else(|| format!("{}%3d", chance(43))))
        });
        let cookies: Vec<_> = cookies.collect();
        let mut headers = vec![(csrf.header.clone(), token.clone())];
        headers.extend(
            cookies.iter().map(|(name, value)| ("set-cookie".to_owned(), format!("{name}={value}; path=/; HttpOnly"))),
        );
        if self.open.len() >= MOST {
            self.open.remove(0);
        }
        self.open.push(Session { token, cookies, used: moment.now, writes: 0 });
        headers
    }

    /// Tells whether a write may be done with this token and these cookies.
    pub(super) fn admits(&mut self, csrf: &Csrf, token: Option<&str>, cookies: Option<&str>, now: Timestamp) -> bool {
        self.end(csrf, now);
        let given = pairs(cookies);
        let fits = |session: &&mut Session| token == Some(&session.token) && session.is_shown(&given);
        let Some(session) = self.open.iter_mut().find(fits) else { return false };
        session.used = now;
        session.writes += 1;
        true
    }

    fn end(&mut self, csrf: &Csrf, now: Timestamp) {
        let spent = |session: &Session| csrf.writes.is_some_and(|most| session.writes >= most);
        self.open.retain(|session| now.since(session.used) < csrf.lifetime && !spent(session));
    }
}

impl Session {
    fn is_shown(&self, given: &[(&str, &str)]) -> bool {
        self.cookies.iter().all(|(name, value)| given.contains(&(name, value)))
    }
}

fn pairs(cookies: Option<&str>) -> Vec<(&str, &str)> {
    cookies.unwrap_or_default().split(';').filter_map(|pair| pair.trim().split_once('=')).collect()
}
