//! # Test hooks
//!
//! Exports that make system calls fail and the engine panic. Built with the feature `test-hooks` only, and
//! not part of the header: the fault tests declare them by hand.
#![allow(missing_docs)]

use std::ffi::{c_char, c_int};

use super::guard::guard_or;
use super::pointer::text_or_empty;
use crate::fault;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_test_fail(call: *const c_char, error: c_int, skip: c_int, times: c_int) {
    guard_or((), || {
        // SAFETY: the test passes a string that ends with a zero byte.
        let name = unsafe { text_or_empty(call) };
        assert!(fault::fail(&name, error, skip, times), "no call has the name {name}");
        Some(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_test_calls(call: *const c_char) -> c_int {
    // SAFETY: the test passes a string that ends with a zero byte.
    guard_or(-1, || Some(fault::calls(&unsafe { text_or_empty(call) })))
}

#[unsafe(no_mangle)]
pub extern "C" fn ahoy_test_panic(skip: c_int) {
    guard_or((), || {
        fault::panic_after(skip);
        Some(())
    });
}
