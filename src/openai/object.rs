//! Reading JSON objects as clients write them: unknown keys are skipped, of equal keys the last wins.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

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
        while let Some(Key(key)) = map.next_key()? {
            value.take(&key, &mut map)?;
        }
        Ok(value)
    }
}

/// A key as it lies in the text, but where something in it is escaped.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        json.deserialize_str(Text)
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

/// Keeps the value of a key that is read where it is used.
pub fn keep<'de, A: MapAccess<'de>>(
    fields: &mut Map<String, Value>,
    key: &str,
    values: &mut A,
) -> Result<(), A::Error> {
    fields.insert(key.to_owned(), values.next_value()?);
    Ok(())
}

/// A call's arguments: text by the book; some clients send the object itself.
pub fn text_or_json<'de, A: MapAccess<'de>>(values: &mut A) -> Result<String, A::Error> {
    Ok(match values.next_value()? {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    })
}
