//! People who talk through the proxy: they append, edit, ask again, hang up, and try again.

use std::time::Duration;

use chaturdata_proxy::conversation::resolve::Hashes;
use chaturdata_proxy::conversation::{Base, Caller, Limits, Names, Repeat, Turn};
use chaturdata_proxy::ids::{Fingerprint, Handle, ResponseId};
use chaturdata_proxy::run::subscription::Subscription;
use chaturdata_proxy::run::{Error, RunEvent};
use chaturdata_proxy::secret::Secret;
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::forms::{self, FORMS};
use crate::messages;
use crate::net::wrong;
use crate::responses::Manner;
use crate::world::{Got, World};

/// How a caller names its conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its history alone.
    History,
    /// A handle, and the whole history.
    Named(String),
    /// A handle, and only what is new.
    Delta(String),
}

/// One caller's side of its conversation.
pub struct Person {
    pub name: String,
    pub key: &'static str,
    pub kind: Kind,
    pub dice: Dice,
    /// Prompts and answers, as it has seen them.
    pub path: Vec<String>,
    /// What it knows to be part of its conversation.
    pub known: Vec<String>,
    /// It takes answers as they are, and goes on from any of them, by whichever endpoint.
    pub is_plain: bool,
    /// By what each answer of the path can be asked for.
    pub ids: Vec<Option<ResponseId>>,
    /// What it was told last.
    pub told_id: Option<ResponseId>,
    /// The call that it was told last.
    pub call: Option<String>,
}

/// One request, to be sent as often as it takes.
#[derive(Clone)]
struct Request {
    text: String,
    stop: bool,
    keyed: bool,
    streams: bool,
    deadline: Duration,
    /// Which form the answer is to have.
    form: Option<usize>,
    /// How many answers are wanted.
    choices: u8,
    manner: Manner,
}

/// One turn that was answered, as its caller saw it.
#[derive(Clone, Debug)]
pub struct Answered {
    pub key: &'static str,
    pub delta: bool,
    pub is_plain: bool,
    /// Prompts and answers up to this one.
    pub path: Vec<String>,
    pub known: Vec<String>,
    pub answer: String,
}

/// What a caller was told of one text of its own over all its tries.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// That it was not posted.
    pub unposted: bool,
    /// Something from which it may have been posted.
    pub otherwise: bool,
}

impl Person {
    pub async fn live(mut self, world: &World) {
        for at in 0..self.dice.among(1..9) {
            sleep(match self.dice.below(3) {
                0 => Duration::ZERO,
                1 => self.dice.millis(0..3_000),
                _ => self.dice.seconds(0..40),
            })
            .await;
            let delta = matches!(self.kind, Kind::Delta(_));
            if !delta && self.dice.one_in(6) {
                let kept = self.dice.below(self.path.len() as u64 / 2 + 1) as usize;
                self.path.truncate(2 * kept);
                self.ids.truncate(kept);
            }
            let request = self.request(at);
            if !self.dice.one_in(6) {
                self.turn(world, &request, at).await;
                continue;
            }
            // Two windows on one conversation; either may be told that it is lost.
            if delta {
                self.known.clear();
            }
            let mut twin = self.twin(at);
            let other = Request {
                text: format!("words {} {at}", twin.name),
                ..request.clone()
            };
            tokio::join!(self.turn(world, &request, at), twin.turn(world, &other, at));
            if delta {
                self.known.clear();
            }
        }
    }

    fn request(&self, at: u64) -> Request {
        let own = format!("words {} {at}", self.name);
        // Equal words of a caller that shows no history are the same request, if it was cut off.
        let shared = self.dice.one_in(4) && !matches!(self.kind, Kind::Delta(_));
        // What others say too is said in the plainest way, so that it is the same.
        let is_plain = self.is_plain || shared;
        Request {
            text: if shared {
                format!("word {}", self.dice.below(2))
            } else {
                own
            },
            stop: !is_plain && self.dice.one_in(8),
            keyed: self.dice.one_in(6),
            streams: self.dice.one_in(3),
            deadline: *self.dice.pick(&[
                Duration::from_secs(20),
                Duration::from_secs(120),
                Duration::from_secs(590),
            ]),
            form: (!is_plain && self.dice.one_in(3)).then(|| self.dice.below(4) as usize),
            choices: if !is_plain && self.dice.one_in(8) {
                3
            } else {
                1
            },
            manner: if self.is_plain && !shared {
                Manner::any(&self.dice)
            } else {
                Manner::default()
            },
        }
    }

    fn twin(&self, at: u64) -> Self {
        Self {
            name: format!("{}.{at}", self.name),
            key: self.key,
            kind: self.kind.clone(),
            dice: self.dice.fork(),
            path: self.path.clone(),
            known: self.known.clone(),
            is_plain: self.is_plain,
            ids: self.ids.clone(),
            told_id: None,
            call: self.call.clone(),
        }
    }

