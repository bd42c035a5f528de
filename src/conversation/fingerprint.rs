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
        match salt.roller() {
            Some(roller) => roller.roll(self, message),
            None => Self(cut(
                &salt.hash("message after", [self.0.as_slice(), message])
            )),
        }
    }
}

/// Role, canonical text, tool calls and the hashes of parts that are not text. Ids that clients
/// mint anew do not count.
pub fn digest(salt: &Salt, message: &Message) -> Digest {
    if let Some(facts) = message.facts() {
        return facts.digest;
    }
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
    salt.hash_text("message", fields)
}

/// What the instructions are known by; `None` has a hash of its own.
pub fn instructions(salt: &Salt, text: Option<&str>) -> Digest {
    match text {
        Some(text) => salt.hash_text(
            "instructions",
            [canonical::text(Role::User, text).as_bytes()],
        ),
        None => salt.hash_text("no instructions", []),
    }
}

/// What a form is known by, on a thread that was told of it.
pub fn form(salt: &Salt, form: &Form) -> Digest {
    salt.hash_text("form", [form.block().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::ToolCall;
    use crate::ids::TextHash;

    /// One for each way of hashing texts.
    fn salts() -> [Salt; 2] {
        [TextHash::Highway, TextHash::Sha256].map(|texts| Salt::of_state([7; 32], texts))
    }

    /// A state's conversations are found by these.
    #[test]
    fn what_is_known_stays_known_by_what_it_is() {
        let known = salts().map(|salt| {
            let message = digest(&salt, &Message::said(Role::User, "Revenue by region?"));
            let once = Fingerprint([0; 16]).then(&salt, &message);
            [
                message.as_slice(),
                &once.then(&salt, &message).0,
                &instructions(&salt, Some("Be brief.")),
                &instructions(&salt, None),
            ]
            .map(|hash| {
                hash.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            })
        });

        let highway = [
            "aa6b075942e1c439a97e26c72092b0e575868eb141a769835413be6f8c01263a",
            "42deaf1d52655b4a370a6a050891d052",
            "6104e8dcde82e34df7d22d46f95a77efe0cd9e2145ec74bf68e877c510906dd2",
            "16bf42d20f837e4166243909eae4988b2c341533aae9c281943a58089eb998db",
        ];
        let sha256 = [
            "b1e7f7e69164f20c09c4b244bf84d85a756e53901fa60ff74aad7bb5c59b4e7c",
            "01891d55276a1efb23c8df2e889ae7bf",
            "7d98416c03a0a097712da3a96ab72b00553c23a0065d85062a67b2b8c4fde5d7",
            "5f259058bd982f9b757cee7f43a6c85804009209505fc58de2a4dae467a00061",
        ];
        assert_eq!(known, [highway, sha256]);
    }

    #[test]
    fn equal_messages_have_equal_digests_and_others_do_not() {
        for salt in salts() {
            are_told_apart(&salt);
        }
    }

    fn are_told_apart(salt: &Salt) {
        let of = |message: &Message| digest(salt, message);
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
        for salt in salts() {
            let roll = |texts: &[&str]| {
                texts.iter().fold(Fingerprint([0; 16]), |roll, text| {
                    roll.then(&salt, &digest(&salt, &Message::said(Role::User, *text)))
                })
            };

            assert_ne!(roll(&["ab", "c"]), roll(&["a", "bc"]));
            assert_ne!(roll(&["ab"]), roll(&["a", "b"]));
            assert_ne!(roll(&["a", "b"]), roll(&["b", "a"]));
        }
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
        for salt in salts() {
            assert_ne!(instructions(&salt, None), instructions(&salt, Some("")));
        }
    }
}
