//! What userspace found out about this kernel, and what it was asked for: constants, put into the instructions that load them
//! (`observer_common::layout`), so that dead branches are none of the verifier's business, nor the processor's.

use core::arch::asm;

use observer_common::layout::placeholder;

/// The value of a constant.
#[inline(always)]
pub(crate) fn constant<const NUMBER: usize>() -> u64 {
    let value: u64;
    // Written out so that the compiler knows nothing of the value, and not `pure`, so that it stays behind the tests that it comes after.
    // SAFETY: loads a number into that register.
    unsafe {
        asm!(
            "{value} = {placeholder} ll",
            value = out(reg) value,
            placeholder = const placeholder(NUMBER),
            options(nomem, nostack)
        );
    }
    value
}

/// A field of [`observer_common::layout::Settings`].
macro_rules! setting {
    ($field:ident) => {
        $crate::settings::constant::<{ observer_common::layout::setting(observer_common::layout::Setting::$field) }>()
    };
}
/// A field of [`observer_common::layout::Offsets`], ready to be added to a pointer.
macro_rules! offset {
    ($field:ident) => {
        $crate::settings::constant::<
            { core::mem::offset_of!(observer_common::layout::Offsets, $field) / size_of::<u16>() },
        >() as usize
    };
}
pub(crate) use {offset, setting};
