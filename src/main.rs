//! gaugefn: read, choose, build, announce, run, drain.
//!
//! The first thread belongs to user code (Python's signals insist on it); everything of ours runs on tokio's threads.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use runtime_core::config::layers::ProcessEnvironment;
use runtime_core::main_thread;

mod admin;
mod args;
mod commands;
mod components;
mod configuration;
mod deployment;
mod descriptors;
mod log;
mod reference;
mod signals;
mod stdio;

/// Wrong usage, from `sysexits.h`.
const USAGE: u8 = 64;

/// How long the first thread may take to be free, once there is nothing more to do.
const HELD: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(answer) => {
            // a help text that nobody can read is no reason to fail
            let _ = answer.print();
            return ExitCode::from(if answer.use_stderr() { USAGE } else { 0 });
        }
    };
    // before any thread: user code has the first one, and what it was given are descriptors with fixed numbers
    if let args::Command::Worker = args.command {
        return ExitCode::from(components::worker());
    }
    if let Err(error) = log::open() {
        return fail(&format!("no standard error: {error}"));
    }
    let stdout = match stdio::claim_stdout() {
        Ok(stdout) => stdout,
        Err(error) => return fail(&format!("no standard output: {error}")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads: {error}")),
    };
    let (main_thread, desk) = main_thread::pair();
    let context = commands::Context {
        variables: Box::new(ProcessEnvironment),
        main_thread: main_thread.clone(),
        stdout,
        leave: |code| {
            runtime_core::scratch::remove_all();
            stdio::release();
            log::finish();
            #[allow(clippy::exit, clippy::disallowed_methods, reason = "user code may hold the first thread for ever")]
            std::process::exit(i32::from(code))
        },
    };
    let command = runtime.spawn(async move {
        let leave = context.leave;
        let code = commands::run(args.command, context).await;
        main_thread.close();
        tokio::spawn(async move {
            // user code may hold the first thread for ever: it has had its time to end
            tokio::time::sleep(HELD).await;
            leave(code)
        });
        code
    });
    if let Err(error) = desk.serve() {
        return fail(&format!("no first thread: {error}"));
    }
    let code = runtime.block_on(command).unwrap_or(runtime_core::contract::Blame::Internal.exit_code());
    // a blocked read of standard input must not hold up the end
    runtime.shutdown_background();
    // somebody else's task may hold what would remove them
    runtime_core::scratch::remove_all();
    stdio::release();
    log::finish();
    ExitCode::from(code)
}

fn fail(message: &str) -> ExitCode {
    use std::io::Write;
    // there is nowhere else to say it
    let _ = writeln!(std::io::stderr(), "gaugefn: {message}");
    ExitCode::from(runtime_core::contract::Blame::Internal.exit_code())
}
