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
mod clock;
mod completions;
mod configuration;
mod connections;
mod conversations;
mod cross_origin;
mod delivery;
mod docker;
mod drain;
mod errors;
mod faults;
mod forms;
mod goldens;
mod interleavings;
mod keys;
mod leaks;
mod long_histories;
mod mishaps;
mod model;
mod oddities;
mod overload;
mod panics;
mod parameters;
mod polling;
mod posting;
mod program;
mod raw_http;
mod recorded;
mod repeats;
mod request_log;
mod restarts;
mod sandbox_http;
mod shapes;
mod shutdown;
mod side_calls;
mod state;
mod streaming;
mod streams;
mod tidy;
mod upstream;
mod wire;
