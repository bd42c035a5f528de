//! Where turns belong, held against a list of branches that is searched from end to end.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chaturdata_proxy::clock::{Clock, Moment};
use chaturdata_proxy::config::SideCalls;
use chaturdata_proxy::conversation::follow::Followed;
use chaturdata_proxy::conversation::queue::Held;
use chaturdata_proxy::conversation::resolve::{
    Continuation, Hashes, Resolver, Secrets, Unresolved,
};
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::conversation::{
    Base, Caller, Decision, Limits, Message, Names, Repeat, Role, Turn,
};
use chaturdata_proxy::ids::{Digest, Fingerprint, Handle, ResponseId, Tenant};
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::store::backend::Nowhere;
use chaturdata_proxy::store::{Bounds, BranchId, Slot, State, Store};
use chaturdata_proxy::upstream::ThreadId;
use proptest::prelude::*;

use super::expected::{Ask, Expected, Follows, Model, Said};
use super::ops::{How, Name, Op, Past, op};
use super::{cases, paused};

/// Requests that may wait for one conversation.
pub const QUEUE: u32 = 2;

/// A branch that a run holds, or will hold once those before it are through.
struct Run {
    which: usize,
    prompt: Said,
    lease: Leased,
}

enum Leased {
    Held(Held),
    Waits(Pin<Box<dyn Future<Output = Held>>>),
}

/// The resolver and the model, told the same.
struct Pair {
    resolver: Resolver,
    store: Arc<Store>,
    model: Model,
    /// By the model's number.
    slots: Vec<Arc<Slot>>,
    runs: Vec<Run>,
    told: Vec<String>,
    marks: BTreeMap<Vec<Said>, u64>,
    said: Said,
}

impl Pair {
    fn new(salt: &Salt) -> Self {
        let store = unbounded();
        Self {
            resolver: resolver(salt, &store, QUEUE),
            store,
            model: Model::default(),
            slots: Vec::new(),
            runs: Vec::new(),
            told: vec!["conv_nobody".to_owned()],
            marks: BTreeMap::new(),
            said: 1000,
        }
    }

    fn follow(&mut self, op: &Op) {
        match op {
            Op::Ask {
                tenant,
                user,
                narrow,
                name,
                past,
                instructions,
            } => {
                let ask = Ask {
                    tenant: *tenant,
                    user: *user,
                    narrow: *narrow,
                    name: self.name(name),
                    history: self.history(past),
                    instructions: *instructions,
                    base: Follows::Nothing,
                };
                self.ask(&ask);
            }
            Op::Add { tenant, name } => self.ask(&Ask {
                tenant: *tenant,
                user: None,
                narrow: None,
                name: self.name(name),
                history: Vec::new(),
                instructions: 0,
                base: Follows::Conversation,
            }),
            Op::Follow {
                which,
                answers,
                name,
            } => self.follow_on(*which, *answers, name),
            Op::End { run, how } if !self.runs.is_empty() => self.end(run % self.runs.len(), *how),
            Op::End { .. } => {}
        }
    }

    fn name(&self, name: &Name) -> Option<String> {
        match name {
            Name::None => None,
            Name::Own(name) => Some(format!("own-{name}")),
            Name::Ours(at) => Some(self.told[at % self.told.len()].clone()),
        }
    }

    /// After an answer of some branch, if it has that many.
    fn follow_on(&mut self, which: usize, answers: usize, name: &Name) {
        let which = which % self.model.branches.len().max(1);
        let Some(branch) = self.model.branches.get(which) else {
            return;
        };
        let ends = || {
            branch
                .passed
                .iter()
                .copied()
                .chain([branch.transcript.len()])
        };
        let answered = ends().count();
        let Some(length) = ends()
            .nth_back(answers % answered)
            .filter(|length| *length > 0)
        else {
            return;
        };
        if branch.passed.is_empty() && branch.state == State::Unborn {
            return;
        }
        let ask = Ask {
            tenant: branch.tenant,
            user: branch.user,
            narrow: None,
            name: self.name(name),
            history: Vec::new(),
            instructions: 0,
            base: Follows::Response { which, length },
        };
        self.ask(&ask);
    }

    fn history(&self, past: &Past) -> Vec<Said> {
        let all = |which: usize| {
            let count = self.model.branches.len().max(1);
            let branch = self.model.branches.get(which % count);
            branch.map_or(Vec::new(), |branch| branch.transcript.clone())
        };
        match past {
            Past::Opening => Vec::new(),
            Past::Of { which, without } => {
                let mut history = all(*which);
                history.truncate(history.len().saturating_sub(*without));
                history
            }
            Past::End { which, messages } => {
                let history = all(*which);
                history[history.len().saturating_sub(*messages)..].to_vec()
            }
            Past::Strange(said) => vec![Said::from(*said)],
        }
    }

