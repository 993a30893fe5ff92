//! Second programs of some hooks, for what the kernel skips the first for. That of state changes is attached with the close look, and all
//! the time where skips must be expected or have happened; it costs as much as an empty program. Only while it is there the others do
//! anything: that of sockets' ends is part of the close look, those of resets and errors, which are rare, stay attached.

use aya::{
    Ebpf,
    programs::{BtfTracePoint, ProgramError, RawTracePoint},
};
use observer_common::look;

use super::{
    Kernel, LoadError,
    attach::{self, RAW, explain, program},
    btf::Layout,
    look::Held,
    statistics,
};
use crate::hooks::{Carrier, Hook};

/// What names of second programs have before those of the first.
pub(super) const AGAIN: &str = "again_";

/// Whether a hook has a second program on such a kernel.
pub(super) fn is_wanted(hook: Hook, layout: &Layout) -> bool {
    // Of these are both what processes do and what packets do, which come in the middle of it.
    let mixed = matches!(hook, Hook::StateChanges | Hook::SocketEnds | Hook::ResetsReceived | Hook::SocketErrors);
    mixed && layout.skips_programs
}

/// The name of the second program of a hook.
pub(super) fn name(hook: Hook, carrier: Carrier) -> Result<String, String> {
    let tracepoint = attach::tracepoint(hook)?;
    let raw = if carrier == Carrier::RawTp { RAW } else { "" };
    Ok(format!("{raw}{AGAIN}{tracepoint}"))
}

/// Attaches the second program of a hook, which has been loaded.
pub(super) fn attach(ebpf: &mut Ebpf, hook: Hook, carrier: Carrier) -> Result<Held, String> {
    let (name, tracepoint) = (name(hook, carrier)?, attach::tracepoint(hook)?);
    let attached: Result<_, ProgramError> = if carrier == Carrier::RawTp {
        program(ebpf, &name).and_then(|program: &mut RawTracePoint| {
            let link = program.attach(tracepoint)?;
            Ok(Held::new(program.take_link(link)?))
        })
    } else {
        program(ebpf, &name).and_then(|program: &mut BtfTracePoint| {
            let link = program.attach()?;
            Ok(Held::new(program.take_link(link)?))
        })
    };
    attached.map_err(|error| explain(&error))
}

impl Kernel {
    /// Has state changes seen to by two programs from now on, if they are not. An error in words leaves it at one.
    pub(super) fn see_to_skips(&mut self) -> Result<(), String> {
        if self.again.is_some() {
            return Ok(());
        }
        // From now on the first leaves its marks.
        self.leave_marks(true)?;
        let carrier = self.carrier(Hook::StateChanges).unwrap_or(Carrier::TpBtf);
        match attach(&mut self.ebpf, Hook::StateChanges, carrier) {
            Ok(held) => self.again = Some(held),
            Err(why) => return self.leave_marks(false).and(Err(why)),
        }
        Ok(())
    }

    fn leave_marks(&mut self, on: bool) -> Result<(), String> {
        self.close.tell(look::TWICE, on.into()).map_err(|error| format!("cannot tell the programs: {error}"))
    }

    /// The close look ends. The second program goes with it, unless the kernel has skipped the first, or must be expected to.
    pub(super) fn see_to_skips_where_needed(&mut self) -> Result<(), String> {
        if self.layout.preempts_tracepoints || self.first_skipped() > 0 {
            return self.see_to_skips();
        }
        self.again = None;
        self.leave_marks(false)
    }

    /// To be called now and then: has a second program see to what the first turns out to be skipped for.
    pub fn mind_skips(&mut self) {
        if self.again.is_none() && self.first_skipped() > 0 {
            // Where it is refused what is skipped is told of as lost.
            let _ = self.see_to_skips();
        }
    }

    /// How often the kernel has skipped the first program of state changes.
    fn first_skipped(&self) -> u64 {
        self.skipped_firsts(|name| attach::tracepoint(Hook::StateChanges) == Ok(attach::traced(name)))
    }

    /// How often the kernel skipped first programs of such names.
    fn skipped_firsts(&self, of: impl Fn(&str) -> bool) -> u64 {
        let firsts = self.programs.iter().filter(|(name, _)| !name.contains(AGAIN) && of(name));
        firsts.map(|(_, fd)| skipped(*fd)).sum()
    }

    /// How often the kernel skipped a program, and no second saw to it; `made_up` reads how often one did. That second ones are skipped
    /// matters only where the first was, too.
    pub(super) fn skipped_for_good(&self, made_up: impl FnOnce() -> Result<u64, LoadError>) -> Result<u64, LoadError> {
        let seconds: Vec<_> = self.programs.iter().filter(|(name, _)| name.contains(AGAIN)).collect();
        let has_second = |name: &str| seconds.iter().any(|(second, _)| attach::traced(second) == attach::traced(name));
        // What a second program sees to, perhaps once too often, is no other hook's.
        let others = self.skipped_firsts(|name| !has_second(name));
        // In this order: that the first was skipped is counted before the second runs.
        let skipped = self.skipped_firsts(has_second);
        // What is made up for meanwhile is taken off too soon: what has been told stays told.
        let told = self.skipped.get().max(others + skipped.saturating_sub(made_up()?));
        self.skipped.set(told);
        Ok(told)
    }
}

/// How often the kernel skipped a program.
fn skipped(fd: i32) -> u64 {
    let [misses] = statistics::fields(fd, ["recursion_misses:"]);
    misses.unwrap_or(0)
}
