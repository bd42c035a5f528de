//! What hostile bytes are given to: one function for everything that parses bytes from outside.
#![expect(clippy::indexing_slicing, reason = "what is not there is a finding")]

pub mod corpus;
pub mod mutation;
mod targets;

/// A function that must return, soon, whatever bytes it is given.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: [Target; 17] = [
    named("chat", targets::bodies::chat),
    named("responses", targets::bodies::responses),
    named("completions", targets::bodies::completions),
    named("conversations", targets::bodies::conversations),
    named("head", targets::head::head),
    named("stream", targets::stream::stream),
    named("new_message", targets::upstream::new_message),
    named("get_thread", targets::upstream::get_thread),
    named("gzip", targets::upstream::gzip),
    named("settings", targets::settings::file),
    named("environment", targets::settings::environment),
    named("script", targets::script::script),
    named("caller_keys", targets::caller_keys::caller_keys),
    named("record", targets::record::record),
    named("answer", targets::form::answer),
    named("schema", targets::form::schema),
    named("demo", targets::script::demo),
];

const fn named(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
