//! How a message is posted: at most once on a thread, whatever becomes of its POST.

mod active;
mod refused;
mod unknown;
mod unsent;
