//! A caller's JSON Schema: checked before it is used, and what a value lacks to be valid under it.

mod outline;

use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use self::outline::{Outline, Reach};
use super::Error;

/// The longest schema, in bytes of compact JSON: all of it is posted.
pub const LONGEST: usize = 128 * 1024;

/// A schema that values can be held against.
pub struct Schema {
    text: String,
    outline: Outline,
    validator: Validator,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

/// Whether `format` is held against values, or says something of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formats {
    Checked,
    Told,
}

impl Schema {
    /// Reads the schema that stands at `place` of a request. It refers to nothing outside itself.
    pub fn new(schema: &Value, place: &str, formats: Formats) -> Result<Self, Error> {
        if !schema.is_object() {
            return Err(Error::at(place, "must be a JSON Schema (an object)"));
        }
        let text = schema.to_string();
        if text.len() > LONGEST {
            let what = format!("is longer than {LONGEST} bytes");
            return Err(Error::at(place, &what));
        }
        let outline =
            Outline::of(schema).map_err(|fault| Error::at(&under(place, &fault.at), fault.what))?;
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns())
            .should_validate_formats(formats == Formats::Checked)
            .build(schema)
            .map_err(|error| {
                let place = under(place, &dotted(error.instance_path()));
                Error::at(&place, &format!("is no JSON Schema: {}", words(&error)))
            })?;
        Ok(Self {
            text,
            outline,
            validator,
        })
    }

    /// The schema on one line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is wrong with the value; `place` is where it stands in the answer.
    pub fn complaints(&self, value: &Value, place: &str) -> Vec<String> {
        let at = |inner: &str| match under(place, inner) {
            whole if whole.is_empty() => "the answer".to_owned(),
            place => place,
        };
        let only = |what: &str| vec![super::complaint(&at(""), what)];
        match self.outline.reach(value) {
            Reach::Nothing => return only("is nested too deeply to be checked"),
            Reach::Verdict if self.validator.is_valid(value) => return Vec::new(),
            Reach::Verdict => {
                return only("the value is not valid under any of the schema's many alternatives");
            }
            Reach::Complaints => {}
        }
        let errors = self.validator.iter_errors(value);
        let errors: Vec<_> = errors.take(super::MOST_COMPLAINTS).collect();
        let nearest = errors.iter().flat_map(nearest);
        nearest
            .take(super::MOST_COMPLAINTS)
            .map(|error| super::complaint(&at(&dotted(error.instance_path())), &words(error)))
            .collect()
    }
}

/// Of an error that says only that no alternative fits, those of the alternative that comes nearest:
/// one for values of this type, and with what is wrong deepest inside.
fn nearest<'a>(error: &'a ValidationError<'_>) -> Vec<&'a ValidationError<'a>> {
    use ValidationErrorKind::{AnyOf, OneOfNotValid, Type};
    let (AnyOf { context } | OneOfNotValid { context }) = error.kind() else {
        return vec![error];
    };
    let level = |error: &ValidationError<'_>| error.instance_path().segments().count();
    let own = level(error);
    let is_other =
        |error: &ValidationError<'_>| level(error) == own && matches!(error.kind(), Type { .. });
    let alternatives = context.iter().filter(|errors| !errors.iter().any(is_other));
    let nearest = alternatives.max_by_key(|errors| errors.iter().map(level).max());
    match nearest {
        Some(errors) => errors.iter().flat_map(self::nearest).collect(),
        None => vec![error],
    }
}

/// Patterns that only a backtracking engine can match (clients write look-arounds) are given up
/// after so many steps; all others are matched in linear time.
fn patterns() -> PatternOptions<jsonschema::FancyRegex> {
    PatternOptions::fancy_regex()
        .backtrack_limit(20_000)
        .size_limit(1 << 20)
        .dfa_size_limit(1 << 20)
}

/// The validator's words, without the value that they are about.
fn words(error: &ValidationError<'_>) -> String {
    error.masked_with("the value").to_string()
}

/// A place inside another.
fn under(outer: &str, inner: &str) -> String {
    match (outer.is_empty(), inner.is_empty()) {
        (_, true) => outer.to_owned(),
        (true, _) => inner.to_owned(),
        (false, false) if inner.starts_with('[') => format!("{outer}{inner}"),
        (false, false) => format!("{outer}.{inner}"),
    }
}

