//! What a turn follows on that its request does not carry: a response, or all of a conversation.

use std::sync::Arc;

use super::Error;
use super::carry::{Carry, Why};
use super::choice::{Before, Earlier};
use super::live::Shared;
use super::notes::Pending;
use super::progress::Progress;
use super::responses::Follows;
use crate::conversation::follow::Followed;
use crate::conversation::queue::Held;
use crate::conversation::resolve::{Hashes, Resolved, Unresolved};
use crate::conversation::transcript::bounded;
use crate::conversation::{Base, Decision, Message, Role, ToolCall, Turn, blocks};
use crate::ids::Handle;
use crate::store::{Branch, Slot};

/// What a turn follows on, found for it.
#[derive(Debug, Default)]
pub struct Ground {
    pub follows: Option<Follows>,
    /// What the answer that it follows on called, where that is in memory.
    pub calls: Vec<ToolCall>,
    /// Items of its conversation that it posts. They are put back if it does not.
    pub items: Vec<Pending>,
    /// Where another answer to the same request is the conversation's own, and the request does not say
    /// what came before.
    pub earlier: Option<Arc<Earlier>>,
}

impl Ground {
    pub fn on(follows: Option<Follows>) -> Self {
        Self {
            follows,
            ..Self::default()
        }
    }
}

/// Where a turn would go on, and the branch that it would append to.
pub type Preview = (Decision, Handle, Option<Arc<Slot>>);

impl Shared {
    /// What a turn is known by, of which its messages' hashes may be known already.
    pub fn hashes(&self, turn: &Turn, follows: Option<&Follows>, known: Option<Hashes>) -> Hashes {
        let hashes = known.unwrap_or_else(|| Hashes::of(&self.salt, turn));
        match turn.base {
            Base::Nothing => hashes,
            Base::Conversation | Base::Response(_) => {
                let tip = follows.map(|follows| follows.point.tip);
                hashes.following(&self.salt, turn, tip)
            }
        }
    }

    /// Finds where a turn goes on, and takes the items that its conversation waits with into its history.
    pub fn placed(
        &self,
        turn: &mut Turn,
        hashes: Hashes,
        follows: Option<Follows>,
    ) -> Result<(Resolved, Ground, Hashes), Unresolved> {
        let (ground, hashes) = self.grounded(turn, hashes, follows);
        match self.resolve(turn, &hashes, ground.follows.as_ref()) {
            Ok(resolved) => Ok((resolved, ground, hashes)),
            Err(unresolved) => {
                self.put_back(turn, ground.items);
                Err(unresolved)
            }
        }
    }

    fn grounded(
        &self,
        turn: &mut Turn,
        hashes: Hashes,
        follows: Option<Follows>,
    ) -> (Ground, Hashes) {
        let items = self.with_items(turn);
        let hashes = if items.is_empty() {
            hashes
        } else {
            self.hashes(turn, follows.as_ref(), None)
        };
        let follows_on = follows.as_ref().and_then(|follows| {
            let tenant = turn.caller.tenant;
            self.ledger.responses.find(tenant, follows.id)
        });
        let ground = Ground {
            calls: follows_on
                .map(|run| run.progress.look(Progress::calls))
                .unwrap_or_default(),
            items,
            ..Ground::on(follows)
        };
        (ground, hashes)
    }

    fn with_items(&self, turn: &mut Turn) -> Vec<Pending> {
        let is_added = match turn.base {
            Base::Conversation => true,
            // New text alone is added as well, whichever endpoint it came in by.
            Base::Nothing => turn.history.is_empty() && turn.names.narrow.is_none(),
            Base::Response(_) => false,
        };
        let Some(handle) = turn.names.handle.as_ref().filter(|_| is_added) else {
            return Vec::new();
        };
        let key = (turn.caller.tenant, handle.clone());
        let items = self.notes.take_items(&key);
        if !items.is_empty() {
            turn.base = Base::Conversation;
        }
        let messages = items.iter().filter_map(|item| item.message.clone());
        turn.history.splice(0..0, messages);
        items
    }

    /// Puts back what a turn has not posted.
    pub fn put_back(&self, turn: &Turn, items: Vec<Pending>) {
        if let Some(handle) = &turn.names.handle {
            let key = (turn.caller.tenant, handle.clone());
            self.notes.put_back(&key, items);
        }
    }

    pub fn resolve(
        &self,
        turn: &Turn,
        hashes: &Hashes,
        follows: Option<&Follows>,
    ) -> Result<Resolved, Unresolved> {
        let Some(follows) = follows else {
            return self.resolver.resolve(turn, hashes);
        };
        let followed = self.followed_on(follows)?;
        Ok(self.resolver.resolve_after(turn, hashes, &followed))
    }

