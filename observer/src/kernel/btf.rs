//! Offsets, enum values and argument counts out of the running kernel's BTF.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::Path,
    sync::{Mutex, PoisonError},
};

use btf::btf::{Btf, FlattenedType, StructMember, Type};
use observer_common::layout::{ABSENT, Offsets, Settings};

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
    /// Names of its tracepoints.
    tracepoints: HashSet<String>,
    /// Those of [`FUNCTIONS`] that it has, with the arguments that are read.
    functions: HashSet<&'static str>,
}

/// Functions that programs are attached to, and the arguments that these read.
const FUNCTIONS: [(&str, [(usize, &str); 2]); 5] = [
    ("tcp_conn_request", [(2, "sk"), (3, "skb")]),
    ("tcp_v4_syn_recv_sock", [(0, "sk"), (1, "skb")]),
    ("tcp_v6_syn_recv_sock", [(0, "sk"), (1, "skb")]),
    ("tcp_v4_send_reset", [(0, "sk"), (1, "skb")]),
    ("tcp_v6_send_reset", [(0, "sk"), (1, "skb")]),
];
/// What the types of tracepoints' functions are called, before their names.
const TRACEPOINT: &str = "btf_trace_";

impl Layout {
    /// An error in words if this kernel has no such tracepoint.
    pub fn has_tracepoint(&self, name: &str) -> Result<(), String> {
        if self.tracepoints.contains(name) { Ok(()) } else { Err(format!("this kernel has no tracepoint {name}")) }
    }

    /// An error in words if a function is not there, or passes something else than what is read of it.
    pub fn has_function(&self, name: &str) -> Result<(), String> {
        if self.functions.contains(name) {
            return Ok(());
        }
        Err(format!("this kernel's types have no function {name} with the arguments that are read"))
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
    // Opened first for the sake of the message: the reader's own shows its insides.
    File::open(VMLINUX).map_err(|error| BtfError::Unreadable(error.to_string()))?;
    let btf = Btf::from_file(Path::new(VMLINUX)).map_err(|error| BtfError::Unreadable(format!("{error:?}")))?;
    let types = Types::new(&btf);
    let mut offsets = Offsets::UNRESOLVED;
    for (path, required, slot) in offsets.fields() {
        match types.bit_offset(path).and_then(|bits| u16::try_from(bits / 8).ok()) {
            Some(offset) if offset != ABSENT => *slot = offset,
            _ if required => return Err(BtfError::Missing(path)),
            _ => {}
        }
    }
    let acked = types.bit_offset("inet_request_sock.acked").ok_or(BtfError::Missing("inet_request_sock.acked"))?;
    let reset_reasons = types.enum_values("sk_rst_reason", "SK_RST_REASON_");
    let value = |names: &HashMap<u32, String>, wanted: &str| {
        names.iter().find(|(_, name)| *name == wanted).map_or(0, |(value, _)| *value)
    };
    let helpers = types.enum_values("bpf_func_id", "BPF_FUNC_");
    let settings = Settings {
        jiffy: 0,
        reset_flags: value(&reset_reasons, "TCP_FLAGS"),
        drop_listen_overflow: value(&types.enum_values("skb_drop_reason", "SKB_DROP_REASON_"), "TCP_LISTEN_OVERFLOW"),
        req_acked_mask: 1 << (acked % 8),
        reset_has_reason: types.tracepoint_has("tcp_send_reset", 3),
        retransmit_has_error: types.tracepoint_has("tcp_retransmit_skb", 3),
        kfree_has_socket: types.tracepoint_has("kfree_skb", 4),
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
    let tracepoints = types.functions.keys().filter_map(|name| name.strip_prefix(TRACEPOINT)).map(str::to_owned);
    let functions = FUNCTIONS.iter().filter(|(name, arguments)| types.function_has(name, arguments));
    Ok(Layout {
        offsets,
        settings,
        reset_reasons,
        tracepoints: tracepoints.collect(),
        functions: functions.map(|(name, _)| *name).collect(),
    })
}

/// Structs, enums and functions by name; other things of the same name left out.
struct Types<'a> {
    btf: &'a Btf,
    structs: HashMap<&'a str, &'a FlattenedType>,
    enums: HashMap<&'a str, &'a FlattenedType>,
    functions: HashMap<&'a str, &'a FlattenedType>,
}

impl<'a> Types<'a> {
    fn new(btf: &'a Btf) -> Self {
        let mut types = Self { btf, structs: HashMap::new(), enums: HashMap::new(), functions: HashMap::new() };
        for ty in btf.get_types() {
            let Some(name) = ty.name.as_deref() else { continue };
            match &ty.base_type {
                Type::Struct(_) | Type::Union(_) if ty.num_refs == 0 && !ty.is_const => {
                    types.structs.entry(name).or_insert(ty);
                }
                Type::Enum32(_) | Type::Enum64(_) if ty.num_refs == 0 => {
                    types.enums.entry(name).or_insert(ty);
                }
                // Tracepoints are typedefs `btf_trace_NAME` of a pointer to their function's prototype.
                Type::FunctionProto(_) if ty.is_function || name.starts_with(TRACEPOINT) => {
                    types.functions.entry(name).or_insert(ty);
                }
                _ => {}
            }
        }
        types
    }

