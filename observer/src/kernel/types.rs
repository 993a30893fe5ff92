//! The kernel's description of its own types (BTF: Documentation/bpf/btf.rst, include/uapi/linux/btf.h), as far as somebody asks:
//! of a hundred thousand types and more observer needs about fifty. They are passed over once, and only where they begin and some
//! names are kept; libraries that make something of each take twenty times as long. Nothing read here is relied on: what does not
//! fit is not there.

use std::collections::HashMap;

/// Begins each such description.
const MAGIC: u16 = 0xeb9f;
/// Length of what comes before the types.
const HEADER: usize = 24;
/// The part of a type that all have: name, what it is, its size or another type.
const RECORD: usize = 12;
/// Typedefs and the like behind one another that are followed.
const MAX_DEPTH: u32 = 32;
/// Structures within one another in which a member is looked for; the kernel's have less than fifty.
const MAX_WITHIN: u32 = 1000;
/// What the types of tracepoints' functions are called, before their names.
pub(super) const TRACEPOINT: &str = "btf_trace_";

/// What a type is (`BTF_KIND_*`), as far as it is told apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Structure,
    Enum,
    Enum64,
    Typedef,
    Pointer,
    /// `const`, `volatile`, `restrict`, a tag: the same as another type.
    Same,
    Function,
    Prototype,
    Variable,
    Other,
}

impl Kind {
    /// Of a type's second word, and how many bytes follow upon [`RECORD`]; `None` of a kind that is younger than this.
    fn of(info: u32) -> Option<(Self, usize)> {
        let count = count(info);
        Some(match info >> 24 & 0x1f {
            1 | 17 => (Self::Other, 4),
            14 => (Self::Variable, 4),
            2 => (Self::Pointer, 0),
            3 => (Self::Other, 12),
            4 | 5 => (Self::Structure, 12 * count),
            6 => (Self::Enum, 8 * count),
            7 | 16 => (Self::Other, 0),
            8 => (Self::Typedef, 0),
            9..=11 | 18 => (Self::Same, 0),
            12 => (Self::Function, 0),
            13 => (Self::Prototype, 8 * count),
            15 => (Self::Other, 12 * count),
            19 => (Self::Enum64, 12 * count),
            _ => return None,
        })
    }
}

/// Members, values or arguments of a type.
fn count(info: u32) -> usize {
    (info & 0xffff) as usize
}

/// For structures: members have their width beside their offset. For enums: values have a sign.
fn is_flagged(info: u32) -> bool {
    info >> 31 == 1
}

/// A type.
#[derive(Clone, Copy)]
struct Record<'a> {
    name: u32,
    info: u32,
    kind: Kind,
    /// The type that it is about, or its size.
    of: u32,
    /// What follows upon that.
    rest: &'a [u8],
}

impl Record<'_> {
    /// Names of a prototype's arguments.
    fn arguments(&self) -> Option<Vec<u32>> {
        let names = self.rest.chunks_exact(8).filter_map(|argument| word(argument, 0));
        (self.kind == Kind::Prototype).then(|| names.collect())
    }
}

/// All types.
pub(super) struct Types<'a> {
    strings: &'a [u8],
    records: &'a [u8],
    /// Where each begins in `records`, the one with the number 1 first.
    places: Vec<u32>,
    /// Structs and unions by name; of several of one name the first.
    structures: HashMap<&'a [u8], u32>,
    /// Enums of both widths.
    enums: HashMap<&'a [u8], u32>,
    /// `btf_trace_NAME`: typedefs of pointers to prototypes.
    tracepoints: HashMap<&'a [u8], u32>,
    /// Those that were asked for.
    functions: HashMap<&'a [u8], u32>,
    /// Those of every processor; others are not told of.
    variables: HashMap<&'a [u8], u32>,
}

