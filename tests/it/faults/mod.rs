//! Between the proxy and its upstream, on real sockets: whatever becomes of the bytes, a caller hears
//! one typed end, and nothing is posted twice on a thread.

pub mod meddler;

mod answers;
mod detours;
mod judge;
mod matrix;
mod rig;
mod tls;
