//! Reading JSON objects as clients write them: unknown keys are skipped, of equal keys the last wins.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A value made of the keys of an object, as they come.
pub trait FromKeys<'de>: Default {
    /// What is said of a value that is no object: "a message".
    const WHAT: &'static str;

    /// Takes the value of this key, whatever came for it before.
    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error>;
}

/// Reads an object. serde's derive would refuse a key that stands twice.
pub fn object<'de, T: FromKeys<'de>, D: Deserializer<'de>>(json: D) -> Result<T, D::Error> {
    json.deserialize_map(Keys(PhantomData))
}

struct Keys<T>(PhantomData<T>);

impl<'de, T: FromKeys<'de>> Visitor<'de> for Keys<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (an object)", T::WHAT)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(key) = map.next_key::<String>()? {
            value.take(&key, &mut map)?;
        }
        Ok(value)
    }
}

/// What is `null` is as good as absent.
pub fn or_default<'de, T, A>(values: &mut A) -> Result<T, A::Error>
where
    T: Deserialize<'de> + Default,
    A: MapAccess<'de>,
{
    Ok(values.next_value::<Option<T>>()?.unwrap_or_default())
}

/// Passes over a value, whatever it is.
pub fn skip<'de, A: MapAccess<'de>>(values: &mut A) -> Result<(), A::Error> {
    values.next_value::<IgnoredAny>().map(drop)
}

/// A call's arguments: text by the book; some clients send the object itself.
pub fn text_or_json<'de, A: MapAccess<'de>>(values: &mut A) -> Result<String, A::Error> {
    Ok(match values.next_value()? {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    })
}