    async fn turn(&mut self, world: &World, request: &Request, at: u64) {
        let mut insists = self.dice.one_in(2);
        for tries in 0.. {
            if tries > 80 {
                return wrong(|| format!("{:?} never ends", request.text));
            }
            let turn = self.compose(world, request, at, tries > 0 && self.dice.one_in(2));
            let patience = self.dice.one_in(4).then(|| self.dice.millis(1..20_000));
            let manner = request.manner;
            let got = if manner.background {
                self.in_background(world, turn, manner.cancels).await
            } else {
                self.ask(world, turn, request, patience).await
            };
            world.note(&self.name, &got);
            match got {
                Got::Answers(answers) => {
                    self.answered(world, request, &answers);
                    return self.looks_again(world).await;
                }
                Got::Over => return self.over(world, request),
                Got::Told(error) => {
                    self.told(world, request, &error);
                    if matches!(error, Error::NoConversation(_)) {
                        world.let_go.set(true);
                        self.known.clear();
                        return;
                    }
                    if matches!(error, Error::NotFollowable(..)) && !world.excused.get() {
                        wrong(|| format!("an answer cannot be followed on: {error}"));
                    }
                    let starts_anew = matches!(
                        error,
                        Error::NoResponse(_) | Error::OutOfSight(_) | Error::NotFollowable(..)
                    );
                    if starts_anew {
                        self.path.clear();
                        self.ids.clear();
                        return;
                    }
                    if error.stands() && !insists {
                        return;
                    }
                    insists &= !error.stands();
                    sleep(Duration::from_secs(70)).await;
                }
                Got::Gone | Got::Cut => sleep(self.dice.millis(1..5_000)).await,
            }
        }
    }

    async fn ask(
        &mut self,
        world: &World,
        turn: Turn,
        request: &Request,
        patience: Option<Duration>,
    ) -> Got {
        let process = world.process().await;
        let others = (1..request.choices).map(|choice| Turn {
            choice,
            ..turn.clone()
        });
        let others = others.collect();
        let mut places = match process.runner.start_all(turn, others) {
            Ok(places) => places,
            Err(refused) => return Got::Told(refused.error),
        };
        let patience = patience.unwrap_or(request.deadline + Duration::from_secs(2));
        let answered = timeout(patience, all_heard(&mut places, request.streams));
        let got = tokio::select! {
            biased;
            () = process.dead.given() => return Got::Cut,
            got = answered => got,
        };
        match got {
            Ok(Ok(answers)) => {
                self.told_id = places[0].kept().map(|kept| kept.id);
                self.call = call(&mut places[0]);
                places.into_iter().for_each(Subscription::delivered);
                Got::Answers(answers)
            }
            Ok(Err((at, error))) => {
                places.swap_remove(at).delivered();
                Got::Told(error)
            }
            Err(_) if patience > request.deadline => {
                wrong(|| format!("{:?} was told nothing by its deadline", request.text));
                Got::Gone
            }
            Err(_) => Got::Gone,
        }
    }

    fn answered(&mut self, world: &World, request: &Request, answers: &[String]) {
        let delta = matches!(self.kind, Kind::Delta(_));
        self.known.push(request.text.clone());
        for answer in answers {
            if request.form.is_some_and(|at| !forms::is_formed(at, answer)) {
                wrong(|| format!("an answer that is not in its form: {answer:?}"));
            }
            let mut path = self.path.clone();
            path.extend([request.text.clone(), answer.clone()]);
            world.answered.borrow_mut().push(Answered {
                key: self.key,
                delta,
                is_plain: self.is_plain,
                path,
                known: self.known.clone(),
                answer: answer.clone(),
            });
        }
        // Under a handle alone, the first is the conversation's.
        let answer = if delta {
            answers[0].clone()
        } else {
            self.dice.pick(answers).clone()
        };
        self.path.extend([request.text.clone(), answer.clone()]);
        self.ids.push(self.told_id.take());
        if !delta {
            let tip = self.tip(world);
            world.tips.borrow_mut().push(tip);
        } else if request.form.is_none() {
            // Of one that was mended, the thread holds what it was before.
            self.known.push(answer);
        }
        if !request.text.starts_with("word ") {
            let mut fates = world.fates.borrow_mut();
            fates.entry(request.text.clone()).or_default().otherwise = true;
        }
    }

    /// Whether what it was told can be asked for again.
    async fn looks_again(&self, world: &World) {
        if let (Some(Some(id)), Some(answer)) = (self.ids.last(), self.path.last()) {
            self.finds(world, *id, answer).await;
        }
    }

