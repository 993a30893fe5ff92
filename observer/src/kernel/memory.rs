//! Memory that is needed to attach and never again.

/// Gives back to the host what the allocator keeps of what was freed: reading the kernel's types and preparing the programs takes
/// some fifty megabytes for a moment (`malloc_trim`, glibc).
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
