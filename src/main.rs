//! `rollmodel`: the operator, the importer that it starts for each ModelRegistry, and two commands
//! that look from outside.

use std::process::ExitCode;

use clap::Parser;
use rollmodel::{
    import::process,
    run::{
        args::{Args, Command},
        case, operator, telemetry,
    },
};

/// See Cargo.toml.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One thread: the operator waits far more than it works, and what it works on is small.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Some(Command::Dump(dump)) => case::dump(dump).await.map_err(|error| error.to_string()),
        Some(Command::Plan(plan)) => case::print_plan(plan).map_err(|error| error.to_string()),
        Some(Command::Import(import)) => {
            match telemetry::start(import.log_format, &import.log_level) {
                Ok(()) => process::run(import.clone()).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        }
        None => match telemetry::start(args.run.log_format, &args.run.log_level) {
            Ok(()) => operator::run(args.run).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollmodel: {error}");
            ExitCode::FAILURE
        }
    }
}
