//! Choices under one head: what the bodies and the chunks of completions have in common.

use serde::Serialize;

use super::Head;
use super::usage::Usage;

/// Choices under one head.
#[derive(Clone, Debug, Serialize)]
pub struct Choices<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<C>,
    /// Absent where usage was not asked for, `null` on all chunks but the last where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

impl<'a, C> Choices<'a, C> {
    pub fn new(
        object: &'static str,
        head: &'a Head,
        choices: Vec<C>,
        usage: Option<Option<Usage>>,
    ) -> Self {
        Self {
            id: &head.id,
            object,
            created: head.created,
            model: &head.model,
            choices,
            usage,
        }
    }
}
