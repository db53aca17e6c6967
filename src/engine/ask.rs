//! Step runs that ask something of the world outside, and what ends them: an answer in the inbox, or the time.

use std::sync::Arc;

use super::driver::Driver;
use super::finish::Done;
use super::machine::UnitKey;
use crate::model::Answer;
use crate::model::Ask;
use crate::model::AskId;
use crate::model::Lapse;
use crate::model::Timestamp;
use crate::model::Value;
use crate::store::Lapsed;

impl Driver {
    /// A node asks: its step run sleeps. With the event, what is asked becomes visible, and all before it is durable.
    pub(super) fn ask_outside(
        &mut self,
        key: UnitKey,
        kind: &'static str,
        request: Value,
        reason: &str,
        lapse: Option<Lapse>,
    ) {
        let reason: Arc<str> = self.parts().secrets.mask(reason.to_owned()).into();
        let id = AskId(self.parts().system.run_id().to_string().into());
        let request = self.parts().secrets.scan(request);
        let lapse = lapse.map(|lapse| Lapse { answer: self.shown(lapse.answer), ..lapse });
        self.machine.ask(key, Ask { id, kind: kind.into(), request, reason, lapse }, self.now());
        self.flush();
    }

    /// Asks the store whether what lapses now was answered before: one of the two wins, and no process but this asks.
    pub(super) fn lapse(&mut self, key: UnitKey, now: Timestamp) {
        let Some((_, ask)) = self.machine.asks(key) else { return };
        if ask.lapse.as_ref().is_none_or(|lapse| lapse.at > now) {
            return self.machine.doze(key);
        }
        let (ask, run, fence) = (ask.clone(), self.run, self.fence);
        let (store, journal) = (self.parts().store.clone(), self.journal.clone());
        self.jobs.spawn(async move {
            // Where it was asked just now, its row is there with the event.
            if let Err(error) = journal.commit().await {
                return (key, Done::Failed(error));
            }
            let lapsed = store.lapse(&ask, run, fence).await;
            (key, Done::Lapsed(ask.id, lapsed))
        });
    }

    pub(super) fn lapsed(&mut self, key: UnitKey, id: &AskId, lapsed: Lapsed) {
        // Its answer may have been read meanwhile.
        let Some((_, ask)) = self.machine.asks(key).filter(|(_, ask)| ask.id == *id) else { return };
        let answer = match lapsed {
            Lapsed::Yes => ask.lapse.clone().map(|lapse| lapse.answer),
            Lapsed::Instead(answer) => Some(answer),
            Lapsed::Answered => None,
        };
        match answer {
            Some(answer) => self.answer(key, answer),
            None => self.machine.doze(key),
        }
    }

    pub(super) fn answer(&mut self, key: UnitKey, answer: Answer) {
        let asked = self.machine.asks(key).map_or_else(|| self.now(), |(asked, _)| asked);
        match self.shown(answer) {
            Ok(output) => self.got(key, asked, output),
            Err(error) => self.retry_or_give_up(key, asked, error, None),
        }
    }

    /// Masks known secrets in what an answer says.
    fn shown(&self, answer: Answer) -> Answer {
        answer.map_err(|error| self.step_error(error.class, error.message))
    }
}
