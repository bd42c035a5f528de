//! `response_format` and `text.format`: the JSON that is asked for.

use crate::form::{Described, Json, Strict};
use crate::openai::Error;
use crate::openai::fields::Fields;

/// The JSON that a format asks for; `None` for plain text.
pub fn json(format: Fields<'_>) -> Result<Option<Json>, Error> {
    match format.text("type")? {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Json::object())),
        Some("json_schema") => {
            let path = format.path("json_schema");
            let place = format!("{path}.");
            match format.object("json_schema", &place)? {
                Some(nested) => of_schema(nested).map(Some),
                // The Responses API has it flat.
                None if format.value("schema").is_some() => of_schema(format).map(Some),
                None => Err(Error::invalid(&path, format!("{path} is missing"))),
            }
        }
        Some(_) => {
            let path = format.path("type");
            let message = format!("{path} must be text, json_object or json_schema");
            Err(Error::unsupported(path, message))
        }
        None => {
            let path = format.path("type");
            Err(Error::invalid(&path, format!("{path} is missing")))
        }
    }
}

fn of_schema(fields: Fields<'_>) -> Result<Json, Error> {
    let described = Described {
        name: fields.text("name")?,
        description: fields.text("description")?,
        strict: strict(fields)?,
    };
    match fields.value("schema") {
        Some(schema) => Ok(Json::schema(schema, &fields.path("schema"), described)?),
        None => Ok(Json::object()),
    }
}

/// Whether the schema is to be kept to the letter.
pub fn strict(fields: Fields<'_>) -> Result<Strict, Error> {
    Ok(match fields.flag("strict")? {
        Some(true) => Strict::Yes,
        Some(false) | None => Strict::No,
    })
}
