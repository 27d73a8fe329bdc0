//! The `cannula` command.

use std::process::ExitCode;

/// The system's allocator keeps what bursts of large messages left in pieces; this one gives it back.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cannula::cli::main()
}
