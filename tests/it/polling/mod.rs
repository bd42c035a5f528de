//! How a run is followed: when it is read, what passes, and what ends it.

mod ends;
mod pace;
mod sleep;
mod stumbles;