    fn ask(&mut self, ask: &Ask) {
        self.said += 1;
        let prompt = self.said;
        let (turn, hashes) = (turn(ask), self.hashes(ask, prompt));
        let followed = self.followed(ask);
        let previewed = match &followed {
            Some(followed) => Ok(self.resolver.preview_after(&turn, followed)),
            None => self.resolver.preview(&turn, &hashes),
        };
        let expected = self.model.ask(ask);
        let previewed = previewed.map(|(decision, _, slot)| (decision, slot.map(|slot| slot.id)));
        self.check_preview(previewed, &expected);
        let resolved = match &followed {
            Some(followed) => Ok(self.resolver.resolve_after(&turn, &hashes, followed)),
            None => self.resolver.resolve(&turn, &hashes),
        };
        let resolved = match (resolved, &expected) {
            (Err(Unresolved::NoConversation(_)), Expected::NoConversation)
            | (Err(Unresolved::TooManyWaiting(_)), Expected::TooMany) => return,
            (Ok(resolved), _) => resolved,
            (other, _) => unreachable!("{other:?} is not {expected:?}"),
        };
        let name = resolved.conversation.to_string();
        let (which, lease) = match (resolved.continuation, &expected) {
            (Continuation::Append(held), Expected::Append(which)) => (*which, Leased::Held(held)),
            (Continuation::Wait(waiting), Expected::Wait(which)) => {
                (*which, Leased::Waits(Box::pin(waiting.held())))
            }
            (Continuation::Begin(held, _), Expected::Begin(decision, which)) => {
                assert_eq!(resolved.decision, *decision);
                assert_eq!(self.slots.len(), *which, "a branch is new");
                self.slots.push(held.slot.clone());
                self.model.named(*which, &name);
                (*which, Leased::Held(held))
            }
            (other, expected) => {
                unreachable!("{:?} {other:?} is not {expected:?}", resolved.decision)
            }
        };
        self.check(ask, &lease, which, &name);
        self.told.push(name);
        self.runs.push(Run {
            which,
            prompt,
            lease,
        });
        self.poll();
    }

    /// What a dry run says is what happens then.
    fn check_preview(
        &self,
        previewed: Result<(Decision, Option<BranchId>), Unresolved>,
        expected: &Expected,
    ) {
        let on = |which: usize| Some(self.slots[which].id);
        match (previewed, expected) {
            (Ok(previewed), Expected::Append(which)) => {
                assert_eq!(previewed, (Decision::Appended, on(*which)));
            }
            (Ok(previewed), Expected::Begin(decision, _)) => {
                assert_eq!(previewed, (*decision, None));
            }
            (Ok(previewed), Expected::Wait(which)) => {
                let waits = match self.model.branches[*which].state {
                    State::Closed => (Decision::Replayed, None),
                    State::Open | State::Unborn => (Decision::Appended, on(*which)),
                };
                assert_eq!(previewed, waits);
            }
            // A queue that is full now may have room when it matters.
            (Ok(_), Expected::TooMany)
            | (Err(Unresolved::NoConversation(_)), Expected::NoConversation) => {}
            (other, expected) => unreachable!("{other:?} is not {expected:?}"),
        }
    }

    /// What must hold whatever the model says.
    fn check(&self, ask: &Ask, lease: &Leased, which: usize, name: &str) {
        let branch = &self.model.branches[which];
        assert_eq!(branch.tenant, ask.tenant, "another's thread");
        assert!(
            branch.transcript.ends_with(&ask.history),
            "a history that it does not hold"
        );
        // What follows on a response keeps the name that its conversation has.
        let names = !matches!(ask.base, Follows::Response { .. });
        if let Some(asked) = &ask.name
            && (asked.starts_with("own-") || names && branch.names.contains(asked))
        {
            assert_eq!(name, asked);
        }
        if let Leased::Held(held) = lease {
            assert_eq!(held.slot.id, self.slots[which].id);
            let holds = |run: &&Run| matches!(run.lease, Leased::Held(_)) && run.which == which;
            assert_eq!(
                self.runs.iter().filter(holds).count(),
                0,
                "two runs on a thread"
            );
        }
    }

