//! Puts what userspace knows about this kernel into the programs, where `observer_common::layout` has placeholders.

use object::{Object as _, ObjectSection as _, SectionKind};
use observer_common::layout::placed;
use zerocopy::IntoBytes as _;

/// Bytes of an instruction (`struct bpf_insn`, include/uapi/linux/bpf.h): code, registers, offset, and in the second half an operand.
const INSTRUCTION: usize = 8;
const OPERAND: usize = 4;
/// The code of the instruction that loads 64 bits, the second half of its operand in an instruction more.
const LOAD_64: u8 = 0x18;

/// An object file of programs, as aligned as its readers want it.
pub(super) struct Placed {
    words: Vec<u64>,
    len: usize,
}

impl Placed {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }
}

/// The object with these values in the places of the constants' placeholders, by number; an error if it is no object file of ours.
pub(super) fn place(object: &[u8], values: &[u64]) -> Result<Placed, String> {
    let parsed = object::File::parse(object).map_err(|error| error.to_string())?;
    let code = parsed.sections().filter(|section| section.kind() == SectionKind::Text);
    let ranges: Vec<_> = code.filter_map(|section| section.file_range()).collect();
    let mut words = vec![0_u64; object.len().div_ceil(size_of::<u64>())];
    let bytes = &mut words.as_mut_bytes()[..object.len()];
    bytes.copy_from_slice(object);
    for (start, len) in ranges {
        let (start, len) = (usize::try_from(start).unwrap_or(usize::MAX), usize::try_from(len).unwrap_or(usize::MAX));
        let code = bytes.get_mut(start..start.saturating_add(len)).ok_or("a section ends behind the file")?;
        place_in(code, values)?;
    }
    Ok(Placed { words, len: object.len() })
}

fn place_in(code: &mut [u8], values: &[u64]) -> Result<(), String> {
    let (instructions, _) = code.as_chunks_mut::<INSTRUCTION>();
    for at in 1..instructions.len() {
        let [first, second] = &mut instructions[at - 1..=at] else { continue };
        if first[0] != LOAD_64 {
            continue;
        }
        let mut operand = [0; 8];
        operand[..4].copy_from_slice(&first[OPERAND..]);
        operand[4..].copy_from_slice(&second[OPERAND..]);
        let Some(number) = placed(u64::from_le_bytes(operand)) else { continue };
        let value = values.get(number).ok_or_else(|| format!("there is no constant {number}"))?.to_le_bytes();
        first[OPERAND..].copy_from_slice(&value[..4]);
        second[OPERAND..].copy_from_slice(&value[4..]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_common::layout::placeholder;

    fn load(register: u8, operand: u64) -> [u8; 16] {
        let operand = operand.to_le_bytes();
        let mut load = [0; 16];
        (load[0], load[1]) = (LOAD_64, register);
        load[4..8].copy_from_slice(&operand[..4]);
        load[12..].copy_from_slice(&operand[4..]);
        load
    }

    #[test]
    fn values_come_where_their_placeholders_are() {
        let mut code = [load(1, placeholder(1)), load(2, 77), load(3, placeholder(0))].concat();
        place_in(&mut code, &[5, 0x1_0000_0002]).unwrap();
        assert_eq!(code, [load(1, 0x1_0000_0002), load(2, 77), load(3, 5)].concat());
    }

    #[test]
    fn a_constant_without_a_value_is_an_error() {
        assert!(place_in(&mut load(1, placeholder(1)), &[5]).is_err());
        assert!(place(b"no object", &[]).is_err());
    }
}
