//! `observer doctor`: what this kernel and host let observer see.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Result;

use crate::{
    hooks::HookStatus,
    host,
    kernel::{Kernel, LoadError, Options},
    proxy,
    source::procs,
};

/// Processes shown that behave like a proxy.
const MAX_RELAYS: usize = 10;

/// Attaches everything for a moment, and tells how that went.
pub(super) fn doctor() -> Result<ExitCode> {
    let mut text = String::new();
    let _ = writeln!(text, "kernel      {}", host::kernel());
    let _ = writeln!(text, "user        {}", if nix::unistd::geteuid().is_root() { "root" } else { "not root" });

    // In a thread of its own, which may need a mount namespace for tracefs.
    let attached = std::thread::spawn(|| Kernel::attach(&Options::default()).map(|kernel| kernel.hooks().clone()));
    let attached = attached.join().unwrap_or_else(|_| Err(LoadError::Blind("attaching panicked".into())));
    let status = match attached {
        Err(error) => {
            let _ = writeln!(text, "\nUNUSABLE: {error}");
            2
        }
        Ok(hooks) => {
            text.push_str("\nhooks\n");
            for (hook, status) in &hooks.0 {
                let _ = match status {
                    HookStatus::Full(carrier) => writeln!(text, "  ok        {:<20} {carrier}", hook.name()),
                    HookStatus::Partial(carrier, missing) => {
                        writeln!(text, "  PARTLY    {:<20} {carrier}: {missing}", hook.name())
                    }
                    HookStatus::Missing(why) => {
                        writeln!(
                            text,
                            "  MISSING   {:<20} lost: {}\n            because {why}",
                            hook.name(),
                            hook.loss()
                        )
                    }
                };
            }
            u8::from(hooks.degradations().next().is_some())
        }
    };
    text.push_str("\nsettings of this network namespace\n");
    for setting in host::settings() {
        let _ = writeln!(text, "  {:<36} {}", setting.name, setting.value);
        if let Some(remark) = setting.remark {
            let _ = writeln!(text, "      ! {remark}");
        }
    }
    let relays = procs::relays(&proxy::KNOWN);
    if !relays.is_empty() {
        text.push_str("\nprocesses that accept and connect onward, and may be proxies\n");
        for procs::Relay { comm, pid, onward } in relays.iter().take(MAX_RELAYS) {
            let _ = writeln!(
                text,
                "  {:<36} {onward} connections: observer watch --proxy {comm}",
                format!("{comm}[{pid}]")
            );
        }
    }
    super::print(&text)?;
    Ok(ExitCode::from(status))
}
