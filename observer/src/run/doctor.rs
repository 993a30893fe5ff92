//! `observer doctor`: what this kernel and host let observer see.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    cli,
    hooks::{Fared, HookStatus, Ladder, Rung},
    host,
    kernel::{Kernel, LoadError, Options},
    proxy, sink,
    source::procs,
};

/// Columns for the name of a hook.
const NAME: usize = 23;
/// Processes shown that behave like a proxy.
const MAX_RELAYS: usize = 10;

/// All that there is to say.
struct Findings {
    kernel: String,
    root: bool,
    ladders: Result<Vec<Ladder>, LoadError>,
    settings: Vec<host::Setting>,
    relays: Vec<procs::Relay>,
}

/// Attaches everything for a moment, and tells how that went.
pub(super) fn doctor(arguments: &cli::Doctor) -> Result<ExitCode> {
    let options = Options { forced: arguments.carriers.forced.clone(), ..Options::default() };
    // In a thread of its own, which may need a mount namespace for tracefs.
    let attached = std::thread::spawn(move || Kernel::attach(&options).map(|kernel| kernel.ladders().to_vec()));
    let findings = Findings {
        kernel: host::kernel(),
        root: nix::unistd::geteuid().is_root(),
        ladders: attached.join().unwrap_or_else(|_| Err(LoadError::Blind("attaching panicked".into()))),
        settings: host::settings(),
        relays: procs::relays(&proxy::KNOWN).into_iter().take(MAX_RELAYS).collect(),
    };
    super::print(&match arguments.format {
        sink::Format::Text => findings.to_text(),
        sink::Format::Json => format!("{:#}\n", findings.to_json()),
    })?;
    Ok(ExitCode::from(findings.status()))
}

