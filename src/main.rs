//! The `cannula` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    cannula::cli::main()
}
