//! What a history is known by: a rolling keyed hash over its messages.

use super::salt::Salt;
use super::{Message, Names, Role, canonical};
use crate::form::Form;
use crate::ids::{Digest, Fingerprint, Tenant, cut};
use crate::planted::{Bug, is_planted};

impl Fingerprint {
    /// Of a transcript without messages.
    pub fn seed(salt: &Salt, tenant: &Tenant, model: &str, names: &Names) -> Self {
        let tenant = if is_planted(Bug::OneTenant) {
            &[][..]
        } else {
            tenant.0.as_slice()
        };
        let fields = [tenant, model.as_bytes()];
        let users = names.users.iter().map(String::as_bytes);
        Self(cut(
            &salt.hash("transcript", fields.into_iter().chain(users))
        ))
    }

    /// Of the transcript with one message more.
    pub fn then(self, salt: &Salt, message: &Digest) -> Self {
        Self(cut(
            &salt.hash("message after", [self.0.as_slice(), message])
        ))
    }
}

/// Role, canonical text, tool calls and the hashes of parts that are not text. Ids that clients
/// mint anew do not count.
pub fn digest(salt: &Salt, message: &Message) -> Digest {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let text = canonical::text(message.role, &message.text);
    let arguments: Vec<_> = message
        .calls
        .iter()
        .map(|call| canonical::arguments(&call.arguments))
        .collect();
    let calls = message
        .calls
        .iter()
        .zip(&arguments)
        .flat_map(|(call, arguments)| [call.name.as_bytes(), arguments.as_bytes()]);
    let fields = [role.as_bytes(), text.as_bytes()]
        .into_iter()
        .chain(calls)
        .chain(message.parts.iter().map(<[u8; 32]>::as_slice));
    salt.hash("message", fields)
}

/// What the instructions are known by; `None` has a hash of its own.
pub fn instructions(salt: &Salt, text: Option<&str>) -> Digest {
    match text {
        Some(text) => salt.hash(
            "instructions",
            [canonical::text(Role::User, text).as_bytes()],
        ),
        None => salt.hash("no instructions", []),
    }
}

/// What a form is known by, on a thread that was told of it.
pub fn form(salt: &Salt, form: &Form) -> Digest {
    salt.hash("form", [form.block().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::ToolCall;

    #[test]
    fn equal_messages_have_equal_digests_and_others_do_not() {
        let salt = Salt::random().unwrap();
        let of = |message: &Message| digest(&salt, message);
        let call = |id: &str, arguments: &str| Message {
            calls: vec![ToolCall {
                id: id.to_owned(),
                name: "look_up".to_owned(),
                arguments: arguments.to_owned(),
            }],
            ..Message::said(Role::Assistant, "")
        };

        assert_eq!(
            of(&Message::said(Role::User, "hi ")),
            of(&Message::said(Role::User, "hi"))
        );
        assert_ne!(
            of(&Message::said(Role::User, "hi")),
            of(&Message::said(Role::Assistant, "hi"))
        );
        assert_eq!(of(&call("1", "{\"a\": 1}")), of(&call("2", "{\"a\":1}")));
        assert_ne!(of(&call("1", "{\"a\":1}")), of(&call("1", "{\"a\":2}")));
    }

    #[test]
    fn the_border_between_two_messages_counts() {
        let salt = Salt::random().unwrap();
        let seed = Fingerprint([0; 16]);
        let roll = |texts: &[&str]| {
            texts.iter().fold(seed, |roll, text| {
                roll.then(&salt, &digest(&salt, &Message::said(Role::User, *text)))
            })
        };

        assert_ne!(roll(&["ab", "c"]), roll(&["a", "bc"]));
        assert_ne!(roll(&["ab"]), roll(&["a", "b"]));
    }

    #[test]
    fn tenants_models_and_users_are_apart() {
        let salt = Salt::random().unwrap();
        let users = |users: &[&str]| Names {
            users: users.iter().map(ToString::to_string).collect(),
            ..Names::default()
        };
        let (a, b) = (salt.tenant_of_key("a"), salt.tenant_of_key("b"));
        let seeds = [
            Fingerprint::seed(&salt, &a, "m", &users(&[])),
            Fingerprint::seed(&salt, &b, "m", &users(&[])),
            Fingerprint::seed(&salt, &a, "n", &users(&[])),
            Fingerprint::seed(&salt, &a, "m", &users(&["u"])),
            Fingerprint::seed(&salt, &a, "m", &users(&["u", ""])),
        ];

        for (at, seed) in seeds.iter().enumerate() {
            assert!(!seeds[..at].contains(seed), "seed {at} is not its own");
        }
    }

    #[test]
    fn absent_instructions_differ_from_empty_ones() {
        let salt = Salt::random().unwrap();

        assert_ne!(instructions(&salt, None), instructions(&salt, Some("")));
    }
}
