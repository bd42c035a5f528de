//! The keys that callers present to a proxy that holds the upstream's key: names and hashes, in one file.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::private::{private_dir, private_file, sync_dir};
use crate::secret::{Secret, is_readable_by_others};

/// Names and hashes of the keys that are let in.
#[derive(Clone, Default)]
pub struct CallerKeys(Arc<[(String, [u8; 32])]>);

impl fmt::Debug for CallerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallerKeys").field(&self.0.len()).finish()
    }
}

impl CallerKeys {
    pub fn of(pairs: impl IntoIterator<Item = (String, Secret)>) -> Self {
        let hashed = pairs.into_iter().map(|(name, key)| (name, hash(&key)));
        Self(hashed.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These keys and those.
    pub fn joined(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(others.0.iter()).cloned().collect())
    }

    /// The name of the key. Every key is compared, so that the time tells nothing.
    pub fn name_of(&self, presented: &Secret) -> Option<&str> {
        let presented = hash(presented);
        let mut found = None;
        for (name, known) in self.0.iter() {
            if bool::from(known.ct_eq(&presented)) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

/// Keys are random and long, so a plain hash of one cannot be tried against guesses.
fn hash(key: &Secret) -> [u8; 32] {
    Sha256::digest(key.expose().as_bytes()).into()
}

/// Why the file of keys could not be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} cannot be read")]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{0} is damaged ({1}) and is left as it is; mend it, or move it away to begin anew")]
    Damaged(PathBuf, String),
    #[error("{0} was written by a newer version of this program and is left as it is")]
    Newer(PathBuf),
    #[error("{0} cannot be written")]
    Unwritable(PathBuf, #[source] io::Error),
    #[error("there is a key named {0} already; remove it first, or choose another name")]
    NameTaken(String),
    #[error("there is no key named {0}")]
    NoSuchName(String),
    #[error("a name has 1 to 64 letters, digits, dots, dashes and underscores")]
    BadName,
    #[error("the system gives no random numbers")]
    NoRandomness(#[source] getrandom::Error),
}

/// The name of the key that a container is given in its environment: no file may hold it.
pub const ENVIRONMENT: &str = "environment";

const VERSION: u32 = 1;

/// The file of keys in the state folder.
#[derive(Clone, Debug)]
pub struct CallersFile {
    dir: PathBuf,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    keys: Vec<Entry>,
}

/// What the file says of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    #[serde(with = "hex")]
    sha256: [u8; 32],
    /// Seconds since the epoch.
    pub created: u64,
}

impl CallersFile {
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            path: dir.join("caller-keys.json"),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_readable_by_others(&self) -> bool {
        is_readable_by_others(&self.path)
    }

    /// Oldest first.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::Unreadable(self.path.clone(), error)),
        };
        // Before the rest is looked at: a newer version may have other fields.
        #[derive(Deserialize)]
        struct Stamp {
            version: u32,
        }
        let damaged = |error: serde_json::Error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Error::Damaged(self.path.clone(), place)
        };
        let stamp: Stamp = serde_json::from_str(&text).map_err(damaged)?;
        if stamp.version > VERSION {
            return Err(Error::Newer(self.path.clone()));
        }
        let contents: Contents = serde_json::from_str(&text).map_err(damaged)?;
        Ok(contents.keys)
    }

    pub fn keys(&self) -> Result<CallerKeys, Error> {
        let entries = self.entries()?.into_iter();
        Ok(CallerKeys(
            entries.map(|entry| (entry.name, entry.sha256)).collect(),
        ))
    }

    /// Makes a key. It is told here and never again.
    pub fn add(&self, name: &str) -> Result<Secret, Error> {
        let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_allowed) {
            return Err(Error::BadName);
        }
        let _lock = self.lock()?;
        let mut entries = self.entries()?;
        if name == ENVIRONMENT || entries.iter().any(|entry| entry.name == name) {
            return Err(Error::NameTaken(name.to_owned()));
        }
        let key = random_key()?;
        entries.push(Entry {
            name: name.to_owned(),
            sha256: hash(&key),
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        });
        self.write(entries)?;
        Ok(key)
    }

    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut entries = self.entries()?;
        let before = entries.len();
        entries.retain(|entry| entry.name != name);
        if entries.len() == before {
            return Err(Error::NoSuchName(name.to_owned()));
        }
        self.write(entries)
    }

    /// Held while the file is read and replaced, so that two changes at once are both kept.
    fn lock(&self) -> Result<File, Error> {
        let unwritable = |error| Error::Unwritable(self.dir.clone(), error);
        private_dir(&self.dir).map_err(unwritable)?;
        let file = private_file()
            .truncate(false)
            .open(self.dir.join("caller-keys.lock"))
            .map_err(unwritable)?;
        file.lock().map_err(unwritable)?;
        Ok(file)
    }

    /// Replaces the file as a whole: whoever reads it sees the old keys or the new ones.
    fn write(&self, keys: Vec<Entry>) -> Result<(), Error> {
        let contents = Contents {
            version: VERSION,
            keys,
        };
        let replace = || -> io::Result<()> {
            let new = self.dir.join("caller-keys.json.new");
            let mut file = private_file().truncate(true).open(&new)?;
            serde_json::to_writer_pretty(&mut file, &contents)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            sync_dir(&self.dir)
        };
        replace().map_err(|error| Error::Unwritable(self.path.clone(), error))
    }
}

/// 256 random bits, in 43 letters that no shell, URL or header minds.
fn random_key() -> Result<Secret, Error> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = Zeroizing::new([0u8; 33]);
    // The 33rd byte stays 0: it only fills up the last letters.
    let random = bytes.first_chunk_mut::<32>().expect("32 is less than 33");
    getrandom::fill(random).map_err(Error::NoRandomness)?;
    let mut text = String::from("cdp_");
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        for shift in [18, 12, 6, 0] {
            text.extend(
                LETTERS
                    .get(bits >> shift & 63)
                    .map(|letter| char::from(*letter)),
            );
        }
    }
    text.truncate("cdp_".len() + 43);
    Ok(Secret::new(text))
}

/// A hash as the file writes it.
mod hex {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&text(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        bytes(&text).ok_or_else(|| D::Error::custom("not a hash"))
    }

    pub fn text(bytes: &[u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn bytes(text: &str) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_the_whole_of_it() {
        let key = |text: &str| Secret::new(text);
        let keys = CallerKeys::of([
            ("one".to_owned(), key("cdp_first")),
            ("two".to_owned(), key("cdp_second")),
        ]);

        assert_eq!(keys.name_of(&key("cdp_first")), Some("one"));
        assert_eq!(keys.name_of(&key("cdp_second")), Some("two"));
        for wrong in ["cdp_firs", "cdp_first ", "cdp_", ""] {
            assert_eq!(keys.name_of(&key(wrong)), None);
        }
        assert_eq!(CallerKeys::default().name_of(&key("")), None);
    }

    #[test]
    fn two_made_keys_differ_and_hold_256_bits() {
        let (one, other) = (random_key().unwrap(), random_key().unwrap());

        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), "cdp_".len() + 43);
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn hex_is_read_as_it_was_written() {
        let bytes = hash(&Secret::new("x"));

        assert_eq!(hex::bytes(&hex::text(&bytes)), Some(bytes));
        for wrong in [
            "",
            "00",
            &"+f".repeat(32),
            &"g".repeat(64),
            &"é".repeat(32),
            &"0".repeat(65),
        ] {
            assert_eq!(hex::bytes(wrong), None);
        }
    }
}