    /// What [`Shared::resolve`] would decide by now.
    pub fn preview(
        &self,
        turn: &Turn,
        hashes: &Hashes,
        follows: Option<&Follows>,
    ) -> Result<Preview, Unresolved> {
        let Some(follows) = follows else {
            return self.resolver.preview(turn, hashes);
        };
        let followed = self.followed_on(follows)?;
        Ok(self.resolver.preview_after(turn, &followed))
    }

    /// What is posted before a prompt of all that the request adds to what it follows on.
    pub fn added(&self, turn: &Turn) -> Option<String> {
        match turn.base {
            Base::Nothing => None,
            Base::Conversation | Base::Response(_) => bounded(&turn.history, self.transcript),
        }
    }

    /// The branch that a response belongs to, and its tip then.
    fn followed_on(&self, follows: &Follows) -> Result<Followed, Unresolved> {
        let slot = self.store.branch(follows.branch);
        Ok(Followed {
            slot: slot.ok_or(Unresolved::NoResponse(follows.id))?,
            tip: follows.point.tip,
        })
    }
}

/// Whether a request without instructions leaves those that its thread was told.
pub fn keeps_instructions(turn: &Turn) -> bool {
    turn.instructions.is_none()
        && match turn.base {
            Base::Nothing => turn.history.is_empty(),
            Base::Conversation => true,
            Base::Response(_) => false,
        }
}

impl Carry {
    /// Whether the request itself carries all that came before.
    pub fn carries_its_past(&self) -> bool {
        self.turn.base == Base::Nothing && !self.turn.history.is_empty()
    }

    /// What a new thread begins with: where the request follows on a response, as its thread shows it.
    pub async fn opening(&self) -> Result<Option<String>, Error> {
        let Some(follows) = &self.ground.follows else {
            return Ok(self.transcript_of_history());
        };
        let unknown = || Error::NoResponse(follows.id.to_string());
        let slot = self.shared.store.branch(follows.branch);
        let thread = slot.and_then(|slot| slot.look(|branch| branch.thread.clone()));
        let thread = thread.ok_or_else(unknown)?;
        let told = self.messages_of_thread(&thread, &follows.point.seen).await;
        let Some(told) = told? else {
            return Err(Error::OutOfSight(follows.id.to_string()));
        };
        let mut messages = unwrapped(told);
        messages.extend(self.turn.history.iter().cloned());
        Ok(bounded(&messages, self.shared.transcript))
    }

    /// As above. Where it is another answer to its request, as the conversation's own thread shows it; the
    /// new branch follows on that.
    pub async fn opening_of(&self, held: &Held) -> Result<Option<String>, Error> {
        let Some(earlier) = &self.ground.earlier else {
            return self.opening().await;
        };
        let Before { transcript, point } = earlier.before(self).await?;
        if let Some((tip, window)) = point {
            self.shared.store.change(&held.slot, |branch| {
                branch.tip = tip;
                branch.window = window;
            });
        }
        Ok(transcript)
    }

    /// What a thread that is left is followed by, for a request that carries no past.
    pub async fn past_of(&self, branch: &Branch, why: Why) -> Result<Option<String>, Error> {
        if let Some(earlier) = &self.ground.earlier {
            return Ok(earlier.before(self).await?.transcript);
        }
        if self.ground.follows.is_some() {
            return self.opening().await;
        }
        if matches!(why, Why::Lost | Why::Vanished) && branch.seen.is_some() {
            return Err(self.lost());
        }
        let mut messages = self.messages_of_branch(branch).await?;
        messages.extend(self.turn.history.iter().cloned());
        Ok(bounded(&messages, self.shared.transcript))
    }

    /// Told where nothing is left of what the request follows on.
    pub fn lost(&self) -> Error {
        match self.turn.base {
            Base::Response(id) => Error::NoResponse(id.to_string()),
            Base::Nothing | Base::Conversation => {
                Error::NoConversation(self.conversation.to_string())
            }
        }
    }

    /// Puts back what was not posted.
    pub fn put_back(&mut self) {
        if !self.run.is_remembered() {
            let items = std::mem::take(&mut self.ground.items);
            self.shared.put_back(&self.turn, items);
        }
    }
}

/// The messages that posts of ours stand for, without what no longer applies.
fn unwrapped(messages: Vec<Message>) -> Vec<Message> {
    let unwrap = |message: Message| match message.role {
        Role::User => blocks::messages(&message.text),
        Role::Assistant | Role::Tool => vec![message],
    };
    messages.into_iter().flat_map(unwrap).collect()
}
