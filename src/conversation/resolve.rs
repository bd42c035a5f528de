//! Finds the thread that a turn continues, and claims it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fingerprint::{digest, form, instructions};
use super::queue::{Held, Waiting};
use super::salt::Salt;
use super::side::{self, SideCall};
use super::{Base, Decision, Message, Turn};
use crate::config::SideCalls;
use crate::ids::{Digest, Fingerprint, Handle, ResponseId};
use crate::planted::{Bug, is_planted};
use crate::store::{Branch, HandleRecord, LeaseLock, Slot, State, Store};

/// How often a request tries again that another one was faster than.
const CLAIMS: usize = 4;

/// Answers where turns belong.
#[derive(Debug)]
pub struct Resolver {
    salt: Salt,
    /// What ids are made of. Another one in each process: a state that is restored from a copy must
    /// not make the ids that were made after the copy.
    ids: Salt,
    pub store: Arc<Store>,
    side_calls: SideCalls,
    /// Requests that may wait for one conversation.
    queue: u32,
    minted: AtomicU64,
}

/// The secrets of a process.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Outlives the process with the hashes that are keyed with it.
    pub salt: Salt,
    pub ids: Salt,
}

/// A turn's messages as hashes.
#[derive(Clone, Debug)]
pub struct Hashes {
    /// Of the history.
    pub roll: Fingerprint,
    pub history: Vec<Digest>,
    pub prompt: Vec<Digest>,
    pub instructions: Digest,
    pub form: Option<Digest>,
}

/// Where a turn belongs, claimed for it.
#[derive(Debug)]
pub struct Resolved {
    pub decision: Decision,
    pub conversation: Handle,
    pub continuation: Continuation,
}

/// How a turn goes on from here.
#[derive(Debug)]
pub enum Continuation {
    /// The prompt is posted on this branch's thread.
    Append(Held),
    /// The prompt is appended once the requests before it are through.
    Wait(Waiting),
    /// A thread is begun for this new branch; and where its name led before.
    Begin(Held, Option<HandleRecord>),
    /// This is the answer; nothing is posted.
    Local(String),
}

/// Why a turn belongs nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The handle is not known here, and the request carries no history.
    NoConversation(Handle),
    /// Nothing is remembered of the response that the request follows on.
    NoResponse(ResponseId),
    /// Too many requests wait for this conversation.
    TooManyWaiting(Handle),
}

/// What is decided before anything is claimed.
#[derive(Debug)]
pub enum Choice {
    /// The first of these whose claim succeeds; none, and a thread is begun.
    Join(Vec<Arc<Slot>>, Start),
    Queue(Arc<Slot>),
    Begin(Start),
    Local(String),
}

/// How a thread is begun: under this handle, or under an id made here.
#[derive(Debug)]
pub struct Start {
    pub decision: Decision,
    pub handle: Option<Handle>,
}

impl Hashes {
    pub fn of(salt: &Salt, turn: &Turn) -> Self {
        let digests = |messages: &[Message]| -> Vec<Digest> {
            let digests = messages.iter().map(|message| digest(salt, message));
            digests.collect()
        };
        let history = digests(&turn.history);
        let seed = Fingerprint::seed(salt, &turn.caller.tenant, &turn.model, &turn.names);
        Self {
            roll: history
                .iter()
                .fold(seed, |roll, digest| roll.then(salt, digest)),
            history,
            prompt: digests(&turn.prompt),
            instructions: instructions(salt, turn.instructions.as_deref()),
            form: turn.form.as_deref().map(|own| form(salt, own)),
        }
    }
}

impl Resolver {
    pub fn new(secrets: Secrets, store: Arc<Store>, side_calls: SideCalls, queue: u32) -> Self {
        Self {
            salt: secrets.salt,
            ids: secrets.ids,
            store,
            side_calls,
            queue,
            minted: AtomicU64::new(0),
        }
    }