impl Findings {
    /// The exit status.
    fn status(&self) -> u8 {
        let full = |ladder: &Ladder| matches!(ladder.status(), HookStatus::Full(_));
        self.ladders.as_ref().map_or(2, |ladders| u8::from(!ladders.iter().all(full)))
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "kernel      {}", self.kernel);
        let _ = writeln!(text, "user        {}", if self.root { "root" } else { "not root" });
        match &self.ladders {
            Err(error) => {
                let _ = writeln!(text, "\nUNUSABLE: {error}");
            }
            Ok(ladders) => {
                text.push_str("\nhooks, and what can carry each: ✓ does, ✗ refused, · not tried\n");
                for ladder in ladders {
                    hook_in_text(ladder, &mut text);
                }
            }
        }
        text.push_str("\nsettings of this network namespace\n");
        for setting in &self.settings {
            let _ = writeln!(text, "  {:<36} {}", setting.name, setting.value);
            if let Some(remark) = &setting.remark {
                let _ = writeln!(text, "      ! {remark}");
            }
        }
        if !self.relays.is_empty() {
            text.push_str("\nprocesses that accept and connect onward, and may be proxies\n");
            for procs::Relay { comm, pid, onward } in &self.relays {
                let _ = writeln!(
                    text,
                    "  {:<36} {onward} connections: observer watch --proxy {comm}",
                    format!("{comm}[{pid}]")
                );
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let setting = |it: &host::Setting| json!({ "name": it.name, "value": it.value, "remark": it.remark });
        let relay = |it: &procs::Relay| json!({ "comm": it.comm, "pid": it.pid, "connections": it.onward });
        json!({
            "kernel": self.kernel,
            "root": self.root,
            "unusable": self.ladders.as_ref().err().map(ToString::to_string),
            "hooks": self.ladders.iter().flatten().map(hook_in_json).collect::<Vec<_>>(),
            "settings": self.settings.iter().map(setting).collect::<Vec<_>>(),
            "may_be_proxies": self.relays.iter().map(relay).collect::<Vec<_>>(),
        })
    }
}

/// One line, and one for each carrier unless the first was as good as any.
fn hook_in_text(ladder: &Ladder, text: &mut String) {
    let name = ladder.hook.name();
    let _ = match ladder.status() {
        HookStatus::Full(_) => write!(text, "  ok        {name}"),
        HookStatus::Partial(_, unseen) => write!(text, "  PARTLY    {name:<NAME$}{unseen}"),
        HookStatus::Missing(_) => write!(text, "  MISSING   {name:<NAME$}lost: {}", ladder.hook.loss()),
    };
    let marked = |rung: &Rung| match rung.fared {
        Fared::Chosen => format!("✓ {}", rung.carrier),
        Fared::Refused(_) => format!("✗ {}", rung.carrier),
        Fared::NotNeeded | Fared::LeftOut => format!("· {}", rung.carrier),
    };
    if ladder.rungs.first().is_some_and(|first| first.fared == Fared::Chosen) {
        let rungs: Vec<_> = ladder.rungs.iter().map(marked).collect();
        let _ = writeln!(text, "{:width$}{}", "", rungs.join("  "), width = NAME.saturating_sub(name.len()));
        return;
    }
    text.push('\n');
    for rung in &ladder.rungs {
        let why = match &rung.fared {
            Fared::Chosen => String::new(),
            Fared::Refused(why) => format!("{why}; needs {}", ladder.hook.needs(rung.carrier)),
            Fared::NotNeeded => "not needed".to_owned(),
            Fared::LeftOut => "not tried: another is forced".to_owned(),
        };
        let _ = writeln!(text, "{}", format!("              {:<13} {why}", marked(rung)).trim_end());
    }
}

fn hook_in_json(ladder: &Ladder) -> Value {
    let (state, lost) = match ladder.status() {
        HookStatus::Full(_) => ("full", None),
        HookStatus::Partial(_, unseen) => ("partial", Some(unseen)),
        HookStatus::Missing(_) => ("missing", Some(ladder.hook.loss().to_owned())),
    };
    let rung = |rung: &Rung| {
        let (state, why) = match &rung.fared {
            Fared::Chosen => ("chosen", None),
            Fared::Refused(why) => ("refused", Some(why)),
            Fared::NotNeeded => ("not_needed", None),
            Fared::LeftOut => ("left_out", None),
        };
        let needs = why.map(|_| ladder.hook.needs(rung.carrier));
        json!({ "carrier": rung.carrier, "state": state, "why": why, "needs": needs })
    };
    json!({
        "hook": ladder.hook,
        "state": state,
        "carrier": ladder.chosen(),
        "lost": lost,
        "carriers": ladder.rungs.iter().map(rung).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::{Carrier, Hook};

    fn ladder(fared: [Fared; 4]) -> Ladder {
        let rungs = Hook::ListenOverflow.carriers().iter().zip(fared);
        let rungs = rungs.map(|(carrier, fared)| Rung { carrier: *carrier, fared }).collect();
        Ladder { hook: Hook::ListenOverflow, rungs }
    }

    fn text(ladder: &Ladder) -> String {
        let mut text = String::new();
        hook_in_text(ladder, &mut text);
        text
    }

    #[test]
    fn the_best_carrier_takes_a_line_and_lower_ones_say_why() {
        let best = ladder([Fared::Chosen, Fared::NotNeeded, Fared::NotNeeded, Fared::NotNeeded]);
        let line = text(&best);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains("ok        listen_overflow        ✓ fentry  · kprobe"), "{line}");
        let third = ladder([
            Fared::Refused("not admitted".into()),
            Fared::Refused("none here".into()),
            Fared::Chosen,
            Fared::NotNeeded,
        ]);
        let lines = text(&third);
        assert!(lines.contains("✗ fentry      not admitted; needs CONFIG_DYNAMIC_FTRACE"), "{lines}");
        assert!(lines.contains("✗ kprobe      none here; needs CONFIG_KPROBE_EVENTS"), "{lines}");
        assert!(lines.contains("✓ cgroup_skb\n"), "{lines}");
        assert!(lines.contains("· kfree_skb   not needed"), "{lines}");
    }

    #[test]
    fn what_is_lost_is_told_in_words_and_to_machines() {
        let only = |fared| ladder([Fared::LeftOut, Fared::LeftOut, Fared::LeftOut, fared]);
        let partly = only(Fared::Chosen);
        assert!(text(&partly).starts_with("  PARTLY    listen_overflow        SYNs dropped"), "{}", text(&partly));
        let json = hook_in_json(&partly);
        assert_eq!((&json["state"], &json["carrier"]), (&json!("partial"), &json!(Carrier::KfreeSkb)));
        let missing = only(Fared::Refused("no reason".into()));
        assert!(text(&missing).contains("MISSING   listen_overflow        lost: each overflow"), "{}", text(&missing));
        let json = hook_in_json(&missing);
        assert_eq!((&json["state"], &json["carrier"]), (&json!("missing"), &Value::Null));
        assert_eq!(json["carriers"][0]["state"], "left_out");
        assert_eq!(json["carriers"][3]["why"], "no reason");
    }
}
