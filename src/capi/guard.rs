//! What stands between C and a Rust function: forks, panics, and the text of the last error.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::log;
use crate::status::{Error, Result, Status};
use crate::sys;

thread_local! {
    /// The detail, with its zero byte; empty while there was no error.
    static LAST_ERROR: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs the body of an export that returns a status.
///
/// A child after fork is refused before anything is touched: locks may be held by threads that do not exist
/// there, and descriptors are shared with the parent.
#[inline]
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> Status {
    if sys::forked() {
        return fail(Status::Forked.into());
    }
    let _inside = log::Inside::enter();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(error)) => fail(error),
        Err(payload) => caught(payload),
    }
}

/// As [`guard`], for what is mostly called inside callbacks: `here` is tried first, and answers None where the thread is
/// not the worker that it takes. On a worker's thread the library's panics are known as such already.
#[inline]
pub(super) fn guard_here(here: impl FnOnce() -> Option<Result<()>>, elsewhere: impl FnOnce() -> Result<()>) -> Status {
    if sys::forked() {
        return fail(Status::Forked.into());
    }
    match catch_unwind(AssertUnwindSafe(here)) {
        Ok(Some(Ok(()))) => Status::Ok,
        Ok(Some(Err(error))) => fail(error),
        Ok(None) => guard(elsewhere),
        Err(payload) => caught(payload),
    }
}

/// As [`guard`], for what can be done by a short way most of the time: `shortly` says whether it was.
#[inline(always)]
pub(super) fn guard_short(shortly: impl FnOnce() -> bool, otherwise: impl FnOnce() -> Status) -> Status {
    if !sys::forked() && catch_unwind(AssertUnwindSafe(shortly)).unwrap_or(false) {
        return Status::Ok;
    }
    otherwise()
}

/// Runs the body of an export that returns something else; `otherwise` where it has nothing to return.
pub(super) fn guard_or<T: Copy>(otherwise: T, body: impl FnOnce() -> Option<T>) -> T {
    if sys::forked() {
        fail(Status::Forked.into());
        return otherwise;
    }
    guard_pure(otherwise, body)
}

/// As [`guard_or`], for exports that touch no object of the library and so may be called in a child, too.
pub(super) fn guard_pure<T: Copy>(otherwise: T, body: impl FnOnce() -> Option<T>) -> T {
    let _inside = log::Inside::enter();
    catch_unwind(AssertUnwindSafe(body)).ok().flatten().unwrap_or(otherwise)
}

/// What a panic comes to. Like [`fail`] it takes what it is given, so that this is dropped here, and not in each export.
#[cold]
#[inline(never)]
fn caught(payload: Box<dyn Any + Send>) -> Status {
    fail(Error::new(Status::Panic, log::panic_text(&*payload)))
}

/// Keeps the detail of an error for `ahoy_last_error`.
#[cold]
#[inline(never)]
pub(super) fn fail(error: Error) -> Status {
    let sentence = error.status.text().to_bytes();
    let detail = if error.detail.is_empty() { sentence } else { error.detail.as_bytes() };
    // A thread that is ending may have given its locals back already: then there is nobody left to ask.
    let _ = LAST_ERROR.try_with(|last| {
        let mut last = last.borrow_mut();
        last.clear();
        if last.try_reserve(detail.len() + 1).is_ok() {
            last.extend(detail.iter().filter(|byte| **byte != 0));
            last.push(0);
        }
    });
    error.status
}

/// The detail of this thread's last error as a C string; "" if there was none.
pub(super) fn last_error_text() -> *const c_char {
    let pointer = LAST_ERROR.try_with(|last| {
        let last = last.borrow();
        if last.is_empty() { c"".as_ptr() } else { last.as_ptr().cast() }
    });
    pointer.unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last() -> &'static CStr {
        // SAFETY: the string is this thread's and is copied by no one while the test looks at it.
        unsafe { CStr::from_ptr(last_error_text()) }
    }

    #[test]
    fn a_panic_becomes_a_status() {
        log::silence_panics();
        let _silent = log::Inside::enter();
        assert_eq!(guard(|| panic!("a bug")), Status::Panic);
        assert_eq!(last(), c"a bug");
        assert_eq!(guard_or(7, || panic!("another")), 7);
    }

    #[test]
    fn the_detail_is_this_threads_and_survives_success() {
        assert_eq!(guard(|| Err(Error::new(Status::Url, "mine"))), Status::Url);
        std::thread::spawn(|| assert_eq!(last(), c"")).join().unwrap();
        assert_eq!(guard(|| Ok(())), Status::Ok);
        assert_eq!(last(), c"mine");
        assert_eq!(guard(|| Err(Status::Stale.into())), Status::Stale);
        assert_eq!(last(), Status::Stale.text());
    }
}
