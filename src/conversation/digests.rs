//! Digests of texts that were hashed before: callers resend all that was said, turn after turn.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use highway::{HighwayHash as _, HighwayHasher};

use super::salt::Salt;
use super::{Message, Role, fingerprint};
use crate::form::Form;
use crate::ids::{Digest, Tenant};

/// Shorter texts, in bytes, are hashed as fast as they are found.
const WORTH_IT: usize = 64;

/// 32,768 digests in all, in 1.5 MiB; a shard makes room for its share when it first has one.
const SHARDS: usize = 512;
const SETS: usize = 16;
const WAYS: usize = 4;

/// Digests by a quick keyed hash of what they are made of, and of whose it is: how soon one is found
/// tells no tenant what another one has said. Nor could a mix-up lead to another tenant's thread: a
/// transcript is hashed from its tenant on.
pub struct Digests {
    pub salt: Salt,
    quick: HighwayHasher,
    shards: Box<[Mutex<Vec<Set>>]>,
}

/// What a text is: each kind has digests of its own.
#[derive(Clone, Copy, Debug)]
enum Kind {
    User,
    Assistant,
    Tool,
    Instructions,
    Form,
}

/// The one that came last is first; the last one makes room.
type Set = [Known; WAYS];

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// 128 bits that nobody outside can foresee: that two texts are taken for one is as good as impossible.
    by: [u64; 2],
    digest: Digest,
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digests")
    }
}

