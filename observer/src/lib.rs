//! observer answers one question on a live Linux host: why is the reverse proxy returning 502s right now?
//!
//! Kernel programs on TCP tracepoints stream what happened to each upstream connection; userspace folds the stream
//! into a model, rules turn the model into verdicts, and the same verdicts reach a live terminal view and lines.
//!
//! ```text
//!  kernel │ observer-ebpf: programs ─► filter ─► emit ─► EVENTS (ring buffer)   COUNTERS (per CPU, exact even when
//!         │                                                                      EVENTS is full)
//!  ───────┼──────────────────────── observer-common: the wire contract ────────────────────────
//!  user   │ ring ─► decode ─┐                                          ┌─► tui  (latest Snapshot)
//!         │ host samples ───┤                                          │
//!         │ proxies' logs ──┼─► Event ─► model ─► diagnose ─► Verdict ─┴─► sink (text, JSON lines)
//!         │ trace ──────────┘     └────► trace
//! ```
//!
//! * Everything the rules need is an [`event::Event`], host samples too: a stream of them is complete in itself.
//! * Live and replay share everything after the source: a trace replayed at any speed yields exactly the verdicts of the
//!   live run.
//! * Time is an argument. Events carry the kernel's clock; [`model`] and [`diagnose`] never read one, and see no
//!   kernel, file, sink or screen.
//! * Counts never lie. What is lost is counted by kind ([`event::Lost`]) and shown; totals come from the kernel's own
//!   counters.
//! * Every table has a named limit and a rule for what goes when it is full, and that is counted too.
//!
//! Modules in the order of the flow; each uses only those above it:
//!
//! | module | what it does |
//! | --- | --- |
//! | [`time`], [`text`], `untrusted`, [`addr`] | newtypes, and what comes from elsewhere made harmless; no clock |
//! | [`event`] | the Event: one enum, a struct per kind |
//! | [`hooks`] | what observer wants to see of a kernel, the ladder of what can carry each, and how much of it it does |
//! | [`trace`] | the trace file: format, writer, reader, export |
//! | [`host`], [`proxy`] | facts about this host; which processes are proxies, how they are configured and what in that is known to lead to 502s, what they write into their logs |
//! | [`kernel`] | aya: offsets from BTF, put into the programs; load, attach carrier by carrier, look closely or not, decode, walk. With `observer-ebpf` the only home of unsafe |
//! | [`model`] | `apply(&Event)`: upstreams, listeners, namespaces, and single connections' evidence |
//! | [`diagnose`] | tries that wait for evidence and for their answer; rules, verdicts, registry, one file and one page per cause; remedies with this host's numbers; whether what was measured confirms a finding of a configuration |
//! | [`snapshot`] | what a reader sees: an immutable copy; a desk at which a view asks for more |
//! | [`source`] | yields batches of Events: the kernel's with samples of the host, proxies' logs and what was found in their configurations, or a trace's at a pace |
//! | [`audit`] | the findings of a configuration, and of the host, as `observer audit` tells them |
//! | [`rework`] | recordings made of others: without names, or of two hosts |
//! | [`sink`], [`tui`] | lines, the report, advice, a comparison; the live view |
//! | [`cli`], [`pipeline`], [`run`] | arguments; the one place that knows every stage; the commands |
#![cfg(target_os = "linux")]

pub mod addr;
pub mod audit;
pub mod cli;
pub mod diagnose;
pub mod event;
pub mod hooks;
pub mod host;
pub mod kernel;
pub mod model;
pub mod pipeline;
pub mod proxy;
pub mod rework;
pub mod run;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod text;
pub mod time;
pub mod trace;
pub mod tui;
mod untrusted;

#[cfg(test)]
mod testing;
