//! The command line of the witness: `mllp-test send|load|sink|fhir-sink|proxy|simulate|spec|join|verify`. Exit codes: 0 all is
//! well, 1 a message was refused or a promise was broken, 64 the command line is wrong.

mod cli;

use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(fault) => {
            let _ = fault.print();
            return if fault.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    match cli.run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(fault) => {
            eprintln!("mllp-test: {fault}");
            ExitCode::from(1)
        }
    }
}
