//! What the edge refuses by itself, in words.

use std::time::Duration;

use crate::run::notes;

/// What the edge refuses by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the body is not valid JSON: {0}")]
    Syntax(String),
    #[error("{message}")]
    Value {
        message: String,
        param: Option<String>,
    },
    #[error("{message}")]
    Unsupported { message: String, param: String },
    #[error("one Host header is wanted, and there are {0}")]
    HostCount(usize),
    #[error(
        "the host {0} is not allowed; add its name to server.allowed_hosts \
         (or CHATURDATA_PROXY_SERVER__ALLOWED_HOSTS) if it is one of this proxy's own"
    )]
    Host(String),
    #[error(
        "requests from the origin {0} are not allowed; add it to server.allowed_origins \
         (or CHATURDATA_PROXY_SERVER__ALLOWED_ORIGINS) if its pages may call this proxy"
    )]
    Origin(String),
    #[error("{0}")]
    Credentials(&'static str),
    #[error("no API key was sent; send one as 'Authorization: Bearer KEY'")]
    MissingKey,
    #[error("Incorrect API key provided: {0}")]
    WrongKey(&'static str),
    #[error("too many wrong API keys came from this address")]
    TooManyWrongKeys(Duration),
    /// In the words that a request is told which follows on one.
    #[error("there is no response {0} here")]
    NoResponse(String),
    #[error("there is no conversation {0} here")]
    NoConversation(String),
    #[error("there is no item {0} in this conversation")]
    NoItem(String),
    #[error(transparent)]
    Full(#[from] notes::Full),
    #[error("there is no route {0}")]
    Route(String),
    #[error("this route does not take {0}")]
    Method(String),
    #[error("{0}")]
    MediaType(&'static str),
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error(
        "the head of the request is larger than {bytes} bytes or has more than {headers} headers"
    )]
    HeadTooLarge { bytes: usize, headers: usize },
    #[error("the body came too slowly")]
    SlowBody,
    #[error("the body broke off")]
    BrokenBody,
    #[error("too many requests with this key wait for their answers")]
    TooManyWaiting(Duration),
    #[error("too many requests wait for their answers")]
    Overloaded(Duration),
    #[error("the proxy failed; its log says more")]
    Panic,
}

impl Refusal {
    /// Whether what the caller sends next cannot be trusted to be a request.
    pub fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::HostCount(_) | Self::TooLarge(_) | Self::SlowBody | Self::BrokenBody
        )
    }
}