impl<'a> Types<'a> {
    /// Passes over them all; keeps of the functions only those of these names. An error in words.
    pub(super) fn read(bytes: &'a [u8], functions: &[&str]) -> Result<Self, &'static str> {
        const DAMAGED: &str = "it is damaged";
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        if half(0) != Some(MAGIC) {
            return Err("it does not begin as such information does");
        }
        let header = word(bytes, 4).ok_or(DAMAGED)? as usize;
        let section = |at: usize| {
            let begin = header.checked_add(word(bytes, at)? as usize)?;
            bytes.get(begin..begin.checked_add(word(bytes, at + 4)? as usize)?)
        };
        let mut types = Self {
            records: section(8).ok_or(DAMAGED)?,
            strings: section(16).ok_or(DAMAGED)?,
            places: Vec::with_capacity(bytes.len() / 32),
            structures: HashMap::new(),
            enums: HashMap::new(),
            tracepoints: HashMap::new(),
            functions: HashMap::new(),
            variables: HashMap::new(),
        };
        let mut at = 0;
        while at < types.records.len() {
            let record = types.at(at).ok_or("some types in it are of a kind that observer does not know")?;
            types.places.push(u32::try_from(at).map_err(|_| DAMAGED)?);
            let number = u32::try_from(types.places.len()).map_err(|_| DAMAGED)?;
            types.note(&record, number, functions);
            at += RECORD + record.rest.len();
        }
        Ok(types)
    }

    fn note(&mut self, record: &Record<'a>, number: u32, functions: &[&str]) {
        let Some(name) = self.strings.get(record.name as usize..) else { return };
        let named = match record.kind {
            Kind::Structure => &mut self.structures,
            Kind::Enum | Kind::Enum64 => &mut self.enums,
            Kind::Typedef if name.starts_with(TRACEPOINT.as_bytes()) => &mut self.tracepoints,
            Kind::Variable => &mut self.variables,
            Kind::Function if functions.iter().any(|function| is(name, function)) => &mut self.functions,
            _ => return,
        };
        named.entry(until_nul(name)).or_insert(number);
    }

    /// The type that begins there.
    fn at(&self, at: usize) -> Option<Record<'a>> {
        let (name, info, of) = (word(self.records, at)?, word(self.records, at + 4)?, word(self.records, at + 8)?);
        let (kind, length) = Kind::of(info)?;
        let rest = self.records.get(at + RECORD..(at + RECORD).checked_add(length)?)?;
        Some(Record { name, info, kind, of, rest })
    }

    /// The type with that number; `void` has none.
    fn number(&self, number: u32) -> Option<Record<'a>> {
        let place = self.places.get(number.checked_sub(1)? as usize)?;
        self.at(*place as usize)
    }

    /// The same, through typedefs and the like.
    fn resolved(&self, mut number: u32) -> Option<Record<'a>> {
        for _ in 0..MAX_DEPTH {
            let record = self.number(number)?;
            match record.kind {
                Kind::Typedef | Kind::Same => number = record.of,
                _ => return Some(record),
            }
        }
        None
    }

    fn is_named(&self, name: u32, wanted: &str) -> bool {
        self.strings.get(name as usize..).is_some_and(|name| is(name, wanted))
    }

    /// Offset in bits of `struct.member.member…`, through anonymous members.
    pub(super) fn bit_offset(&self, path: &str) -> Option<u32> {
        let mut parts = path.split('.');
        let mut structure = self.number(*self.structures.get(parts.next()?.as_bytes())?)?;
        let mut total = 0_u32;
        for part in parts {
            let (offset, member) = self.member(&structure, part, &mut { MAX_WITHIN })?;
            total = total.checked_add(offset)?;
            // What is no structure has no members.
            structure = self.resolved(member)?;
        }
        Some(total)
    }

    /// Offset in bits and type of a member. So many structures may be looked at yet.
    fn member(&self, structure: &Record<'a>, wanted: &str, left: &mut u32) -> Option<(u32, u32)> {
        *left = left.checked_sub(1)?;
        if structure.kind != Kind::Structure {
            return None;
        }
        let members = || {
            structure.rest.chunks_exact(12).filter_map(|member| {
                let (name, of, offset) = (word(member, 0)?, word(member, 4)?, word(member, 8)?);
                Some((name, of, if is_flagged(structure.info) { offset & 0x00ff_ffff } else { offset }))
            })
        };
        if let Some((_, of, offset)) = members().find(|(name, ..)| self.is_named(*name, wanted)) {
            return Some((offset, of));
        }
        members().filter(|(name, ..)| self.is_named(*name, "")).find_map(|(_, of, offset)| {
            let (within, found) = self.member(&self.resolved(of)?, wanted, left)?;
            Some((offset.checked_add(within)?, found))
        })
    }

    /// Values of an enum by number, names without `prefix`, those below zero and above 32 bits left out; none if there is no such
    /// enum.
    pub(super) fn enum_values(&self, name: &str, prefix: &str) -> impl Iterator<Item = (u32, String)> {
        let found = self.enums.get(name.as_bytes()).and_then(|number| self.number(*number));
        let width = if found.is_some_and(|record| record.kind == Kind::Enum64) { 12 } else { 8 };
        let entries = found.map_or(&[][..], |record| record.rest).chunks_exact(width);
        let signed = found.is_some_and(|record| is_flagged(record.info));
        entries.filter_map(move |entry| {
            let value = word(entry, 4)?;
            let fits = match word(entry, 8) {
                Some(high) => high == 0,
                None => !signed || value.cast_signed() >= 0,
            };
            let name = until_nul(self.strings.get(word(entry, 0)? as usize..)?);
            let name = str::from_utf8(name).ok()?;
            fits.then(|| (value, name.strip_prefix(prefix).unwrap_or(name).to_owned()))
        })
    }

    /// The tracepoints that programs can be attached to by their types, and the numbers of these.
    pub(super) fn tracepoints(&self) -> impl Iterator<Item = (&'a str, u32)> {
        let named =
            |(name, number): (&&'a [u8], &u32)| Some((str::from_utf8(name).ok()?.strip_prefix(TRACEPOINT)?, *number));
        self.tracepoints.iter().filter_map(named)
    }

    /// What a tracepoint passes, its own context pointer not counted.
    pub(super) fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let number = self.tracepoints.get(format!("{TRACEPOINT}{name}").as_bytes())?;
        let pointer = self.resolved(*number).filter(|record| record.kind == Kind::Pointer)?;
        self.resolved(pointer.of)?.arguments()?.len().checked_sub(1)
    }

    /// Whether each processor has such a variable.
    pub(super) fn has_variable(&self, name: &str) -> bool {
        self.variables.contains_key(name.as_bytes())
    }

    /// The number of the function of that name, if it was asked for and is there, with arguments of these names at these places.
    pub(super) fn function(&self, name: &str, arguments: &[(usize, &str)]) -> Option<u32> {
        let number = *self.functions.get(name.as_bytes())?;
        let has = self.resolved(self.number(number)?.of)?.arguments()?;
        let all = arguments.iter().all(|(at, wanted)| has.get(*at).is_some_and(|name| self.is_named(*name, wanted)));
        all.then_some(number)
    }
}

