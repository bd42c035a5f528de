//! What callers note on a response or a conversation: a few short strings.

use std::collections::BTreeMap;

use super::Error;
use super::fields::Fields;

/// What callers note on a response or a conversation.
pub type Metadata = BTreeMap<String, String>;

const MOST: usize = 16;
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 512;

/// The field `metadata`, within the bounds that OpenAI sets.
pub fn metadata(fields: Fields<'_>) -> Result<Metadata, Error> {
    let Some(metadata) = fields.object("metadata", "metadata.")? else {
        return Ok(Metadata::new());
    };
    let mut read = Metadata::new();
    for key in metadata.names() {
        if read.len() == MOST || key.chars().count() > LONGEST_KEY {
            let message = format!(
                "metadata must have at most {MOST} keys of at most {LONGEST_KEY} characters"
            );
            return Err(Error::invalid("metadata", message));
        }
        let value = metadata.text(key)?.unwrap_or_default();
        if value.chars().count() > LONGEST_VALUE {
            let path = metadata.path(key);
            let message = format!("{path} must have at most {LONGEST_VALUE} characters");
            return Err(Error::invalid(path, message));
        }
        read.insert(key.to_owned(), value.to_owned());
    }
    Ok(read)
}
