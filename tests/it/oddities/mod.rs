//! What is not known of the upstream: the answer is right whichever way it is.

mod contents;
mod endings;
mod lags;
mod listings;
mod strangers;
