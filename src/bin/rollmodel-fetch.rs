//! `rollmodel-fetch`: init container, verification Job, and a command for people.

use std::process::ExitCode;

/// See Cargo.toml.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The network on two threads, whatever the machine: more would only take memory from the server
    // beside it.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(rollmodel::fetch::cli::run(
                std::env::args_os(),
                std::env::vars().collect(),
            ));
            // What blocks on a lock or a disk is not waited for.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("rollmodel-fetch: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
