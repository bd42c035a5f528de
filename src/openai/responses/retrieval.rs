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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<Retrieval, Error> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Retrieval::read(&query.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_stream_may_be_taken_up_behind_an_event() {
        for (query, stream, starting_after) in [
            (vec![], false, None),
            (vec![("include[]", "x"), ("stream", "false")], false, None),
            (vec![("stream", "true")], true, None),
            (
                vec![("starting_after", "2"), ("stream", "true")],
                true,
                Some(2),
            ),
        ] {
            let expected = Retrieval {
                stream,
                starting_after,
            };
            assert_eq!(read(&query), Ok(expected), "{query:?}");
        }
    }

    #[test]
    fn a_query_that_means_nothing_is_refused_by_its_parameter() {
        for (query, param) in [
            (vec![("stream", "yes")], "stream"),
            (
                vec![("stream", "true"), ("starting_after", "-1")],
                "starting_after",
            ),
            (vec![("starting_after", "1")], "starting_after"),
        ] {
            let error = read(&query).unwrap_err();

            assert_eq!(error.param.as_deref(), Some(param), "{query:?}");
        }
    }
}
