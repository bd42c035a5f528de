//! What makes a request the same request.

use super::live::Shared;
use crate::conversation::Turn;
use crate::ids::Tenant;
use crate::planted::{Bug, is_planted};

/// A keyed hash of everything that makes a request the same request.
pub type RequestKey = [u8; 32];

/// What a request is, apart from its conversation.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub tenant: Tenant,
    pub request: RequestKey,
    pub keyed: Option<RequestKey>,
}

impl Shared {
    /// What the request is, for one of its choices.
    pub fn ask(&self, turn: &Turn, choice: u8) -> Ask {
        Ask {
            tenant: turn.caller.tenant,
            request: self.of_choice(choice, self.request_key(turn)),
            keyed: self
                .idempotency_key(turn)
                .map(|key| self.of_choice(choice, key)),
        }
    }

    /// Each choice is found again by itself.
    fn of_choice(&self, choice: u8, key: RequestKey) -> RequestKey {
        match choice {
            0 => key,
            _ => self.salt.hash("choice", [[choice].as_slice(), &key]),
        }
    }

    /// What makes a request the same request.
    fn request_key(&self, turn: &Turn) -> RequestKey {
        let names = &turn.names;
        let handle = names.handle.as_ref().map_or("", |handle| &handle.0);
        let fields = [
            if is_planted(Bug::OneTenant) {
                &[]
            } else {
                turn.caller.tenant.0.as_slice()
            },
            turn.repeat.body.as_slice(),
            handle.as_bytes(),
            names.narrow.as_deref().unwrap_or_default().as_bytes(),
        ];
        let users = names.users.iter().map(String::as_bytes);
        self.salt.hash("request", fields.into_iter().chain(users))
    }

    fn idempotency_key(&self, turn: &Turn) -> Option<RequestKey> {
        let key = turn.repeat.idempotency_key.as_ref()?;
        let fields = [turn.caller.tenant.0.as_slice(), key.as_bytes()];
        Some(self.salt.hash("idempotency key", fields))
    }
}