    /// It will not know what came of it.
    fn over(&mut self, world: &World, request: &Request) {
        let mut fates = world.fates.borrow_mut();
        fates.entry(request.text.clone()).or_default().otherwise = true;
        drop(fates);
        // What was asked may be lost with its thread, and what came before.
        self.known.clear();
    }

    fn told(&self, world: &World, request: &Request, error: &Error) {
        if request.text.starts_with("word ") {
            return;
        }
        let mut fates = world.fates.borrow_mut();
        let fate = fates.entry(request.text.clone()).or_default();
        match error {
            // Of several answers, another one may be posted.
            Error::Refused(_) | Error::RateLimited(_) | Error::Unreachable
                if request.choices == 1 =>
            {
                fate.unposted = true;
                let posted = world.sent.lock().unwrap().may_be_posted(&request.text);
                if posted && !fate.otherwise && !world.excused.get() {
                    wrong(|| format!("{:?} may be posted, but was told {error:?}", request.text));
                }
            }
            _ => fate.otherwise = true,
        }
    }

    /// What the conversation as this caller sees it is known by.
    fn tip(&self, world: &World) -> Fingerprint {
        let request = Request {
            text: "next".to_owned(),
            stop: false,
            keyed: false,
            streams: false,
            deadline: Duration::ZERO,
            form: None,
            choices: 1,
            manner: Manner::default(),
        };
        Hashes::of(&world.salt, &self.compose(world, &request, 0, false)).roll
    }

    fn compose(&self, world: &World, request: &Request, at: u64, marked: bool) -> Turn {
        let (handle, shown, call) = match &self.kind {
            Kind::History => (None, &self.path[..], None),
            Kind::Named(name) => (Some(name), &self.path[..], None),
            Kind::Delta(name) => (Some(name), &[][..], self.call.as_deref()),
        };
        let turn = Turn {
            caller: Caller::of_key(&world.salt, Secret::new(self.key)),
            model: "m".to_owned(),
            instructions: None,
            history: messages::history(shown),
            prompt: vec![messages::prompt(&self.path, call, &request.text)],
            base: Base::Nothing,
            form: request.form.map(|at| FORMS[at].clone()),
            keep: None,
            choice: 0,
            names: Names {
                handle: handle.map(|name| Handle(name.as_str().into())),
                // As a chat program says that its requests are whole histories.
                narrow: handle
                    .filter(|_| matches!(self.kind, Kind::Named(_)))
                    .cloned(),
                ..Names::default()
            },
            limits: Limits {
                stop: request.stop.then(|| STOP.to_owned()).into_iter().collect(),
                max_tokens: None,
            },
            repeat: Repeat {
                body: body(request, shown),
                idempotency_key: request.keyed.then(|| format!("{} {at}", self.name)),
                marked,
            },
            deadline: request.deadline,
        };
        self.in_manner(turn, request.manner)
    }
}

/// What makes a request the same request.
fn body(request: &Request, shown: &[String]) -> [u8; 32] {
    let mut body = Sha256::new();
    for text in shown.iter().chain([&request.text]) {
        body.update((text.len() as u64).to_le_bytes());
        body.update(text);
    }
    body.update([u8::from(request.stop), u8::from(request.streams)]);
    body.update([request.form.map_or(0, |at| at as u8 + 1), request.choices]);
    let manner = request.manner;
    body.update([manner.kept, manner.follows, manner.background].map(u8::from));
    body.finalize().into()
}

/// Where some callers have their answers cut.
pub const STOP: &str = "c";

/// Every answer, in the order of choices; or which is an error.
async fn all_heard(
    places: &mut [Subscription],
    streams: bool,
) -> Result<Vec<String>, (usize, Error)> {
    let mut answers = Vec::new();
    for (at, place) in places.iter_mut().enumerate() {
        answers.push(heard(place, streams).await.map_err(|error| (at, error))?);
    }
    Ok(answers)
}

/// What an answer that has come calls.
fn call(place: &mut Subscription) -> Option<String> {
    let answer = place.ended()?.ok()?;
    answer.calls.first().map(|call| call.id.clone())
}

/// The answer, at once or piece by piece.
async fn heard(place: &mut Subscription, streams: bool) -> Result<String, Error> {
    if !streams {
        let answer = place.answer().await?;
        return Ok(forms::remembered(&answer));
    }
    let mut text = String::new();
    loop {
        match place.next().await {
            RunEvent::Accepted => {}
            RunEvent::Text(more) => text.push_str(&more),
            RunEvent::Completed(answer) => {
                if answer.text != text {
                    wrong(|| format!("the stream {text:?} is not the answer {:?}", answer.text));
                }
                return Ok(forms::remembered(&answer));
            }
            RunEvent::Failed(error) => return Err(error),
        }
    }
}
