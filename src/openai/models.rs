//! The models that callers may name.

use serde::Serialize;

use super::{Error, Policy, Reason};

/// A model's name has at most this many bytes: every chunk of a stream repeats it.
pub const LONGEST: usize = 256;

/// The body of `GET /v1/models`.
pub fn list(policy: &Policy) -> impl Serialize {
    List {
        object: "list",
        data: policy.aliases.iter().map(|id| Model::named(id)).collect(),
    }
}

/// The body of `GET /v1/models/{id}`. Any name is a model, unless names are strict.
pub fn find(policy: &Policy, id: &str) -> Result<Model, Error> {
    check(policy, id)?;
    Ok(Model::named(id))
}

/// Whether a request may name this model.
pub fn check(policy: &Policy, id: &str) -> Result<(), Error> {
    if id.len() > LONGEST || id.chars().any(char::is_control) {
        return Err(Error::invalid(
            "model",
            format!("model must be a name of at most {LONGEST} bytes without control characters"),
        ));
    }
    if policy.strict_models && !policy.aliases.iter().any(|alias| alias == id) {
        return Err(Error {
            reason: Reason::UnknownModel,
            message: format!("the model `{id}` does not exist; GET /v1/models lists those that do"),
            param: Some("model".to_owned()),
        });
    }
    Ok(())
}

/// A model, as OpenAI describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    pub id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl Model {
    fn named(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            object: "model",
            // The first second of 2025: a name has no date, and clients want one that stays.
            created: 1_735_689_600,
            owned_by: "chaturdata",
        }
    }
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(strict_models: bool) -> Policy {
        Policy {
            aliases: vec!["chaturdata".to_owned(), "team/chaturdata".to_owned()],
            strict_models,
            ..Policy::default()
        }
    }

    #[test]
    fn any_name_is_a_model_unless_names_are_strict() {
        assert_eq!(find(&policy(false), "gpt-4o").unwrap().id, "gpt-4o");
        assert_eq!(
            find(&policy(true), "team/chaturdata").unwrap().id,
            "team/chaturdata"
        );

        let error = find(&policy(true), "gpt-4o").unwrap_err();

        assert_eq!(error.reason, Reason::UnknownModel);
        assert_eq!(
            error.message,
            "the model `gpt-4o` does not exist; GET /v1/models lists those that do"
        );
    }

    #[test]
    fn a_name_too_long_to_be_repeated_in_every_chunk_is_refused() {
        let error = find(&policy(false), &"m".repeat(LONGEST + 1)).unwrap_err();

        assert_eq!(error.reason, Reason::InvalidValue);
        assert_eq!(error.param.as_deref(), Some("model"));
    }
}
