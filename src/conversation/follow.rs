//! Turns that follow on what their callers do not send: a response, or all that a conversation holds.

use std::sync::Arc;

use super::queue::Held;
use super::resolve::{Choice, Continuation, Hashes, Resolved, Resolver, Start, Unresolved};
use super::salt::Salt;
use super::{Decision, Turn};
use crate::ids::{Digest, Fingerprint, Handle};
use crate::planted::{Bug, is_planted};
use crate::store::Slot;

/// What a request follows on that names a response.
#[derive(Clone, Debug)]
pub struct Followed {
    pub slot: Arc<Slot>,
    /// Of the branch, when its caller was told the response.
    pub tip: Fingerprint,
}

impl Hashes {
    /// Of a turn that follows on a transcript which it does not carry. Whatever it carries is added.
    pub fn following(self, salt: &Salt, turn: &Turn, tip: Option<Fingerprint>) -> Self {
        let added: Vec<Digest> = self.history.into_iter().chain(self.prompt).collect();
        let seed = Fingerprint::seed(salt, &turn.caller.tenant, &turn.model, &turn.names);
        Self {
            roll: tip.unwrap_or(seed),
            history: Vec::new(),
            prompt: added,
            ..self
        }
    }
}

impl Resolver {
    /// Where a turn belongs that follows on a response: on its thread, where nothing was said since, or
    /// on a new one.
    pub fn resolve_after(&self, turn: &Turn, hashes: &Hashes, followed: &Followed) -> Resolved {
        let own_name = turn.names.handle.as_ref().filter(|name| !name.is_ours());
        if let Some(held) = claim(followed) {
            if let Some(name) = own_name {
                let record = self.store.handle(&(turn.caller.tenant, name.clone()));
                let delta = record.is_none_or(|record| record.delta);
                self.store.set_handle(name, &held.slot, delta);
            }
            let conversation = held.slot.look(|branch| branch.conversation().cloned());
            return Resolved {
                decision: Decision::Appended,
                conversation: conversation.unwrap_or_else(|| self.mint()),
                continuation: Continuation::Append(held),
            };
        }
        let start = Start {
            decision: Decision::Forked,
            handle: own_name.cloned(),
        };
        let resolved = self.begin(turn, hashes, start);
        let resolved = resolved.expect("a fork takes its name from whoever had it");
        if let Continuation::Begin(held, _) = &resolved.continuation {
            let window = followed.slot.look(|branch| {
                let is_tip = branch.tip == followed.tip;
                let known = branch.window.iter().filter(|_| is_tip);
                known.copied().collect()
            });
            self.store
                .change(&held.slot, |branch| branch.window = window);
        }
        resolved
    }

    /// What [`Resolver::resolve_after`] would decide by now, and the branch it would append to.
    pub fn preview_after(
        &self,
        turn: &Turn,
        followed: &Followed,
    ) -> (Decision, Handle, Option<Arc<Slot>>) {
        let own_name = turn.names.handle.clone().filter(|name| !name.is_ours());
        let slot = &followed.slot;
        if claim(followed).is_none() {
            let name = own_name.unwrap_or_else(|| self.mint());
            return (Decision::Forked, name, None);
        }
        let known = slot.look(|branch| branch.conversation().cloned());
        let name = own_name.or(known).unwrap_or_else(|| self.mint());
        (Decision::Appended, name, Some(slot.clone()))
    }

    /// A turn that is added to all that the conversation of its handle holds, whatever that is.
    pub fn choose_added(&self, turn: &Turn, handle: &Handle) -> Result<Choice, Unresolved> {
        let key = (turn.caller.tenant, handle.clone());
        let leads = self.store.handle(&key);
        if let Some(slot) = leads.and_then(|leads| self.store.branch(leads.branch)) {
            return Ok(Choice::Queue(slot));
        }
        let is_known = !handle.is_ours() || self.store.is_made(&key);
        if !is_known && turn.history.is_empty() {
            return Err(Unresolved::NoConversation(handle.clone()));
        }
        Ok(Choice::Begin(if is_known {
            Start {
                decision: Decision::Created,
                handle: Some(handle.clone()),
            }
        } else {
            Start {
                decision: Decision::Replayed,
                handle: None,
            }
        }))
    }
}

/// Compare-and-swap: the lease is had, and the response is still what the conversation ended with.
fn claim(followed: &Followed) -> Option<Held> {
    let slot = followed.slot.clone();
    let lease = slot.try_lease()?;
    let is_its_end = slot.look(|branch| {
        let is_tip = branch.tip == followed.tip || is_planted(Bug::AppendsBehind);
        is_tip && branch.open_thread().is_some()
    });
    is_its_end.then_some(Held { slot, lease })
}
