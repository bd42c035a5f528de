//! Chat completions: the request as a turn, the answer as a body or as chunks.

mod calls;
mod chunks;
mod completion;
mod messages;
mod request;
mod sent;
mod turn;

pub use chunks::Chunks;
pub use completion::completion;
pub use request::ChatRequest;
pub use turn::Asked;
