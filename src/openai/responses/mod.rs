//! Responses: the request as a turn, the answer as a body or as numbered events.

mod echo;
mod events;
mod input;
mod request;
mod response;
mod retrieval;
mod turn;

pub use echo::Echo;
pub use events::Events;
pub use request::ResponseRequest;
pub use response::{Failure, Response, State, deleted, input_tokens};
pub use retrieval::Retrieval;
pub use turn::Asked;
