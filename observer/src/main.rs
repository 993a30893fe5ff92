//! observer: why is the reverse proxy returning 502s right now?

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use clap::Parser as _;

    match observer::run::run(observer::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("observer: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("observer: needs Linux: it watches the kernel's TCP tracepoints with eBPF");
    ExitCode::from(2)
}