    /// Finds the turn's branch and claims it.
    pub fn resolve(&self, turn: &Turn, hashes: &Hashes) -> Result<Resolved, Unresolved> {
        for _ in 0..CLAIMS {
            let start = match self.choose(turn, hashes)? {
                Choice::Local(answer) => {
                    return Ok(Resolved {
                        decision: Decision::Local,
                        conversation: self.told(turn),
                        continuation: Continuation::Local(answer),
                    });
                }
                Choice::Queue(slot) => return self.queue(turn, slot),
                Choice::Join(candidates, start) => {
                    self.end_delta(turn);
                    let mut claims = candidates.into_iter();
                    match claims.find_map(|slot| self.join(turn, hashes, slot)) {
                        Some(resolved) => return Ok(resolved),
                        None => start,
                    }
                }
                Choice::Begin(start) => start,
            };
            if let Some(resolved) = self.begin(turn, hashes, start) {
                return Ok(resolved);
            }
        }
        Err(Unresolved::TooManyWaiting(self.told(turn)))
    }

    /// A whole history came under a handle: from now on each request on it is one.
    fn end_delta(&self, turn: &Turn) {
        if let Some(handle) = &turn.names.handle {
            self.store.end_delta(&(turn.caller.tenant, handle.clone()));
        }
    }

    /// What [`Resolver::resolve`] would decide by now, and the branch it would append to.
    pub fn preview(
        &self,
        turn: &Turn,
        hashes: &Hashes,
    ) -> Result<(Decision, Handle, Option<Arc<Slot>>), Unresolved> {
        let free =
            |slot: &Arc<Slot>| !slot.is_leased() && slot.look(|branch| takes(branch, turn, hashes));
        let append = |slot: Arc<Slot>| {
            let known = slot.look(|branch| branch.conversation().cloned());
            let handle = turn.names.handle.clone().or(known);
            (
                Decision::Appended,
                handle.unwrap_or_else(|| self.mint()),
                Some(slot),
            )
        };
        let start = match self.choose(turn, hashes)? {
            Choice::Local(_) => return Ok((Decision::Local, self.told(turn), None)),
            Choice::Queue(slot) if slot.look(|branch| branch.state == State::Closed) => {
                return Ok((Decision::Replayed, self.told(turn), None));
            }
            Choice::Queue(slot) => return Ok(append(slot)),
            Choice::Join(candidates, start) => match candidates.into_iter().find(free) {
                Some(slot) => return Ok(append(slot)),
                None => start,
            },
            Choice::Begin(start) => start,
        };
        let handle = start.handle.unwrap_or_else(|| self.mint());
        Ok((start.decision, handle, None))
    }

    /// A branch of its own for a turn whose thread was lost, closed or quarantined.
    pub fn anew(&self, turn: &Turn, hashes: &Hashes, conversation: &Handle, delta: bool) -> Held {
        let (slot, lease) = self.store.insert(self.newborn(turn, hashes));
        self.store.set_handle(conversation, &slot, delta);
        Held { slot, lease }
    }

    /// An id that nobody else has, and nobody can guess.
    pub fn mint(&self) -> Handle {
        let count = self.minted.fetch_add(1, Ordering::Relaxed);
        let hash = self
            .ids
            .hash("conversation id", [count.to_le_bytes().as_slice()]);
        let hex: String = hash
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Handle(format!("conv_{hex}").into())
    }

    fn told(&self, turn: &Turn) -> Handle {
        turn.names.handle.clone().unwrap_or_else(|| self.mint())
    }

