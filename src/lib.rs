//! A local server that makes Chat Ur Data look like the OpenAI API.
//!
//! A request's way through: `server` knows its caller and reads its body; `openai` makes it a turn;
//! `conversation` finds the thread that the turn continues, among what `store` remembers; `run`
//! posts, polls and picks the answer by way of `upstream`; `openai` renders what the run reports,
//! and `server` sees that it reaches its caller. `app` puts them together, from what `cli` and
//! `config` say.

pub mod app;
mod cli;
pub mod config;

pub mod server;

pub mod openai;

pub mod conversation;

pub mod form;

pub mod run;

pub mod store;

pub mod upstream;

pub mod clock;
mod gather;
pub mod ids;
pub mod metrics;
pub mod planted;
pub mod secret;
pub mod signal;
