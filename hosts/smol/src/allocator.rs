//! The C library's allocator, told to take little memory.
//!
//! glibc keeps what each thread has freed apart from the others, and some of it for good. Programs with musl have one
//! heap and give back what is free.

#![allow(unsafe_code)]

/// Has all threads use one heap, and gives large tables pages of their own: those that are never written to take no
/// memory. Called before other threads are started.
pub(crate) fn begin() {
    #[cfg(target_env = "gnu")]
    set(&[
        (libc::M_ARENA_MAX, 1),
        (libc::M_TOP_PAD, SPARE),
        (libc::M_TRIM_THRESHOLD, SPARE),
        (libc::M_MMAP_THRESHOLD, SPARE),
    ]);
}

/// Has larger buffers made and freed quickly, as glibc usually does. Called when all tables are there.
pub(crate) fn settle() {
    #[cfg(target_env = "gnu")]
    set(&[
        (libc::M_TRIM_THRESHOLD, USUAL),
        (libc::M_MMAP_THRESHOLD, USUAL),
    ]);
}

#[cfg(target_env = "gnu")]
fn set(options: &[(libc::c_int, libc::c_int)]) {
    for &(option, value) in options {
        // SAFETY: It sets a number, and fails for an option that it does not know.
        unsafe { libc::mallopt(option, value) };
    }
}

#[cfg(target_env = "gnu")]
const SPARE: libc::c_int = 16 * 1024;

#[cfg(target_env = "gnu")]
const USUAL: libc::c_int = 128 * 1024;
