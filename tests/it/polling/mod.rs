//! How a run is followed: when it is read, what passes, and what ends it.

mod efficiency;
mod ends;
mod learned;
mod pace;
mod sleep;
mod stages;
mod stumbles;
