//! Reading the fields of a request body: `null` counts as absent, and `100.0` as 100.

use serde_json::{Map, Value};

use super::Error;

/// The fields of a JSON object, and where in the request it stands.
#[derive(Clone, Copy)]
#[expect(
    missing_debug_implementations,
    reason = "it would show what callers say"
)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// Led before a field's name in errors: empty, or `stream_options.`.
    place: &'a str,
}

impl<'a> Fields<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Self {
        Self { map, place: "" }
    }

    /// The fields of an object that stands in the request; `place` is its path with a dot.
    pub fn at(map: &'a Map<String, Value>, place: &'a str) -> Self {
        Self { map, place }
    }

    pub fn value(self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The names of the fields that are there.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        let there = self.map.iter().filter(|(_, value)| !value.is_null());
        there.map(|(name, _)| name.as_str())
    }

    /// The field's path in the request.
    pub fn path(self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    pub fn text(self, name: &str) -> Result<Option<&'a str>, Error> {
        self.read(name, "a string", Value::as_str)
    }

    pub fn flag(self, name: &str) -> Result<Option<bool>, Error> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// A whole number from 1 up.
    pub fn count(self, name: &str) -> Result<Option<u64>, Error> {
        self.read(name, "a whole number from 1 up", |value| {
            whole(value).filter(|&count| count >= 1)
        })
    }

    pub fn array(self, name: &str) -> Result<Option<&'a [Value]>, Error> {
        let array = self.read(name, "an array", Value::as_array)?;
        Ok(array.map(Vec::as_slice))
    }

    pub fn map(self, name: &str) -> Result<Option<&'a Map<String, Value>>, Error> {
        self.read(name, "an object", Value::as_object)
    }

    /// The fields of an object; `place` is its name with a dot.
    pub fn object(self, name: &str, place: &'a str) -> Result<Option<Self>, Error> {
        Ok(self.map(name)?.map(|map| Self { map, place }))
    }

    fn read<T>(
        self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => {
                let path = self.path(name);
                let message = format!("{path} must be {wanted}");
                Err(Error::invalid(path, message))
            }
        }
    }
}

/// The value as a whole number, where it is one.
fn whole(value: &Value) -> Option<u64> {
    // 2^53: above it, a fraction could not be told from a whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (0.0..=EXACT).contains(number))
            .map(|number| number as u64)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn count(value: &Value) -> Result<Option<u64>, Error> {
        let body = json!({ "n": value });
        Fields::new(body.as_object().unwrap()).count("n")
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        assert_eq!(count(&json!(100)), Ok(Some(100)));
        assert_eq!(count(&json!(100.0)), Ok(Some(100)));
        assert_eq!(count(&json!(1e3)), Ok(Some(1000)));
        assert_eq!(count(&json!(u64::MAX)), Ok(Some(u64::MAX)));
        assert_eq!(count(&Value::Null), Ok(None));
    }

    #[test]
    fn what_is_no_whole_number_from_1_up_is_refused_by_name() {
        for value in [
            json!(0),
            json!(-1),
            json!(0.5),
            json!(1e300),
            json!("5"),
            json!([5]),
        ] {
            let error = count(&value).unwrap_err();

            assert_eq!(error.param.as_deref(), Some("n"), "{value}");
            assert_eq!(error.message, "n must be a whole number from 1 up");
        }
    }
}