/// What has a name among types that are blank else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    Typedef,
    Function,
}

/// Such information in which these types are found under these numbers, and all others are declarations without a name.
pub(super) fn blank_but(named: impl Iterator<Item = (u32, String, Named)>) -> Vec<u8> {
    let named: Vec<_> = named.collect();
    let count = named.iter().map(|(number, ..)| *number).max().unwrap_or(0) as usize;
    let blank: Vec<u8> = [0, 7 << 24, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let mut bytes = vec![0; HEADER];
    bytes.extend(blank.repeat(count));
    let mut put = |at: usize, word: usize| {
        if let (Some(place), Ok(word)) = (bytes.get_mut(at..at + 4), u32::try_from(word)) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    };
    // The first string is the empty one.
    let mut strings = vec![0];
    for (number, name, kind) in &named {
        let Some(before) = number.checked_sub(1) else { continue };
        let at = HEADER + before as usize * RECORD;
        put(at, strings.len());
        put(at + 4, if *kind == Named::Function { 12 << 24 } else { 8 << 24 });
        strings.extend(name.bytes());
        strings.push(0);
    }
    let lengths = [HEADER, 0, count * RECORD, count * RECORD, strings.len()];
    for (index, length) in lengths.into_iter().enumerate() {
        put(4 + 4 * index, length);
    }
    bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
    bytes[2] = 1;
    bytes.append(&mut strings);
    bytes
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Whether these bytes begin with that string and its NUL.
fn is(bytes: &[u8], wanted: &str) -> bool {
    bytes.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types of these kinds, sizes or types, and what follows upon that; names by their place among the strings.
    fn information(strings: &[u8], types: &[(u32, u32, u32, &[u32])]) -> Vec<u8> {
        let words =
            types.iter().flat_map(|(name, info, of, rest)| [*name, *info, *of].into_iter().chain(rest.iter().copied()));
        let types: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        let lengths = [HEADER, 0, types.len(), types.len(), strings.len()];
        let lengths = lengths.iter().flat_map(|length| u32::try_from(*length).unwrap().to_ne_bytes());
        let head = MAGIC.to_ne_bytes().into_iter().chain([1, 0]).chain(lengths);
        head.chain(types).chain(strings.iter().copied()).collect()
    }

    /// `struct a { int x; const struct { int y; flags z : 3; } /* anonymous, at bit 64 */; }`, an enum of each width, a tracepoint
    /// that passes one argument, and a function.
    fn example() -> Vec<u8> {
        const STRINGS: &[u8] = b"\0a\0x\0y\0z\0int\0e\0E_ONE\0E_TWO\0w\0btf_trace_t\0f\0sk\0";
        let at = |name: &[u8]| {
            let whole = [b"\0", name, b"\0"].concat();
            u32::try_from(STRINGS.windows(whole.len()).position(|here| here == whole).unwrap() + 1).unwrap()
        };
        let kind = |kind: u32, count: u32| kind << 24 | count;
        let (x, y, z, one, two, sk) = (at(b"x"), at(b"y"), at(b"z"), at(b"E_ONE"), at(b"E_TWO"), at(b"sk"));
        information(
            STRINGS,
            &[
                (at(b"int"), kind(1, 0), 4, &[32]),
                (0, kind(4, 2) | 1 << 31, 8, &[y, 1, 0, z, 1, 3 << 24 | 0x23]),
                (0, kind(10, 0), 2, &[]),
                (at(b"a"), kind(4, 2), 16, &[x, 1, 0, 0, 3, 64]),
                (at(b"e"), kind(6, 2) | 1 << 31, 4, &[one, 1, two, u32::MAX]),
                (at(b"w"), kind(19, 2), 8, &[one, 1, 1, two, 2, 0]),
                (0, kind(13, 2), 0, &[0, 0, sk, 1]),
                (0, kind(2, 0), 7, &[]),
                (at(b"btf_trace_t"), kind(8, 0), 8, &[]),
                (at(b"f"), kind(12, 0), 7, &[]),
            ],
        )
    }

    #[test]
    fn members_are_found_through_anonymous_ones() {
        let bytes = example();
        let types = Types::read(&bytes, &[]).unwrap();
        let offsets = ["a.x", "a.y", "a.z", "a.w", "b.x", "a.x.y", "a"].map(|path| types.bit_offset(path));
        assert_eq!(offsets, [Some(0), Some(64), Some(99), None, None, None, Some(0)]);
    }

    #[test]
    fn values_of_enums_are_told_if_they_fit() {
        let bytes = example();
        let types = Types::read(&bytes, &[]).unwrap();
        let values = |name| types.enum_values(name, "E_").collect::<Vec<_>>();
        assert_eq!(values("e"), [(1, "ONE".to_owned())]);
        assert_eq!(values("w"), [(2, "TWO".to_owned())]);
        assert_eq!(values("a"), []);
    }

    #[test]
    fn tracepoints_and_functions_are_told_with_what_they_pass() {
        let bytes = example();
        let types = Types::read(&bytes, &["f", "a"]).unwrap();
        assert_eq!(types.tracepoints().collect::<Vec<_>>(), [("t", 9)]);
        assert_eq!((types.tracepoint_arguments("t"), types.tracepoint_arguments("u")), (Some(1), None));
        assert_eq!((types.function("f", &[(1, "sk")]), types.function("f", &[(0, "sk")])), (Some(10), None));
        assert_eq!((types.function("f", &[]), types.function("a", &[])), (Some(10), None));
        assert_eq!(Types::read(&bytes, &[]).unwrap().function("f", &[]), None);
    }

    #[test]
    fn blank_types_keep_the_numbers_of_the_others() {
        let named = [(7, "btf_trace_t", Named::Typedef), (3, "f", Named::Function)];
        let bytes = blank_but(named.into_iter().map(|(number, name, kind)| (number, name.to_owned(), kind)));
        let aya = aya::Btf::parse(&bytes, aya::Endianness::default()).unwrap();
        assert_eq!(aya.to_bytes(), bytes);
    }

    #[test]
    fn whatever_is_damaged_is_refused_or_not_there() {
        let whole = example();
        let all = |bytes: &[u8]| {
            let Ok(types) = Types::read(bytes, &["f"]) else { return };
            for path in ["a.x", "a.y", "a.z", "a.w"] {
                let _ = types.bit_offset(path);
            }
            for name in ["e", "w"] {
                let _ = types.enum_values(name, "E_").count();
            }
            let _ = (types.tracepoint_arguments("t"), types.function("f", &[(1, "sk")]));
        };
        for length in 0..whole.len() {
            assert!(Types::read(&whole[..length], &[]).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                all(&damaged);
            }
        }
        // A structure that is a part of itself, twice.
        let own = information(b"\0a\0", &[(1, 4 << 24 | 2, 8, &[0, 1, 0, 0, 1, 0]), (0, 8 << 24, 2, &[])]);
        assert_eq!(Types::read(&own, &[]).unwrap().bit_offset("a.x"), None);
    }
}
