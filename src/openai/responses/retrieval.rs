//! How a response that is there is asked for.

use crate::openai::Error;

/// How a response that is there is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retrieval {
    pub stream: bool,
    /// The number of the last event that the caller has.
    pub starting_after: Option<u64>,
}

impl Retrieval {
    /// Reads a query; what it says of other things is passed over.
    pub fn read(query: &[(String, String)]) -> Result<Self, Error> {
        let mut retrieval = Self::default();
        for (name, value) in query {
            match (name.as_str(), value.as_str()) {
                ("stream", "true") => retrieval.stream = true,
                ("stream", "false") => retrieval.stream = false,
                ("stream", _) => {
                    return Err(Error::invalid("stream", "stream must be true or false"));
                }
                ("starting_after", number) => {
                    let number = number.parse().map_err(|_| {
                        let message = "starting_after must be the number of an event";
                        Error::invalid("starting_after", message)
                    })?;
                    retrieval.starting_after = Some(number);
                }
                _ => {}
            }
        }
        if retrieval.starting_after.is_some() && !retrieval.stream {
            let message = "starting_after is for streams: add stream=true";
            return Err(Error::invalid("starting_after", message));
        }
        Ok(retrieval)
    }
}
