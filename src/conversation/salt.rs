//! The secret of this proxy that every hash it keeps is keyed with.

use std::fmt;

use highway::{HighwayHasher, Key};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ids::Tenant;

/// 32 random bytes. Without them no hash that we keep can be tried against guesses.
///
/// Held as HMAC's state after the key, which each hash would otherwise take in anew.
#[derive(Clone)]
pub struct Salt(Hmac<Sha256>);

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

    /// One that was random when it was made.
    pub fn fixed(bytes: [u8; 32]) -> Self {
        Self(Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length"))
    }

    /// The tenant of whoever presents this upstream key.
    pub fn tenant_of_key(&self, key: &str) -> Tenant {
        Tenant(self.hash("tenant of key", [key.as_bytes()]))
    }

    /// The tenant of a caller key's name: a key can be rotated, the name stays.
    pub fn tenant_named(&self, name: &str) -> Tenant {
        Tenant(self.hash("tenant named", [name.as_bytes()]))
    }

    /// A faster hash, for where nobody outside sees its key or what it gives, and so cannot look for two
    /// texts with one hash. HighwayHash, by Alakuijala, Cox and Wassenberg: "Fast keyed hash/pseudo-random
    /// function using SIMD multiply and permute", 2016.
    pub fn quick(&self, purpose: &str) -> HighwayHasher {
        let key = self.hash("quick", [purpose.as_bytes()]);
        let words = |at: usize| {
            let bytes = key.get(at..).and_then(<[u8]>::first_chunk);
            u64::from_le_bytes(*bytes.expect("there are four words in 32 bytes"))
        };
        HighwayHasher::new(Key([0, 8, 16, 24].map(words)))
    }

    /// HMAC-SHA256 over the purpose and the fields, each led by its length.
    pub fn hash<'a>(
        &self,
        purpose: &'a str,
        fields: impl IntoIterator<Item = &'a [u8]>,
    ) -> [u8; 32] {
        let mut mac = self.0.clone();
        for field in std::iter::once(purpose.as_bytes()).chain(fields) {
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }
}
