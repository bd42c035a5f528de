//! Callers that follow on responses, add to conversations, and let runs go on without them.

use chaturdata_proxy::conversation::{Base, Caller, Keep, Turn};
use chaturdata_proxy::ids::ResponseId;
use chaturdata_proxy::run::responses::Stored;
use chaturdata_proxy::run::{Error, RunEvent};
use chaturdata_proxy::secret::Secret;

use crate::caller::{Kind, Person};
use crate::dice::Dice;
use crate::net::wrong;
use crate::world::{Got, Process, World};

/// How a request is made of what its caller knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// The answer can be asked for by an id.
    pub kept: bool,
    /// The request names what it follows on, where it can.
    pub follows: bool,
    pub background: bool,
    /// Sooner or later the answer is not wanted any more.
    pub cancels: bool,
}

/// The longest that a run in the background is asked after.
const ASKS: usize = 400;

impl Manner {
    pub fn any(dice: &Dice) -> Self {
        let kept = dice.one_in(2);
        let background = kept && dice.one_in(3);
        Self {
            kept,
            follows: dice.one_in(2),
            background,
            cancels: background && dice.one_in(4),
        }
    }
}

impl Person {
    /// The turn as another endpoint would have it.
    pub fn in_manner(&self, turn: Turn, manner: Manner) -> Turn {
        let mut turn = turn;
        match &self.kind {
            Kind::Delta(_) if manner.follows => turn.base = Base::Conversation,
            Kind::History if manner.follows => {
                if let Some(Some(last)) = self.ids.last() {
                    turn.base = Base::Response(*last);
                    turn.history.clear();
                }
            }
            Kind::Delta(_) | Kind::History | Kind::Named(_) => {}
        }
        let secret = self.dice.secret();
        turn.keep = manner.kept.then(|| Keep {
            id: ResponseId(*secret.first_chunk().unwrap()),
            created: 1,
            model: "m".to_owned(),
            background: manner.background,
        });
        turn
    }

    /// Leaves once the run is under way, and asks for the answer later.
    pub async fn in_background(&mut self, world: &World, turn: Turn, cancels: bool) -> Got {
        let caller = turn.caller.clone();
        let process = world.process().await;
        let mut place = match process.runner.start(turn) {
            Ok(place) => place,
            Err(refused) => return Got::Told(refused.error),
        };
        let first = tokio::select! {
            biased;
            () = process.dead.given() => return Got::Cut,
            first = place.next() => first,
        };
        if let RunEvent::Failed(error) = first {
            place.delivered();
            return Got::Told(error);
        }
        let Some(id) = place.kept().map(|kept| kept.id) else {
            wrong(|| "a run in the background is not kept".to_owned());
            return Got::Over;
        };
        self.told_id = Some(id);
        place.acknowledged();
        let mut last = None;
        for _ in 0..ASKS {
            tokio::time::sleep(self.dice.millis(500..20_000)).await;
            let process = world.process().await;
            if cancels && self.dice.one_in(2) {
                return cancel(&process, &caller, id).await;
            }
            let Some(stored) = process.runner.response(&caller, id) else {
                if !world.excused.get() && !world.let_go.get() {
                    wrong(|| format!("a run in the background is lost: {id}"));
                }
                return Got::Over;
            };
            let ended = tokio::select! {
                biased;
                () = process.dead.given() => continue,
                ended = looked_at(stored) => ended,
            };
            match ended {
                Some(Ok(answer)) => return Got::Answers(vec![answer]),
                Some(Err(error)) if error.stands() => return Got::Over,
                Some(Err(Error::NoResponse(_) | Error::NoConversation(_))) => return Got::Over,
                // A restart came between, and its message is nowhere: it has failed.
                Some(Err(Error::Upstream { .. })) => return Got::Over,
                Some(Err(error)) => last = Some(error),
                None => last = None,
            }
        }
        wrong(|| format!("a run in the background never ends: {id}, {last:?}"));
        Got::Over
    }

    /// What was answered is found again, by its caller alone, and as it was told.
    pub async fn finds(&self, world: &World, id: ResponseId, answer: &str) {
        let process = world.process().await;
        let caller = |key: &str| Caller::of_key(&world.salt, Secret::new(key));
        let stranger = ["key-a", "key-b"].into_iter().find(|key| *key != self.key);
        if process
            .runner
            .response(&caller(stranger.unwrap()), id)
            .is_some()
        {
            wrong(|| format!("somebody else finds the response {id}"));
        }
        let Some(stored) = process.runner.response(&caller(self.key), id) else {
            if !world.excused.get() && !world.let_go.get() {
                wrong(|| format!("the response {id} is not found"));
            }
            return;
        };
        let found = tokio::select! {
            biased;
            () = process.dead.given() => return,
            found = looked_at(stored) => found,
        };
        if let Some(Ok(found)) = found
            && found != answer
        {
            wrong(|| format!("the response {id} was {answer:?}, and is {found:?}"));
        }
    }
}

async fn looked_at(mut stored: Stored) -> Option<Result<String, Error>> {
    let ended = if stored.is_recalled {
        Some(stored.subscription.answer().await)
    } else {
        stored.subscription.ended()
    };
    stored.subscription.delivered();
    ended.map(|ended| ended.map(|answer| answer.text.clone()))
}

async fn cancel(process: &Process, caller: &Caller, id: ResponseId) -> Got {
    let cancelled = tokio::select! {
        biased;
        () = process.dead.given() => return Got::Over,
        cancelled = process.runner.cancel(caller, id) => cancelled,
    };
    let stored = process.runner.response(caller, id);
    if let (Ok(()), Some(mut stored)) = (cancelled, stored)
        && stored.subscription.ended().is_none()
        && !stored.is_recalled
    {
        wrong(|| format!("{id} was cancelled and goes on"));
    }
    Got::Over
}
