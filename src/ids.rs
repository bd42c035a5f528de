//! What things are known by: one type for each.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use foldhash::quality::RandomState;
use serde::{Deserialize, Serialize};

/// A keyed hash of the upstream key, or of a caller key's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tenant(pub [u8; 32]);

/// A caller's name for a conversation; 1 to 256 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub Arc<str>);

impl Handle {
    /// Ids of ours begin so; a caller cannot make one up.
    pub fn is_ours(&self) -> bool {
        self.0.starts_with("conv_") || self.0.starts_with("resp_")
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a response that may be asked for again: 128 random bits, `resp_` and hex on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResponseId(pub [u8; 16]);

impl ResponseId {
    const LEAD: &str = "resp_";

    /// `None` for what cannot be an id of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(Self::LEAD)?.as_bytes();
        let mut id = [0; 16];
        if hex.len() != 2 * id.len() {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
            if pair.iter().any(u8::is_ascii_uppercase) {
                return None;
            }
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for ResponseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::LEAD)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The hash of a visible transcript, of one tenant, under one model and its user ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 16]);

/// A map by keys that nobody outside can choose: hashes of something secret, or numbers that are given out
/// here. How they are hashed need not withstand chosen ones.
pub type ByOurs<K, V> = DashMap<K, V, RandomState>;

/// How the hashes of texts are made that a state holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextHash {
    /// HighwayHash, and a polynomial over the hashes of a transcript.
    Highway,
    /// HMAC-SHA256, as versions before the fourth have it.
    Sha256,
}

/// A message's own hash.
pub type Digest = [u8; 32];

/// The first eight bytes of a hash, where a collision costs no more than a look at the thread.
pub type Short = [u8; 8];

/// The keyed hash of a text as it was posted, apart from its white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(pub [u8; 16]);

/// The beginning of a longer hash.
pub fn cut<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    *hash
        .first_chunk()
        .expect("what is cut is shorter than the whole")
}