    /// Offset in bits of `struct.member.member…`, through anonymous members.
    fn bit_offset(&self, path: &str) -> Option<u32> {
        let mut parts = path.split('.');
        let mut ty = *self.structs.get(parts.next()?)?;
        let mut total = 0;
        for part in parts {
            let (offset, member) = self.member(ty, part)?;
            total += offset;
            ty = member;
        }
        Some(total)
    }

    fn member(&self, ty: &'a FlattenedType, name: &str) -> Option<(u32, &'a FlattenedType)> {
        let (Type::Struct(s) | Type::Union(s)) = &ty.base_type else { return None };
        let into = |member: &StructMember| self.btf.get_type_by_id(member.type_id).ok();
        if let Some(member) = s.members.iter().find(|member| member.name.as_deref() == Some(name)) {
            return Some((member.offset, into(member)?));
        }
        let anonymous = s.members.iter().filter(|member| member.name.as_deref().is_none_or(str::is_empty));
        anonymous.into_iter().find_map(|member| {
            let (offset, found) = self.member(into(member)?, name)?;
            Some((member.offset + offset, found))
        })
    }

    /// Values of an enum by number, names without `prefix`; empty if this kernel has no such enum.
    fn enum_values(&self, name: &str, prefix: &str) -> HashMap<u32, String> {
        let Some(ty) = self.enums.get(name) else { return HashMap::new() };
        let (Type::Enum32(values) | Type::Enum64(values)) = &ty.base_type else { return HashMap::new() };
        let named = values.entries.iter().filter_map(|entry| {
            let name = entry.name.as_deref()?;
            Some((u32::try_from(entry.value).ok()?, name.strip_prefix(prefix).unwrap_or(name).to_owned()))
        });
        named.collect()
    }

    /// 1 if the tracepoint passes at least `arguments`, its own context pointer not counted.
    fn tracepoint_has(&self, name: &str, arguments: usize) -> u8 {
        let Some(ty) = self.functions.get(format!("{TRACEPOINT}{name}").as_str()) else { return 0 };
        let Type::FunctionProto(prototype) = &ty.base_type else { return 0 };
        u8::from(prototype.params.len() > arguments)
    }

    /// Whether there is such a function, with arguments of these names at these places.
    fn function_has(&self, name: &str, arguments: &[(usize, &str)]) -> bool {
        let Some(Type::FunctionProto(prototype)) = self.functions.get(name).map(|ty| &ty.base_type) else {
            return false;
        };
        let is = |(index, wanted): &(usize, &str)| {
            prototype.params.get(*index).is_some_and(|param| param.name.as_deref() == Some(*wanted))
        };
        arguments.iter().all(is)
    }
}

#[cfg(test)]
mod tests {
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
}
