//! The program: reads its settings, then does what it was told.

use std::process::ExitCode;

fn main() -> ExitCode {
    chaturdata_proxy::app::run()
}
