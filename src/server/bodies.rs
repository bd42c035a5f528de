//! What a request's body is known by, so that a retry is told from another request.

use std::sync::Arc;

use highway::{HighwayHash as _, HighwayHasher};
use sha2::{Digest as _, Sha256};

use crate::conversation::known::{Known, KnownOf};
use crate::conversation::salt::{Salt, finished};
use crate::ids::{Tenant, TextHash};
use crate::openai::outline::Outline;

/// Hashes bodies, and remembers what they say. Cloning shares it.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it holds a key")]
pub struct Bodies {
    hash: Hash,
    known: Arc<Known>,
}

#[derive(Clone)]
enum Hash {
    Highway(Arc<HighwayHasher>),
    Sha256,
}

impl Bodies {
    /// As the runs of a state know the requests that they were begun for.
    pub fn new(salt: &Salt) -> Self {
        Self {
            hash: match salt.texts() {
                TextHash::Highway => Hash::Highway(Arc::new(salt.quick("bodies"))),
                TextHash::Sha256 => Hash::Sha256,
            },
            known: Arc::new(Known::new(salt)),
        }
    }

    /// What is known of the messages that this tenant sent before.
    pub fn known_of(&self, tenant: &Tenant) -> KnownOf {
        KnownOf::new(Arc::clone(&self.known), tenant)
    }

    /// Of the route and the body without insignificant white space, in one pass and without a copy:
    /// the stretches between white space are fed to the hash as they lie. On the way it is seen where the
    /// elements of a list lie.
    pub fn hash(
        &self,
        route: &str,
        json: &[u8],
        list: Option<&str>,
    ) -> ([u8; 32], Option<Outline>) {
        match &self.hash {
            Hash::Highway(key) => {
                let mut hash = HighwayHasher::clone(key);
                let outline = feed(route, json, list, |bytes| hash.append(bytes));
                (finished(hash), outline)
            }
            Hash::Sha256 => {
                let mut hash = Sha256::new();
                let outline = feed(route, json, list, |bytes| hash.update(bytes));
                (hash.finalize().into(), outline)
            }
        }
    }
}

fn feed(
    route: &str,
    json: &[u8],
    list: Option<&str>,
    mut take: impl FnMut(&[u8]),
) -> Option<Outline> {
    take(route.as_bytes());
    take(&[0]);
    Outline::of(json, list, take)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [TextHash; 2] = [TextHash::Highway, TextHash::Sha256];

    fn hash_by(texts: TextHash, route: &str, json: &[u8]) -> [u8; 32] {
        Bodies::new(&Salt::of_state([7; 32], texts))
            .hash(route, json, None)
            .0
    }

    fn hash(route: &str, json: &[u8]) -> [[u8; 32]; 2] {
        BOTH.map(|texts| hash_by(texts, route, json))
    }

    #[test]
    fn another_route_or_another_proxy_knows_a_body_by_something_else() {
        let elsewhere = Bodies::new(&Salt::fixed([8; 32]));

        assert_eq!(hash("/r", b"{}"), hash("/r", b"{}"));
        for texts in BOTH {
            assert_ne!(hash_by(texts, "/r", b"{}"), hash_by(texts, "/s", b"{}"));
        }
        let highway = hash_by(TextHash::Highway, "/r", b"{}");
        assert_ne!(highway, elsewhere.hash("/r", b"{}", None).0);
    }

    /// What a request is known by is made of it, and kept with its run: a retry is told by that after a restart.
    #[test]
    fn the_hash_of_a_body_stays_what_it_is() {
        let body = br#"{"model": "chaturdata", "messages": [{"role": "user", "content": "Revenue by region?"}]}"#;

        let hex = hash("/chat/completions", body)
            .map(|hash| hash.map(|byte| format!("{byte:02x}")).concat());
        assert_eq!(
            hex,
            [
                "8cc6264c1076fc0242163b8ed74220a2c321d23f64ea2420adaa1e16b7926d5f",
                "1a6293be8fe6004c42638f8125823b6f5e5bd2beb18bd1b0fb49a8aae83c4835",
            ]
        );
    }

    proptest! {
        #[test]
        fn white_space_between_tokens_changes_no_hash(text in ".*", number in any::<i32>()) {
            let value = serde_json::json!({"text": text, "list": [number, {"deep": text}]});
            let plain = serde_json::to_vec(&value).unwrap();
            let pretty = serde_json::to_vec_pretty(&value).unwrap();

            prop_assert_eq!(hash("/r", &plain), hash("/r", &pretty));
        }

        #[test]
        fn other_text_has_another_hash(one in ".*", other in ".*") {
            let plain = |text: &str| hash("/r", &serde_json::to_vec(&text).unwrap());

            for (one_hash, other_hash) in plain(&one).iter().zip(plain(&other)) {
                prop_assert_eq!(one == other, *one_hash == other_hash);
            }
        }
    }
}
