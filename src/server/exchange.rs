//! What lies between a handler and its caller, whatever the endpoint: the request apart from its
//! body, and what is needed to bring an answer back.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::FromRequestParts;
use http::Version;
use http::header::HeaderName;
use http::request::Parts;

use super::error::{ApiError, KeyOwner};
use super::listener::{Outbox, Stop};
use super::log::Note;
use super::refusal::Refusal;
use crate::config;
use crate::conversation::Decision;
use crate::run;
use crate::run::live::NotStarted;
use crate::store::backend::Backend;

const DRY_RUN: HeaderName = HeaderName::from_static("x-dry-run");

/// What the proxy needs to bring an answer to a caller. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Delivery(pub Arc<Means>);

/// As [`Delivery`] holds it.
#[derive(Debug)]
pub struct Means {
    pub stop: Stop,
    pub stream: config::Stream,
    pub key_owner: KeyOwner,
    /// The upstream refused the key that the proxy holds, and has taken it for nothing since.
    pub key_refused: AtomicBool,
    /// Where records outlive the process.
    pub state: Arc<dyn Backend>,
}

impl Deref for Delivery {
    type Target = Means;

    fn deref(&self) -> &Means {
        &self.0
    }
}

impl Means {
    /// The error as callers are told it.
    pub fn told(&self, error: run::Error) -> ApiError {
        if matches!(error, run::Error::KeyRefused(_)) && self.key_owner == KeyOwner::Proxy {
            self.key_refused.store(true, Ordering::Relaxed);
        }
        ApiError::run(error, self.key_owner)
    }

    /// The words for an error that came about long ago.
    pub fn words(&self, error: &run::Error) -> String {
        ApiError::run(error.clone(), self.key_owner).message()
    }

    /// Notes that the upstream took the key, if this answer shows it: one from memory does not.
    pub fn succeeded(&self, decision: Decision) {
        if !matches!(decision, Decision::Attached | Decision::Local) {
            self.key_refused.store(false, Ordering::Relaxed);
        }
    }

    pub fn refused(&self, refused: NotStarted) -> ApiError {
        self.told(refused.error).at(refused.place)
    }
}

/// The request apart from its body.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub note: Note,
    /// `None` within the process.
    pub outbox: Option<Arc<Outbox>>,
    pub is_dry_run: bool,
    version: Version,
}

impl<S: Sync> FromRequestParts<S> for Exchange {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let is_dry_run = match parts.headers.get(DRY_RUN).map(|value| value.as_bytes()) {
            None => false,
            Some(b"decision") => true,
            // Whoever asks for some dry run does not want a post.
            Some(_) => {
                return Err(ApiError::from(Refusal::Value {
                    message: "X-Dry-Run can be: decision".to_owned(),
                    param: Some("X-Dry-Run".to_owned()),
                }));
            }
        };
        Ok(Self {
            note: parts.extensions.get().cloned().unwrap_or_else(Note::new),
            outbox: parts.extensions.get().cloned(),
            version: parts.version,
            is_dry_run,
        })
    }
}

impl Exchange {
    /// Without chunks a body that breaks off looks like one that is complete.
    pub fn check_streams(&self) -> Result<(), Refusal> {
        if self.version < Version::HTTP_11 {
            return Err(Refusal::Unsupported {
                message: "stream needs HTTP/1.1".to_owned(),
                param: "stream".to_owned(),
            });
        }
        Ok(())
    }
}