    fn choose(&self, turn: &Turn, hashes: &Hashes) -> Result<Choice, Unresolved> {
        if let (Base::Conversation, Some(handle)) = (&turn.base, &turn.names.handle) {
            return self.choose_added(turn, handle);
        }
        if turn.base == Base::Nothing
            && self.side_calls != SideCalls::Off
            && let Some(call) = side::recognise(turn)
        {
            return Ok(self.beside(turn, call));
        }
        if turn.choice > 0 {
            let claimed = turn.names.handle.clone();
            return Ok(Choice::Begin(Start {
                decision: Decision::of_choice(turn),
                handle: claimed.filter(|_| is_planted(Bug::ChoicesClaim)),
            }));
        }
        let opening = turn.history.is_empty();
        let begin = |decision, handle: Option<&Handle>| {
            Ok(Choice::Begin(Start {
                decision,
                handle: handle.cloned(),
            }))
        };
        let Some(handle) = &turn.names.handle else {
            return if opening {
                begin(Decision::Created, None)
            } else {
                Ok(self.search(turn, hashes, None))
            };
        };
        let key = (turn.caller.tenant, handle.clone());
        let known = self
            .store
            .handle(&key)
            .and_then(|record| Some((record, self.store.branch(record.branch)?)));
        let is_foreign = handle.is_ours() && !self.store.is_made(&key);
        match known {
            Some((record, slot)) if opening => {
                if record.delta && turn.names.narrow.is_none() {
                    Ok(Choice::Queue(slot))
                } else {
                    begin(Decision::Forked, Some(handle))
                }
            }
            Some((_, slot)) => Ok(self.under_handle(turn, hashes, handle, &slot)),
            None if is_foreign && opening => Err(Unresolved::NoConversation(handle.clone())),
            None if is_foreign => begin(Decision::Replayed, None),
            None if opening => begin(Decision::Created, Some(handle)),
            None => Ok(self.search(turn, hashes, Some(handle))),
        }
    }

    fn beside(&self, turn: &Turn, call: SideCall) -> Choice {
        let answer = match self.side_calls {
            // The shape that is known of a side call need not be the form that is asked for.
            SideCalls::Local if turn.form.is_none() => side::answer(call, turn),
            SideCalls::Local | SideCalls::Scratch | SideCalls::Off => None,
        };
        match answer {
            Some(answer) => Choice::Local(answer),
            None => Choice::Begin(Start {
                decision: if turn.history.is_empty() {
                    Decision::Created
                } else {
                    Decision::Replayed
                },
                handle: None,
            }),
        }
    }

    /// A whole history under a handle that is known: its present branch, or an older one of it.
    fn under_handle(
        &self,
        turn: &Turn,
        hashes: &Hashes,
        handle: &Handle,
        slot: &Arc<Slot>,
    ) -> Choice {
        let lost = slot.look(|branch| fits(branch, turn, hashes) && branch.state == State::Closed);
        let older = self.store.at(&hashes.roll).into_iter().filter(|other| {
            other.id != slot.id
                && other.look(|branch| {
                    branch.tenant == turn.caller.tenant
                        && (branch.conversation() == Some(handle)
                            || branch.beside.as_ref() == Some(handle))
                })
        });
        let candidates = std::iter::once(slot.clone()).chain(older).collect();
        let decision = if lost {
            Decision::Replayed
        } else {
            Decision::Forked
        };
        Choice::Join(
            candidates,
            Start {
                decision,
                handle: Some(handle.clone()),
            },
        )
    }

    /// Looks for the history among all tips of the tenant.
    fn search(&self, turn: &Turn, hashes: &Hashes, handle: Option<&Handle>) -> Choice {
        let names = &turn.names;
        let identified = handle.is_some() || !names.users.is_empty();
        let mut known = false;
        let mut closed = false;
        let mut candidates = Vec::new();
        for slot in self.store.at(&hashes.roll) {
            let branch = slot.branch();
            if branch.tenant != turn.caller.tenant && !is_planted(Bug::OneTenant) {
                continue;
            }
            known = true;
            let near = branch.narrow == names.narrow;
            let compatible = near || branch.narrow.is_none() || names.narrow.is_none();
            let instructed = identified || branch.instructions == hashes.instructions;
            if branch.tip != hashes.roll || !compatible || !instructed || self.in_delta(&branch) {
                continue;
            }
            closed |= branch.state == State::Closed;
            candidates.push((!near, slot));
        }
        candidates.sort_by_key(|(far, _)| *far);
        let decision = if known && !closed {
            Decision::Forked
        } else {
            Decision::Replayed
        };
        Choice::Join(
            candidates.into_iter().map(|(_, slot)| slot).collect(),
            Start {
                decision,
                handle: handle.cloned(),
            },
        )
    }

