//! What callers see.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed test"
)]

mod binary;
mod proxy;
mod talk;

mod callers;
mod chat;
mod configuration;
mod connections;
mod conversations;
mod cross_origin;
mod docker;
mod drain;
mod errors;
mod goldens;
mod interleavings;
mod keys;
mod leaks;
mod mishaps;
mod oddities;
mod overload;
mod parameters;
mod polling;
mod posting;
mod program;
mod raw_http;
mod repeats;
mod request_log;
mod sandbox_http;
mod side_calls;
mod streaming;
mod streams;
mod tidy;
mod upstream;
mod wire;
