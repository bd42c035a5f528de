//! Legacy completions: prompts as turns, their answers as a body or as chunks.

mod completion;
mod request;
mod turns;

pub use completion::{Chunks, completion};
pub use request::CompletionRequest;
pub use turns::Asked;
