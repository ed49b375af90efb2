//! # Status and errors
//!
//! Every function that can fail returns an ahoy_status. The code is authoritative; `ahoy_last_error`
//! says more, for people.

use std::ffi::c_char;

use super::guard::{guard_pure, last_error_text};
use super::pointer::text_or_empty;
use crate::status::Status;
use crate::sys;

/// The name of a status, such as "AHOY_ERR_STALE"; "AHOY_ERR_?" for a number that is none.
/// The string lives forever. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_status_name(status: i32) -> *const c_char {
    guard_pure(c"AHOY_ERR_?".as_ptr(), || Some(Status::from_code(status)?.name().as_ptr()))
}

/// One sentence about a status; "Unknown status." for a number that is none.
/// The string lives forever. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_status_text(status: i32) -> *const c_char {
    guard_pure(c"Unknown status.".as_ptr(), || Some(Status::from_code(status)?.text().as_ptr()))
}

/// The detail of the last error on this thread, such as "bind tcp://0.0.0.0:80: Permission denied"; ""
/// if there was none. Success leaves it as it is. The string lives until the next ahoy call that
/// fails on this thread, or until the thread ends. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_last_error() -> *const c_char {
    guard_pure(c"".as_ptr(), || Some(last_error_text()))
}

/// Prints "prefix: detail of the last error on this thread" and a newline to the standard error, as
/// perror(3) does. A NULL or empty prefix is left out. One of the two functions that print. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_perror(prefix: *const c_char) {
    guard_pure((), || {
        // SAFETY: the caller passes NULL or a string that ends with a zero byte.
        let prefix = unsafe { text_or_empty(prefix) };
        // SAFETY: the string is this thread's own and nothing replaces it before the line is written.
        let detail = unsafe { text_or_empty(last_error_text()) };
        let separator = if prefix.is_empty() { "" } else { ": " };
        let detail = if detail.is_empty() { "no error" } else { &detail };
        sys::write_stderr(&format!("{prefix}{separator}{detail}\n"));
        Some(())
    });
}

/// The library's version, such as "0.2.0"; AHOY_VERSION is the header's. The string lives forever.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    guard_pure(VERSION.as_ptr().cast(), || None)
}
