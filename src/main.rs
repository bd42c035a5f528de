//! The program: reads its settings, then does what it was told.

use std::process::ExitCode;

/// Callers come by the thousand and go again: what they needed is given back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    chaturdata_proxy::app::run()
}
