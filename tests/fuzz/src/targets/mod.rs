//! The targets, by what sends the bytes.

pub mod bodies;
pub mod caller_keys;
pub mod form;
pub mod head;
mod proxy;
pub mod record;
pub mod script;
pub mod settings;
pub mod stream;
pub mod upstream;
