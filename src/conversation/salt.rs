//! The secret of this proxy that every hash it keeps is keyed with.

use std::fmt;
use std::sync::Arc;

use highway::{HighwayHash as _, HighwayHasher, Key};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::rolling::Roller;
use crate::ids::{Tenant, TextHash};

/// 32 random bytes. Without them no hash that we keep can be tried against guesses.
///
/// Held as the hashes' states after the key, which each would otherwise take in anew. Cloning shares them.
#[derive(Clone)]
pub struct Salt(Arc<Keyed>);

struct Keyed {
    mac: Hmac<Sha256>,
    /// `None` where texts are hashed by HMAC-SHA256 as well.
    texts: Option<Texts>,
}

struct Texts {
    quick: HighwayHasher,
    roller: Roller,
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

impl Salt {
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::fixed(bytes))
    }

    /// One that was random when it was made, of a state that this version has begun.
    pub fn fixed(bytes: [u8; 32]) -> Self {
        Self::of_state(bytes, TextHash::Highway)
    }

    /// That of a state, which holds texts' hashes of this kind.
    pub fn of_state(bytes: [u8; 32], texts: TextHash) -> Self {
        let mac = Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length");
        let texts = (texts == TextHash::Highway).then(|| Texts {
            quick: quick(&mac, "texts"),
            roller: Roller::of(&hash(&mac, "roll", [])),
        });
        Self(Arc::new(Keyed { mac, texts }))
    }

    /// The tenant of whoever presents this upstream key.
    pub fn tenant_of_key(&self, key: &str) -> Tenant {
        Tenant(self.hash("tenant of key", [key.as_bytes()]))
    }

    /// The tenant of a caller key's name: a key can be rotated, the name stays.
    pub fn tenant_named(&self, name: &str) -> Tenant {
        Tenant(self.hash("tenant named", [name.as_bytes()]))
    }

    /// A faster hash, for where callers see neither its key nor what it gives, and so cannot look for two
    /// texts with one hash. Whoever can read a state has both, as with any hash that is kept beside its
    /// key. HighwayHash, by Alakuijala, Cox and Wassenberg: "Fast keyed hash/pseudo-random
    /// function using SIMD multiply and permute", 2016.
    pub fn quick(&self, purpose: &str) -> HighwayHasher {
        quick(&self.0.mac, purpose)
    }

    /// HMAC-SHA256 over the purpose and the fields, each led by its length.
    pub fn hash<'a>(
        &self,
        purpose: &'a str,
        fields: impl IntoIterator<Item = &'a [u8]>,
    ) -> [u8; 32] {
        hash(&self.0.mac, purpose, fields)
    }

    /// How it hashes texts.
    pub fn texts(&self) -> TextHash {
        match self.0.texts {
            Some(_) => TextHash::Highway,
            None => TextHash::Sha256,
        }
    }

    /// What a text is known by: callers resend all that was said, and it is hashed again with each turn.
    pub fn hash_text<'a>(
        &self,
        purpose: &'a str,
        fields: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
    ) -> [u8; 32] {
        let Some(texts) = &self.0.texts else {
            return self.hash(purpose, fields);
        };
        let fields = fields.into_iter().chain([purpose.as_bytes()]);
        let mut hash = texts.quick.clone();
        fields.clone().for_each(|field| hash.append(field));
        // Told apart from their end: how long each is, and how many they are.
        let mut count = 0_u64;
        for field in fields {
            hash.append(&(field.len() as u64).to_le_bytes());
            count += 1;
        }
        hash.append(&count.to_le_bytes());
        finished(hash)
    }

    /// What rolls transcripts on; `None` where each step is a hash of its own.
    pub fn roller(&self) -> Option<Roller> {
        self.0.texts.as_ref().map(|texts| texts.roller)
    }
}

fn hash<'a>(
    mac: &Hmac<Sha256>,
    purpose: &'a str,
    fields: impl IntoIterator<Item = &'a [u8]>,
) -> [u8; 32] {
    let mut mac = mac.clone();
    for field in std::iter::once(purpose.as_bytes()).chain(fields) {
        mac.update(&(field.len() as u64).to_le_bytes());
        mac.update(field);
    }
    mac.finalize().into_bytes().into()
}

fn quick(mac: &Hmac<Sha256>, purpose: &str) -> HighwayHasher {
    let key = hash(mac, "quick", [purpose.as_bytes()]);
    let words = |at: usize| {
        let bytes = key.get(at..).and_then(<[u8]>::first_chunk);
        u64::from_le_bytes(*bytes.expect("there are four words in 32 bytes"))
    };
    HighwayHasher::new(Key([0, 8, 16, 24].map(words)))
}

/// What a quick hash has come to, as bytes.
pub fn finished(hash: HighwayHasher) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (word, eight) in hash.finalize256().iter().zip(bytes.chunks_exact_mut(8)) {
        eight.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
