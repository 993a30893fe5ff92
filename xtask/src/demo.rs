//! `cargo xtask demo`: an incident to look at. gunicorn with too few sync workers behind nginx, more requests arriving
//! than it can serve, and observer on the host, as on the day it is needed.

mod incident;

use std::io::{BufRead, BufReader, IsTerminal, Write, stdin, stdout};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::incident::Incident;
use crate::{interrupt, lab, paths, privilege, shell, wait};

/// Without a terminal: long enough for the queue to fill and for the first answers to fail.
const REPORT: Duration = Duration::from_secs(20);
/// With a terminal the incident goes on while somebody looks, but not for ever.
const VIEW: Duration = Duration::from_mins(10);
/// For attaching and for writing the last lines, on top of the time asked for.
const SLACK: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the incident lasts [default: 20 without a terminal, at most 600 in the live view]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    lab::prepare()?;
    if !privilege::is_root() {
        return shell::run(&mut privilege::ourselves(std::env::args_os().skip(1))?);
    }
    interrupt::listen()?;
    let live = stdin().is_terminal() && stdout().is_terminal();
    let span = args.seconds.map_or(if live { VIEW } else { REPORT }, Duration::from_secs);
    let incident = Incident::stage(span + SLACK)?;
    let mut observer = observer(live, span).spawn().context("cannot start observer")?;
    let lines = observer.stdout.take();
    let (outcome, answers) = thread::scope(|scope| {
        let relay = lines.map(|lines| scope.spawn(|| relay(lines, &incident)));
        let outcome = attend(&mut observer, if live { span } else { span + SLACK });
        // However it ended; a second Ctrl-C changes nothing any more.
        shell::end(&mut observer);
        let answers = relay.and_then(|relay| relay.join().ok().flatten());
        (outcome, answers.unwrap_or_else(|| incident.answers()))
    });
    drop(incident);
    match outcome {
        // Whoever stops the demo has seen enough: that is how it ends.
        Err(_) if interrupt::happened() => {}
        Err(error) => return Err(error),
        Ok(status) if status.success() => {}
        Ok(status) => bail!("observer ended with {status}"),
    }
    let _ = writeln!(stdout(), "{}", answers?);
    Ok(())
}

/// Passes observer's lines on. When it sums up, nginx's own account of that moment is taken.
fn relay(lines: ChildStdout, incident: &Incident) -> Option<Result<incident::Answers>> {
    let mut answers = None;
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        if line.ends_with(" tries failed") {
            answers = Some(incident.answers());
        }
        // A reader that has gone must not keep the stage standing.
        let _ = writeln!(stdout(), "{line}");
    }
    answers
}

/// It shares our process group, and in the live view our terminal.
fn observer(live: bool, span: Duration) -> Command {
    let mut command = Command::new(paths::observer());
    if live {
        command.arg("live");
    } else {
        command
            .args(["watch", "--format", "text", "--duration", &format!("{}s", span.as_secs())])
            .stdout(Stdio::piped());
    }
    command
}

/// Waits for observer's end. On an interrupt, and when its time is over, it is asked to end, so that it can put the
/// terminal back in order.
fn attend(observer: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let mut status = None;
    let waited = wait::at_most(limit, || {
        status = observer.try_wait().context("cannot wait for observer")?;
        Ok(status.is_some())
    });
    if let Some(status) = status {
        return Ok(status);
    }
    let pid = i32::try_from(observer.id()).context("a pid out of range")?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot ask observer to end")?;
    let status = shell::exit_within(observer, Duration::from_secs(5))?;
    waited?;
    status.context("observer did not end when asked to")
}
