//! Several answers to one request.

mod threads;
mod told;
