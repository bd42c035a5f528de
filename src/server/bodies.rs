//! What a request's body is known by, so that a retry is told from another request.

use std::sync::Arc;

use highway::{HighwayHash as _, HighwayHasher};
use memchr::memchr2;

use crate::conversation::salt::Salt;

/// Hashes bodies. Cloning shares it.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it holds a key")]
pub struct Bodies(Arc<HighwayHasher>);

impl Bodies {
    pub fn new(salt: &Salt) -> Self {
        Self(Arc::new(salt.quick("bodies")))
    }

    /// Of the route and the body without insignificant white space, in one pass and without a copy:
    /// the stretches between white space are fed to the hash as they lie.
    pub fn hash(&self, route: &str, json: &[u8]) -> [u8; 32] {
        let mut hash = HighwayHasher::clone(&self.0);
        hash.append(route.as_bytes());
        hash.append(&[0]);
        let mut start = 0;
        let mut at = 0;
        while let Some(byte) = json.get(at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => {
                    hash.append(json.get(start..at).unwrap_or_default());
                    start = at + 1;
                }
                b'"' => at = end_of_string(json, at),
                _ => {}
            }
            at += 1;
        }
        hash.append(json.get(start..).unwrap_or_default());
        let mut bytes = [0; 32];
        for (word, eight) in hash.finalize256().iter().zip(bytes.chunks_exact_mut(8)) {
            eight.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Where the string that begins here has its other quotation mark.
fn end_of_string(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(next) = json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += next;
        if json.get(at) == Some(&b'"') {
            return at;
        }
        // Whatever is escaped.
        at += 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(route: &str, json: &[u8]) -> [u8; 32] {
        Bodies::new(&Salt::fixed([7; 32])).hash(route, json)
    }

    #[test]
    fn another_route_or_another_proxy_knows_a_body_by_something_else() {
        let elsewhere = Bodies::new(&Salt::fixed([8; 32]));

        assert_eq!(hash("/r", b"{}"), hash("/r", b"{}"));
        assert_ne!(hash("/r", b"{}"), hash("/s", b"{}"));
        assert_ne!(hash("/r", b"{}"), elsewhere.hash("/r", b"{}"));
    }

    /// What a request is known by is made of it, and kept with its run: a retry is told by that after a restart.
    #[test]
    fn the_hash_of_a_body_stays_what_it_is() {
        let body = br#"{"model": "chaturdata", "messages": [{"role": "user", "content": "Revenue by region?"}]}"#;

        let hex: String = hash("/chat/completions", body)
            .map(|byte| format!("{byte:02x}"))
            .concat();
        assert_eq!(
            hex,
            "8cc6264c1076fc0242163b8ed74220a2c321d23f64ea2420adaa1e16b7926d5f"
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

            prop_assert_eq!(one == other, plain(&one) == plain(&other));
        }
    }
}
