//! The project's own commands; `cargo xtask help` lists them.

mod bench;
mod bench_sockets;
mod build;
mod cargo;
mod cli;
mod demo;
mod interop;
mod interrupt;
mod lab;
mod lab_backend;
mod lab_load;
mod lab_probe;
mod mirrors;
mod paths;
mod privilege;
mod run;
mod setup;
mod shell;
mod test;
mod vm;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup => setup::run(),
        Command::Build => build::run(),
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Lab(args) => lab::run(&args),
        Command::Interop => interop::run(),
        Command::Test => test::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::BenchSockets(args) => bench_sockets::run(&args),
        Command::LabBackend(args) => lab_backend::run(&args),
        Command::LabLoad(args) => lab_load::run(&args),
        Command::LabProbe(args) => lab_probe::run(&args),
        Command::VmGuest => vm::run_guest(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::happened() => ExitCode::from(130),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
