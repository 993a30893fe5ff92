//! `observer audit`: what is known to lead to 502s, before it does.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::ExitCode};

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use crate::{
    audit::{self, Audit},
    cli,
    diagnose::Engine,
    proxy::{
        self,
        nginx::{
            Version,
            config::{self, ConfigError},
            running::{self, Master},
        },
    },
    sink::Format,
    source,
    trace::Reader,
};

/// Whose configuration it is.
struct Told {
    /// Says it.
    of: String,
    audit: Audit,
}

/// Reads the configuration that it is told, or those of the nginx that run. One that cannot be read hides no other.
pub(super) fn audit(arguments: &cli::Audit) -> Result<ExitCode> {
    let version = arguments.nginx_version;
    let told = match &arguments.nginx_conf {
        Some(file) => vec![of_file(file, version)],
        None => running::masters().iter().map(|master| of_master(master, version)).collect(),
    };
    if told.is_empty() {
        bail!("no nginx runs here that observer can see; --nginx-conf FILE reads a configuration");
    }
    let seen = arguments.seen.as_deref().map(seen).transpose()?;
    let (mut found, mut unread) = (0, 0);
    let mut ports = Vec::new();
    for told in told {
        match told {
            Ok(mut told) => {
                if let Some(seen) = &seen {
                    told.audit.hold_against(seen);
                }
                found += told.audit.findings.len();
                ports.extend_from_slice(&told.audit.upstream_ports);
                super::print(&match arguments.format {
                    Format::Text => format!("{}\n{}\n", told.of, told.audit.to_text()),
                    Format::Json => format!("{}\n", told.to_json()),
                })?;
            }
            Err(error) => {
                unread += 1;
                eprintln!("observer: {error}");
            }
        }
    }
    // A file by itself says nothing of a host.
    if arguments.nginx_conf.is_none() {
        found += of_host(&ports, arguments.format)?;
    }
    Ok(ExitCode::from(if unread > 0 { 2 } else { u8::from(found > 0) }))
}

/// What a recording comes to.
fn seen(file: &Path) -> Result<Engine> {
    let mut reader = Reader::open(&[file.to_owned()])?;
    let mut engine = source::state_at_begin(&mut reader).map_err(|why| anyhow!(why))?;
    let mut batch = Vec::new();
    while reader.next_batch(&mut batch)?.is_some() {
        batch.drain(..).for_each(|event| engine.apply(&event, &mut |_| {}));
    }
    Ok(engine)
}

/// Prints what there is to find on the host that they run on, and how much that is.
fn of_host(upstream_ports: &[u16], format: Format) -> Result<usize> {
    let proxies = proxy::KNOWN.map(str::to_owned);
    let findings = audit::host::findings(&source::inspect::host(&proxies), upstream_ports);
    super::print(&match format {
        Format::Text => {
            let all: Vec<_> = findings.iter().map(|finding| format!("\n{}", finding.to_text())).collect();
            let count = if all.is_empty() { "nothing".to_owned() } else { format!("\n{}", all.len()) };
            format!("this host\n{}{count} found\n", all.concat())
        }
        Format::Json => {
            let findings: Vec<_> = findings.iter().map(audit::host::Finding::to_json).collect();
            format!("{}\n", json!({ "of": "this host", "findings": findings }))
        }
    })?;
    Ok(findings.len())
}

fn of_file(file: &Path, version: Option<Version>) -> Result<Told, ConfigError> {
    let root = Path::new("/");
    let running = running::masters().into_iter().find(|master| is_of(master, file));
    let open_files = running.as_ref().and_then(|master| master.open_files);
    let (version, of) = match (version, running) {
        (Some(version), _) => (version, "as told".to_owned()),
        (None, Some(Master { pid, version: Some(version), .. })) => {
            (version, format!("as process {pid}, which runs with it"))
        }
        _ => (Version::ASSUMED, "assumed; --nginx-version says otherwise".to_owned()),
    };
    Ok(Told { of: format!("nginx {version} ({of})"), audit: read(root, file, version, open_files)? })
}

/// Whether a master runs with this very file.
fn is_of(master: &Master, file: &Path) -> bool {
    let theirs = master.root.join(master.file.strip_prefix("/").unwrap_or(&master.file));
    let inode = |path: &Path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    inode(&theirs).is_some_and(|theirs| inode(file) == Some(theirs))
}

fn of_master(master: &Master, version: Option<Version>) -> Result<Told, ConfigError> {
    let judged = version.or(master.version);
    let assumed = if judged.is_none() { " (assumed)" } else { "" };
    let judged = judged.unwrap_or(Version::ASSUMED);
    Ok(Told {
        of: format!("nginx {judged}{assumed}, process {}", master.pid),
        audit: read(&master.root, &master.file, judged, master.open_files)?,
    })
}

fn read(root: &Path, file: &Path, version: Version, open_files: Option<u64>) -> Result<Audit, ConfigError> {
    let config = config::read(root, file)?;
    Ok(audit::nginx(&file.to_string_lossy(), &config, version, open_files))
}

impl Told {
    fn to_json(&self) -> Value {
        let mut value = self.audit.to_json();
        value["of"] = json!(self.of);
        value
    }
}