impl Digests {
    pub fn new(salt: Salt) -> Self {
        Self {
            quick: salt.quick("messages"),
            salt,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Of a message that comes again with each turn.
    pub fn message(&self, tenant: &Tenant, message: &Message) -> Digest {
        let digest = || fingerprint::digest(&self.salt, message);
        if !message.calls.is_empty() || !message.parts.is_empty() {
            return digest();
        }
        let kind = match message.role {
            Role::User => Kind::User,
            Role::Assistant => Kind::Assistant,
            Role::Tool => Kind::Tool,
        };
        self.once(tenant, kind, &message.text, digest)
    }

    /// Of what the model is to heed, as [`fingerprint::instructions`] has it.
    pub fn instructions(&self, tenant: &Tenant, text: Option<&str>) -> Digest {
        let digest = || fingerprint::instructions(&self.salt, text);
        match text {
            Some(text) => self.once(tenant, Kind::Instructions, text, digest),
            None => digest(),
        }
    }

    pub fn form(&self, tenant: &Tenant, form: &Form) -> Digest {
        let digest = || fingerprint::form(&self.salt, form);
        self.once(tenant, Kind::Form, form.block(), digest)
    }

    fn once(
        &self,
        tenant: &Tenant,
        kind: Kind,
        text: &str,
        digest: impl FnOnce() -> Digest,
    ) -> Digest {
        if text.len() < WORTH_IT {
            return digest();
        }
        let (by, at) = self.place(tenant, kind, text);
        let Some(shard) = self.shards.get(at % SHARDS) else {
            return digest();
        };
        if let Some(known) = find(shard, at / SHARDS, by) {
            return known;
        }
        let digest = digest();
        remember(shard, at / SHARDS, Known { by, digest });
        digest
    }

    /// What the text is known by, and where.
    fn place(&self, tenant: &Tenant, kind: Kind, text: &str) -> ([u64; 2], usize) {
        let mut quick = self.quick.clone();
        quick.append(&tenant.0);
        quick.append(&[kind as u8]);
        quick.append(text.as_bytes());
        let by = quick.finalize128();
        (by, by[0] as usize)
    }
}

fn find(shard: &Mutex<Vec<Set>>, at: usize, by: [u64; 2]) -> Option<Digest> {
    let sets = shard.lock().unwrap_or_else(PoisonError::into_inner);
    let set = sets.get(at % SETS)?;
    let known = set.iter().find(|known| known.by == by)?;
    Some(known.digest)
}

fn remember(shard: &Mutex<Vec<Set>>, at: usize, known: Known) {
    let mut sets = shard.lock().unwrap_or_else(PoisonError::into_inner);
    if sets.is_empty() {
        sets.resize(SETS, Set::default());
    }
    if let Some(set) = sets.get_mut(at % SETS) {
        set.rotate_right(1);
        set[0] = known;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::conversation::ToolCall;
    use crate::form::{Described, Json, Strict};

    fn digests() -> Digests {
        Digests::new(Salt::fixed([7; 32]))
    }

    #[test]
    fn a_text_that_comes_again_is_not_hashed_again() {
        let digests = digests();
        let hashed = Cell::new(0_u8);
        let digest = || {
            hashed.set(hashed.get() + 1);
            [hashed.get(); 32]
        };
        let texts = ["one", "another"].map(|word| word.repeat(30));

        for _ in 0..3 {
            for (text, digest_of_it) in texts.iter().zip([1, 2]) {
                let of = digests.once(&Tenant([0; 32]), Kind::User, text, digest);
                assert_eq!(of, [digest_of_it; 32]);
            }
        }
    }

    #[test]
    fn tenants_and_kinds_have_memories_of_their_own() {
        let digests = digests();
        let text = "text ".repeat(30);
        let (a, b) = (Tenant([1; 32]), Tenant([2; 32]));
        let asked = [
            (a, Kind::User),
            (a, Kind::Assistant),
            (a, Kind::Tool),
            (a, Kind::Instructions),
            (a, Kind::Form),
            (b, Kind::User),
        ];

        for (number, (tenant, kind)) in (0..).zip(asked) {
            let of = digests.once(&tenant, kind, &text, || [number; 32]);
            assert_eq!(of, [number; 32], "{kind:?}");
        }
    }

    #[test]
    fn of_more_texts_than_are_remembered_none_has_the_digest_of_another() {
        let digests = digests();
        for round in 0..2 {
            for number in 0..2 * (SHARDS * SETS * WAYS) as u64 {
                let text = format!("{number:0100}");
                let mut own = [0; 32];
                own[..8].copy_from_slice(&number.to_le_bytes());
                let of = digests.once(&Tenant([0; 32]), Kind::User, &text, || own);
                assert_eq!(of, own, "in round {round}");
            }
        }
    }

    #[test]
    fn of_a_set_the_text_that_came_first_makes_room_first() {
        let digests = digests();
        let tenant = Tenant([0; 32]);
        let is_known = |text: &String| {
            let hashed = Cell::new(false);
            digests.once(&tenant, Kind::User, text, || {
                hashed.set(true);
                [0; 32]
            });
            !hashed.get()
        };
        let place = |text: &str| digests.place(&tenant, Kind::User, text).1 % (SHARDS * SETS);
        let texts = (0..).map(|number| format!("{number:0100}"));
        let one_set = texts.filter(|text| place(text) == 0).take(2 * WAYS);
        let one_set: Vec<String> = one_set.collect();

        let (first, last) = one_set.split_at(WAYS);
        assert!(!first.iter().any(is_known));
        for (oldest, new) in first.iter().zip(last) {
            assert!(is_known(oldest));
            assert!(!is_known(new));
        }
        assert!(last.iter().all(is_known));
        assert!(!first.iter().any(is_known));
    }

    #[test]
    fn what_is_not_in_the_text_of_a_message_counts_too() {
        let digests = digests();
        let tenant = Tenant([3; 32]);
        let text = "text ".repeat(30);
        let said = |role| Message::said(role, text.as_str());
        let call = |name: &str| Message {
            calls: vec![ToolCall {
                id: "1".to_owned(),
                name: name.to_owned(),
                arguments: "{}".to_owned(),
            }],
            ..said(Role::Assistant)
        };
        let part = |hash| Message {
            parts: vec![[hash; 32]],
            ..said(Role::User)
        };
        let messages = [
            said(Role::User),
            said(Role::Assistant),
            said(Role::Tool),
            call("f"),
            call("g"),
            part(1),
            part(2),
        ];

        for message in messages.iter().chain(&messages) {
            let plain = fingerprint::digest(&digests.salt, message);
            assert_eq!(digests.message(&tenant, message), plain);
        }
    }

    #[test]
    fn forms_have_the_digests_that_hashing_gives() {
        let digests = digests();
        let form = |kind: &str| {
            let schema = serde_json::json!({"type": kind});
            let described = Described {
                name: None,
                description: None,
                strict: Strict::No,
            };
            Form::json(Json::schema(&schema, "schema", described).unwrap())
        };
        let forms = ["string", "number"].map(form);

        for form in forms.iter().chain(&forms) {
            let of = digests.form(&Tenant([3; 32]), form);
            assert_eq!(of, fingerprint::form(&digests.salt, form));
        }
    }

    #[test]
    fn its_key_is_not_shown() {
        assert_eq!(format!("{:?}", digests()), "Digests");
    }

    proptest! {
        #[test]
        fn a_remembered_digest_is_the_one_that_hashing_gives(
            said in vec((0..3_u8, "[a-c\u{e9}\r\n ]{60,70}|[ab]{0,3}"), 1..12),
            rounds in 2..4_usize,
        ) {
            let digests = digests();
            let tenant = Tenant([3; 32]);
            for (role, text) in said.iter().cycle().take(rounds * said.len()) {
                let role = [Role::User, Role::Assistant, Role::Tool][usize::from(*role)];
                let message = Message::said(role, text.as_str());
                let plain = fingerprint::digest(&digests.salt, &message);
                prop_assert_eq!(digests.message(&tenant, &message), plain);
                let plain = fingerprint::instructions(&digests.salt, Some(text));
                prop_assert_eq!(digests.instructions(&tenant, Some(text)), plain);
            }
        }
    }
}