    /// Whoever waits gets the lease in the order of asking.
    fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut held: Vec<BranchId> = self.runs.iter().filter_map(Run::holds).collect();
        for run in &mut self.runs {
            let Leased::Waits(waiting) = &mut run.lease else {
                continue;
            };
            let id = self.slots[run.which].id;
            let ready = waiting.as_mut().poll(&mut context);
            assert_eq!(ready.is_ready(), !held.contains(&id), "not in order");
            if let Poll::Ready(had) = ready {
                held.push(id);
                run.lease = Leased::Held(had);
            }
        }
    }

    fn end(&mut self, run: usize, how: How) {
        let run = self.runs.remove(run);
        let Leased::Held(held) = run.lease else {
            // A caller that is given up on leaves the queue.
            self.model.branches[run.which].waiting -= 1;
            return;
        };
        match how {
            How::Answered if held.slot.look(|branch| branch.state) != State::Closed => {
                self.said += 1;
                let new = [run.prompt, self.said];
                self.answered(&held, run.which, &new);
            }
            How::Answered | How::Unposted => {}
            How::Failed => {
                self.store.close(&held.slot);
                self.model.branches[run.which].state = State::Closed;
            }
        }
        self.model.branches[run.which].leased = false;
        drop(held);
        self.poll();
        let next = self
            .runs
            .iter()
            .any(|run_| run_.which == run.which && run_.holds().is_some());
        if next {
            let branch = &mut self.model.branches[run.which];
            branch.leased = true;
            branch.waiting -= 1;
        }
    }

    fn answered(&mut self, held: &Held, which: usize, new: &[Said]) {
        let known = &mut self.model.branches[which];
        let seed = known.seed();
        let mut transcript = known.transcript.clone();
        transcript.extend(new);
        let tip = self.mark(seed, &transcript);
        let digests: Vec<Digest> = new.iter().copied().map(digest).collect();
        self.store.change(&held.slot, |branch| {
            branch.thread.get_or_insert(ThreadId("th".into()));
            branch.state = State::Open;
        });
        self.store
            .advance(&held.slot, None, |branch| branch.advance(tip, &digests));
        self.model.answered(which, new);
    }

    /// Equal transcripts of equal people have equal fingerprints, and no others.
    fn mark(&mut self, seed: [Said; 2], transcript: &[Said]) -> Fingerprint {
        let key = [seed.as_slice(), transcript].concat();
        let next = self.marks.len() as u64 + 1;
        let mark = *self.marks.entry(key).or_insert(next);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&mark.to_be_bytes());
        Fingerprint(bytes)
    }

    /// What is followed on, as the runs would find it.
    fn followed(&mut self, ask: &Ask) -> Option<Followed> {
        let Follows::Response { which, length } = ask.base else {
            return None;
        };
        let held = self.model.branches[which].transcript[..length].to_vec();
        Some(Followed {
            slot: self.slots[which].clone(),
            tip: self.mark(ask.seed(), &held),
        })
    }

    fn hashes(&mut self, ask: &Ask, prompt: Said) -> Hashes {
        let followed = self.followed(ask).map(|followed| followed.tip);
        Hashes {
            roll: followed.unwrap_or_else(|| self.mark(ask.seed(), &ask.history)),
            history: ask.history.iter().copied().map(digest).collect(),
            prompt: vec![digest(prompt)],
            instructions: [ask.instructions; 32],
            form: None,
        }
    }
}

impl Run {
    fn holds(&self) -> Option<BranchId> {
        match &self.lease {
            Leased::Held(held) => Some(held.slot.id),
            Leased::Waits(_) => None,
        }
    }
}

/// A store that forgets nothing.
pub fn unbounded() -> Arc<Store> {
    let bounds = Bounds {
        max: usize::MAX,
        max_age: Duration::MAX,
    };
    Arc::new(Store::new(bounds, Clock::at(Moment(0)), Arc::new(Nowhere)))
}

pub fn resolver(salt: &Salt, store: &Arc<Store>, queue: u32) -> Resolver {
    let secrets = Secrets {
        salt: salt.clone(),
        ids: salt.clone(),
    };
    Resolver::new(secrets, store.clone(), SideCalls::Off, queue)
}

fn digest(said: Said) -> Digest {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&u64::from(said).to_be_bytes());
    digest
}

/// Its hashes are given beside it: of its messages it only counts whether there are any before.
pub fn turn(ask: &Ask) -> Turn {
    let message = Message::said(Role::User, "x");
    Turn {
        caller: Caller {
            tenant: Tenant([ask.tenant; 32]),
            account: Tenant([ask.tenant; 32]),
            key: Secret::new("k"),
        },
        model: "m".to_owned(),
        instructions: None,
        history: ask.history.iter().map(|_| message.clone()).collect(),
        prompt: vec![message],
        base: match ask.base {
            Follows::Nothing => Base::Nothing,
            Follows::Conversation => Base::Conversation,
            Follows::Response { .. } => Base::Response(ResponseId([0; 16])),
        },
        form: None,
        keep: None,
        choice: 0,
        names: Names {
            handle: ask.name.as_deref().map(|name| Handle(name.into())),
            narrow: ask.narrow.map(|narrow| narrow.to_string()),
            users: ask.user.iter().map(ToString::to_string).collect(),
            side_call: None,
        },
        limits: Limits::default(),
        repeat: Repeat {
            body: [0; 32],
            idempotency_key: None,
            marked: false,
        },
        deadline: Duration::from_secs(600),
    }
}

#[test]
fn turns_belong_where_a_search_of_all_branches_puts_them() {
    let runtime = paused();
    let salt = Salt::random().unwrap();
    let ops = prop_oneof![
        8 => prop::collection::vec(op(), 0..25),
        1 => prop::collection::vec(op(), 60..120),
    ];

    let checked = cases(10_000).run(&ops, |ops| {
        runtime.block_on(async {
            let mut pair = Pair::new(&salt);
            for op in &ops {
                pair.follow(op);
            }
            assert_eq!(pair.store.len(), pair.model.branches.len());
        });
        Ok(())
    });

    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