    /// Whether a caller appends to this branch by a handle of its own, without ever showing its
    /// history: nobody else may join, since that caller would not see it.
    fn in_delta(&self, branch: &Branch) -> bool {
        branch.handles.iter().any(|handle| {
            !handle.is_ours()
                && self
                    .store
                    .handle(&(branch.tenant, handle.clone()))
                    .is_some_and(|record| record.delta)
        })
    }

    fn queue(&self, turn: &Turn, slot: Arc<Slot>) -> Result<Resolved, Unresolved> {
        let conversation = self.told(turn);
        match Waiting::new(slot, self.queue) {
            Some(waiting) => Ok(Resolved {
                decision: Decision::Appended,
                conversation,
                continuation: Continuation::Wait(waiting),
            }),
            None => Err(Unresolved::TooManyWaiting(conversation)),
        }
    }

    /// Compare-and-swap: the lease is had, and the tip is still the history.
    fn join(&self, turn: &Turn, hashes: &Hashes, slot: Arc<Slot>) -> Option<Resolved> {
        let lease = match slot.try_lease() {
            None if is_planted(Bug::NoLease) => LeaseLock::default().try_lock_owned().ok()?,
            lease => lease?,
        };
        let narrowed = slot.look(|branch| {
            let narrowed = branch.narrow.is_none() && turn.names.narrow.is_some();
            takes(branch, turn, hashes).then_some(narrowed)
        })?;
        if narrowed {
            self.store.change(&slot, |branch| {
                branch.narrow.clone_from(&turn.names.narrow);
            });
        }
        if let Some(handle) = &turn.names.handle {
            self.store.set_handle(handle, &slot, false);
        }
        let conversation = slot.look(|branch| branch.conversation().cloned());
        Some(Resolved {
            decision: Decision::Appended,
            conversation: conversation.unwrap_or_else(|| self.told(turn)),
            continuation: Continuation::Append(Held { slot, lease }),
        })
    }

    /// `None` where another request began this conversation at the same time.
    pub fn begin(&self, turn: &Turn, hashes: &Hashes, start: Start) -> Option<Resolved> {
        let (slot, lease) = self.store.insert(self.newborn(turn, hashes));
        let minted = start.handle.is_none();
        let conversation = start.handle.unwrap_or_else(|| self.mint());
        let first = !minted && start.decision == Decision::Created;
        let before = self
            .store
            .handle(&(turn.caller.tenant, conversation.clone()));
        if !first {
            self.store.set_handle(&conversation, &slot, minted);
        } else if !self.store.claim_handle(&conversation, &slot, true) {
            self.store.forget(slot.id);
            return None;
        }
        Some(Resolved {
            decision: start.decision,
            conversation,
            continuation: Continuation::Begin(Held { slot, lease }, before),
        })
    }

    fn newborn(&self, turn: &Turn, hashes: &Hashes) -> Branch {
        let seed = Fingerprint::seed(&self.salt, &turn.caller.tenant, &turn.model, &turn.names);
        let mut branch = Branch {
            narrow: turn.names.narrow.clone(),
            beside: turn.names.handle.clone().filter(|_| turn.choice > 0),
            form: hashes.form,
            ..Branch::unborn(turn.caller.tenant, seed, hashes.instructions)
        };
        branch.advance(hashes.roll, &hashes.history);
        branch
    }
}

/// Whether a turn may be posted on this branch's thread.
fn takes(branch: &Branch, turn: &Turn, hashes: &Hashes) -> bool {
    fits(branch, turn, hashes) && branch.open_thread().is_some()
}

/// Whether a request's history is what this branch's thread holds; under one of the branch's own
/// handles, the end of it will do.
fn fits(branch: &Branch, turn: &Turn, hashes: &Hashes) -> bool {
    if branch.tip == hashes.roll {
        return true;
    }
    // A whole history that this branch has left behind may look like the end of it.
    let named = |handle: &Handle| branch.handles.contains(handle);
    turn.names.handle.as_ref().is_some_and(named)
        && !branch.passed.contains(&hashes.roll)
        && branch.ends_with(&hashes.history)
}
