//! Offsets, enum values and argument counts out of the running kernel's BTF.

use std::{
    collections::HashMap,
    fs,
    sync::{Mutex, PoisonError},
};

use aya::{Btf, Endianness};
use observer_common::layout::{ABSENT, Offsets, Settings};

use super::types::{self, Named, TRACEPOINT, Types};

/// Where the kernel keeps its own type information.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// How reading the kernel's types can fail.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is missing or damaged.
    #[error(
        "cannot read the kernel's type information {VMLINUX}: {0}; observer needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y (Debian, Ubuntu, Fedora and RHEL kernels are)"
    )]
    Unreadable(String),
    /// A field that observer cannot do without.
    #[error("this kernel has no {0}; please report its version (uname -r)")]
    Missing(&'static str),
}

/// What the programs need to know of this kernel.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Offsets of fields.
    pub offsets: Offsets,
    /// Enum values, argument lists.
    pub settings: Settings,
    /// `enum sk_rst_reason` by value, names without their prefix.
    pub reset_reasons: HashMap<u32, String>,
    /// A program on a tracepoint is skipped while it runs on that processor already (since 6.2).
    pub skips_programs: bool,
    /// What runs on a tracepoint may have to make way for other tasks in the middle of it (since 7.0).
    pub preempts_tracepoints: bool,
    /// Its tracepoints by name, with the numbers of their types.
    tracepoints: HashMap<String, u32>,
    /// Those of [`FUNCTIONS`] that it has with the arguments that are read, and of [`ITERATORS`], likewise.
    functions: HashMap<&'static str, u32>,
}

/// Functions that programs are attached to, and the arguments that these read.
const FUNCTIONS: [(&str, [(usize, &str); 2]); 5] = [
    ("tcp_conn_request", [(2, "sk"), (3, "skb")]),
    ("tcp_v4_syn_recv_sock", [(0, "sk"), (1, "skb")]),
    ("tcp_v6_syn_recv_sock", [(0, "sk"), (1, "skb")]),
    ("tcp_v4_send_reset", [(0, "sk"), (1, "skb")]),
    ("tcp_v6_send_reset", [(0, "sk"), (1, "skb")]),
];
/// The function that counts runs of programs that are skipped (kernel/bpf/trampoline.c).
const COUNTS_SKIPS: &str = "bpf_prog_inc_misses_counter";
/// Functions that stand for iterators.
const ITERATORS: [&str; 2] = ["bpf_iter_tcp", "bpf_iter_unix"];

impl Layout {
    /// An error in words if this kernel has no such tracepoint.
    pub fn has_tracepoint(&self, name: &str) -> Result<(), String> {
        if self.tracepoints.contains_key(name) { Ok(()) } else { Err(format!("this kernel has no tracepoint {name}")) }
    }

    /// An error in words if a function is not there, or passes something else than what is read of it.
    pub fn has_function(&self, name: &str) -> Result<(), String> {
        if self.functions.contains_key(name) {
            return Ok(());
        }
        Err(format!("this kernel's types have no function {name} with the arguments that are read"))
    }

    /// What programs are attached to, each under its number, for aya, which looks there for these numbers and nothing else. Read by
    /// aya itself the kernel's types would take ten times as long. All others are blank.
    pub(super) fn to_attach_to(&self) -> Result<Btf, BtfError> {
        let tracepoints =
            self.tracepoints.iter().map(|(name, number)| (*number, format!("{TRACEPOINT}{name}"), Named::Typedef));
        let functions = self.functions.iter().map(|(name, number)| (*number, (*name).to_owned(), Named::Function));
        let bytes = types::blank_but(tracepoints.chain(functions));
        Btf::parse(&bytes, Endianness::default()).map_err(|error| BtfError::Unreadable(error.to_string()))
    }
}

/// Resolves everything, once in a process: the kernel's types are some megabytes, and stay what they are while it runs. `jiffy`
/// is the length of one in nanoseconds.
pub fn resolve(jiffy: u32) -> Result<Layout, BtfError> {
    static RESOLVED: Mutex<Option<Layout>> = Mutex::new(None);
    let mut resolved = RESOLVED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut layout = match &*resolved {
        Some(layout) => layout.clone(),
        None => resolved.insert(read()?).clone(),
    };
    layout.settings.jiffy = jiffy;
    Ok(layout)
}