/// A place as people write it: `rows[0].region`.
fn dotted(place: &Location) -> String {
    let mut text = String::new();
    for segment in place {
        match segment {
            LocationSegment::Property(name) if text.is_empty() => text.push_str(&name),
            LocationSegment::Property(name) => {
                text.push('.');
                text.push_str(&name);
            }
            LocationSegment::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(schema: &Value) -> Result<Schema, Error> {
        Schema::new(schema, "parameters", Formats::Checked)
    }

    fn complaints(schema: &Value, value: &Value) -> Vec<String> {
        self::schema(schema).unwrap().complaints(value, "")
    }

    #[test]
    fn a_fault_of_a_schema_is_told_by_its_place_in_the_request() {
        for (value, place) in [
            (json!("object"), "parameters"),
            (json!({"type": "text"}), "parameters.type"),
            (
                json!({"properties": {"a": {"type": 1}}}),
                "parameters.properties.a.type",
            ),
            (
                json!({"anyOf": [{}, {"minLength": "one"}]}),
                "parameters.anyOf[1].minLength",
            ),
            (
                json!({"properties": {"a": {"pattern": "("}}}),
                "parameters.properties.a.pattern",
            ),
            (
                json!({"$schema": "https://schema.example/own"}),
                "parameters",
            ),
        ] {
            assert_eq!(schema(&value).unwrap_err().place, place, "{value}");
        }
    }

    #[test]
    fn a_schema_refers_to_nothing_outside_itself() {
        for reference in [
            "https://json-schema.org/draft/2020-12/schema",
            "http://127.0.0.1:1/schema.json",
            "file:///etc/hostname",
            "other.json",
            "other.json#/a",
            "#/$defs/none",
            "#/title",
            "#name",
            "#/$defs/a%",
            "",
        ] {
            let value = json!({
                "title": "t",
                "properties": {"a": {"$ref": reference}},
            });

            let error = schema(&value).unwrap_err();

            assert_eq!(error.place, "parameters.properties.a.$ref", "{reference}");
        }
    }

    #[test]
    fn a_schema_that_is_only_named_like_one_is_left_alone() {
        let value = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "https://schema.example/own",
            "properties": {"$ref": {"type": "string"}, "id": {"const": {"$ref": "elsewhere"}}},
            "default": {"$ref": "elsewhere"},
        });

        assert_eq!(schema(&value).unwrap().text(), value.to_string());
    }

    #[test]
    fn a_reference_may_be_written_as_a_part_of_a_url() {
        let value = json!({
            "$defs": {"Row[int]": {"type": "integer"}, "a/b": {"type": "string"}},
            "prefixItems": [{"$ref": "#/$defs/Row%5Bint%5d"}, {"$ref": "#/$defs/a~1b"}],
        });

        assert!(complaints(&value, &json!([1, "a"])).is_empty());
        assert_eq!(complaints(&value, &json!(["a", 1])).len(), 2);
    }

    #[test]
    fn schemas_may_go_in_circles_where_values_do_not() {
        let tree = json!({
            "$defs": {"tree": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#"}},
                "additionalProperties": false,
            }},
            "$ref": "#/$defs/tree",
        });

        assert!(complaints(&tree, &json!({"left": {"right": {}}})).is_empty());
        assert_eq!(complaints(&tree, &json!({"left": {"up": 1}})).len(), 1);
    }

    #[test]
    fn schemas_that_would_be_checked_for_ever_are_refused() {
        let doubling = |n: usize| {
            let mut defs = serde_json::Map::new();
            for at in 0..n {
                let next = json!({"$ref": format!("#/$defs/{}", at + 1)});
                defs.insert(at.to_string(), json!({"allOf": [next, next]}));
            }
            defs.insert(n.to_string(), json!({}));
            json!({"$defs": defs, "$ref": "#/$defs/0"})
        };
        let chain = |n: usize| (0..n).fold(json!({}), |inner, _| json!({"not": inner}));
        for value in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"not": {"$ref": "#"}}]}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            doubling(60),
            chain(30),
            json!({"anyOf": vec![json!({}); 6000]}),
            json!({"const": "a".repeat(LONGEST)}),
        ] {
            assert!(schema(&value).is_err());
        }
        assert!(schema(&doubling(8)).is_ok());
        assert!(schema(&chain(20)).is_ok());
    }

    #[test]
    fn values_that_would_be_checked_for_ever_are_complained_of() {
        let next = json!({"$ref": "#"});
        let doubling = json!({"properties": {"a": {"allOf": [next, next]}}});
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({"a": inner}));

        assert!(complaints(&doubling, &nested(8)).is_empty());
        assert_eq!(
            complaints(&doubling, &nested(40)),
            ["the answer: is nested too deeply to be checked"]
        );
        assert_eq!(complaints(&json!({}), &nested(100)).len(), 1);
    }

    #[test]
    fn the_deepest_value_under_the_longest_chain_fits_the_stack() {
        let next = (0..18).fold(json!({"$ref": "#"}), |inner, _| json!({"anyOf": [inner]}));
        let chain = json!({"properties": {"a": next}, "additionalProperties": false});
        let deep = |leaf: Value| (0..60).fold(leaf, |inner, _| json!({"a": inner}));

        assert!(complaints(&chain, &deep(json!(1))).is_empty());
        assert_eq!(complaints(&chain, &deep(json!({"b": 1}))).len(), 1);
    }

    #[test]
    fn complaints_name_the_place_and_never_show_the_value() {
        let rows = json!({
            "type": "object",
            "properties": {"rows": {"type": "array", "items": {
                "type": "object",
                "properties": {"region": {"enum": ["North", "South"]}, "n": {"type": "integer"}},
                "required": ["region"],
            }}},
        });

        assert_eq!(
            complaints(
                &rows,
                &json!({"rows": [{"region": "private", "n": "private"}, {}]})
            ),
            [
                r#"rows[0].region: the value is not one of "North" or "South""#,
                r#"rows[0].n: the value is not of type "integer""#,
                r#"rows[1]: "region" is a required property"#,
            ]
        );
        assert_eq!(
            complaints(&rows, &json!("private")),
            [r#"the answer: the value is not of type "object""#]
        );
    }

    #[test]
    fn of_alternatives_the_nearest_is_complained_of() {
        let sale = json!({"type": "object", "properties": {"n": {"type": "integer"}},
            "required": ["n"]});
        let maybe = json!({"properties": {"sale": {"anyOf": [sale, {"type": "null"}]}}});

        for (value, complaint) in [
            (
                json!({"sale": {"n": "1"}}),
                r#"sale.n: the value is not of type "integer""#,
            ),
            (json!({"sale": {}}), r#"sale: "n" is a required property"#),
            (
                json!({"sale": 1}),
                "sale: the value is not valid under any of the schemas listed in the 'anyOf' keyword",
            ),
        ] {
            assert_eq!(complaints(&maybe, &value), [complaint]);
        }
    }

    #[test]
    fn of_very_many_alternatives_none_is_looked_into() {
        let many = |n: usize| {
            let alternatives: Vec<Value> = (0..n)
                .map(|n| json!({"required": ["n"], "properties": {"n": {"const": n}}}))
                .collect();
            json!({"$defs": {"one": {"anyOf": alternatives}}, "items": {"$ref": "#/$defs/one"}})
        };
        let rows = |n: usize| vec![json!({"n": -1, "text": "long ".repeat(100)}); n];

        assert_eq!(complaints(&many(20), &json!(rows(10))).len(), 3);
        assert_eq!(
            complaints(&many(1000), &json!(rows(1000))),
            ["the answer: the value is not valid under any of the schema's many alternatives"]
        );
        assert!(complaints(&many(1000), &json!(vec![json!({"n": 7}); 1000])).is_empty());
    }

    #[test]
    fn complaints_are_few_and_short() {
        let long = "x".repeat(1000);
        let schema = json!({"additionalProperties": {"enum": [long]}});
        let value: serde_json::Map<_, _> =
            (0..100).map(|n| (format!("{long}{n}"), json!(n))).collect();

        let complaints = complaints(&schema, &Value::Object(value));

        assert_eq!(complaints.len(), 3);
        assert!(complaints.iter().all(|told| told.chars().count() == 200));
    }

    #[test]
    fn patterns_with_look_arounds_are_matched_and_never_for_long() {
        let decimal = json!({"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"});
        let hanging = json!({"type": "string", "pattern": "^(?=(a+)+$)(a|aa)+$"});

        assert!(complaints(&decimal, &json!("12.50")).is_empty());
        assert_eq!(complaints(&decimal, &json!("-")).len(), 1);
        let value = json!("a".repeat(100_000) + "b");
        assert_eq!(complaints(&hanging, &value).len(), 1);
    }

    #[test]
    fn formats_are_checked_where_the_caller_is_strict() {
        let date = json!({"type": "string", "format": "date"});
        let told = Schema::new(&date, "", Formats::Told).unwrap();

        assert!(told.complaints(&json!("today"), "").is_empty());
        assert_eq!(complaints(&date, &json!("today")).len(), 1);
    }
}