/// All but the jiffy.
fn read() -> Result<Layout, BtfError> {
    let bytes = fs::read(VMLINUX).map_err(|error| BtfError::Unreadable(error.to_string()))?;
    let functions: Vec<_> = FUNCTIONS.iter().map(|(name, _)| *name).chain(ITERATORS).chain([COUNTS_SKIPS]).collect();
    let types = Types::read(&bytes, &functions).map_err(|why| BtfError::Unreadable(why.to_owned()))?;
    let mut offsets = Offsets::UNRESOLVED;
    for (path, required, slot) in offsets.fields() {
        match types.bit_offset(path).and_then(|bits| u16::try_from(bits / 8).ok()) {
            Some(offset) if offset != ABSENT => *slot = offset,
            _ if required => return Err(BtfError::Missing(path)),
            _ => {}
        }
    }
    let acked = types.bit_offset("inet_request_sock.acked").ok_or(BtfError::Missing("inet_request_sock.acked"))?;
    let values = |of: &str, prefix: &str| -> HashMap<u32, String> { types.enum_values(of, prefix).collect() };
    let reset_reasons = values("sk_rst_reason", "SK_RST_REASON_");
    let value = |names: &HashMap<u32, String>, wanted: &str| {
        names.iter().find(|(_, name)| *name == wanted).map_or(0, |(value, _)| *value)
    };
    let helpers = values("bpf_func_id", "BPF_FUNC_");
    let passes = |tracepoint: &str, arguments| u8::from(types.tracepoint_arguments(tracepoint) >= Some(arguments));
    // It guards tracepoints by the kind of SRCU that came with 6.13 (include/linux/tracepoint.h, kernel/tracepoint.c); an older kind was
    // for tracepoints of idle processors, until 6.12.
    let preempts_tracepoints =
        types.has_variable("tracepoint_srcu_srcu_data") && types.bit_offset("srcu_data.srcu_reader_flavor").is_some();
    let settings = Settings {
        jiffy: 0,
        reset_flags: value(&reset_reasons, "TCP_FLAGS"),
        drop_listen_overflow: value(&values("skb_drop_reason", "SKB_DROP_REASON_"), "TCP_LISTEN_OVERFLOW"),
        req_acked_mask: 1 << (acked % 8),
        reset_has_reason: passes("tcp_send_reset", 3),
        retransmit_has_error: passes("tcp_retransmit_skb", 3),
        kfree_has_socket: passes("kfree_skb", 4),
        connect_traced: 0,
        filter_ports: 0,
        reads_traced: 0,
        destroys_traced: 0,
        registers_readable: u8::from(
            helpers.values().any(|name| name == "task_pt_regs")
                && offsets.regs_si != ABSENT
                && offsets.regs_orig_ax != ABSENT,
        ),
        answers_traced: 0,
        task_readable: u8::from(helpers.values().any(|name| name == "get_current_task_btf")),
        only_netns: 0,
        tries_mask: 0,
        names: 0,
    };
    let functions = FUNCTIONS.iter().map(|(name, arguments)| (*name, &arguments[..]));
    let functions = functions.chain(ITERATORS.iter().map(|name| (*name, &[][..])));
    Ok(Layout {
        offsets,
        settings,
        reset_reasons,
        skips_programs: types.function(COUNTS_SKIPS, &[]).is_some(),
        preempts_tracepoints,
        tracepoints: types.tracepoints().map(|(name, number)| (name.to_owned(), number)).collect(),
        functions: functions.filter_map(|(name, arguments)| Some((name, types.function(name, arguments)?))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use btf::btf::{Btf, FlattenedType, StructMember, Type};

    use super::*;

    #[test]
    fn this_kernels_fields_are_found() {
        let layout = resolve(4_000_000).unwrap();
        // Stable on every distribution's x86-64 kernel since 5.10.
        assert_eq!((layout.offsets.family, layout.offsets.state), (16, 18));
        assert_eq!((layout.offsets.dport, layout.offsets.num), (12, 14));
        assert!(layout.offsets.write_seq > layout.offsets.sport);
        for (name, _) in FUNCTIONS {
            assert_eq!(layout.has_function(name), Ok(()));
        }
        assert!(layout.has_function("tcp_conn_requested").unwrap_err().contains("tcp_conn_requested"));
        assert_eq!(layout.has_tracepoint("tcp_send_reset"), Ok(()));
        assert!(layout.has_tracepoint("tcp_send_rest").unwrap_err().contains("tcp_send_rest"));
        assert_eq!(layout.reset_reasons.get(&1).map(String::as_str), Some("NO_SOCKET"));
    }

    #[test]
    fn another_reader_finds_the_same() {
        let layout = resolve(4_000_000).unwrap();
        let btf = Btf::from_file(Path::new(VMLINUX)).unwrap();
        let is_struct = |ty: &&FlattenedType| {
            matches!(ty.base_type, Type::Struct(_) | Type::Union(_)) && ty.num_refs == 0 && !ty.is_const
        };
        for (path, _, offset) in layout.offsets.clone().fields() {
            let mut parts = path.split('.');
            let root = parts.next();
            let root = btf.get_types().iter().filter(is_struct).find(|ty| ty.name.as_deref() == root);
            let found = parts.try_fold((0, root), |(total, ty), part| {
                let (more, ty) = member(&btf, ty?, part)?;
                Some((total + more, Some(ty)))
            });
            let found =
                found.filter(|(_, ty)| ty.is_some()).map_or(ABSENT, |(bits, _)| u16::try_from(bits / 8).unwrap());
            assert_eq!((path, *offset), (path, found));
        }
        let name = |number: u32| btf.get_type_by_id(number).unwrap().name.clone().unwrap_or_default();
        for (tracepoint, number) in &layout.tracepoints {
            assert_eq!(name(*number), format!("{TRACEPOINT}{tracepoint}"));
        }
        assert_eq!(layout.functions.len(), FUNCTIONS.len() + ITERATORS.len());
        for (function, number) in &layout.functions {
            assert_eq!(name(*number), *function);
        }
    }

    /// Offset in bits of a member, through anonymous ones, and what it is.
    fn member<'a>(btf: &'a Btf, ty: &FlattenedType, name: &str) -> Option<(u32, &'a FlattenedType)> {
        let (Type::Struct(s) | Type::Union(s)) = &ty.base_type else { return None };
        let into = |member: &StructMember| btf.get_type_by_id(member.type_id).ok();
        if let Some(member) = s.members.iter().find(|member| member.name.as_deref() == Some(name)) {
            return Some((member.offset, into(member)?));
        }
        let anonymous = s.members.iter().filter(|member| member.name.as_deref().is_none_or(str::is_empty));
        anonymous.into_iter().find_map(|anonymous| {
            let (offset, found) = member(btf, into(anonymous)?, name)?;
            Some((anonymous.offset + offset, found))
        })
    }
}
