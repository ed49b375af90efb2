//! # Log
//!
//! The library prints nothing. A program that wants to know sets a callback.

use std::ffi::{c_char, c_void};

use super::guard::guard;
use crate::log;
use crate::status::{Error, Status};

/// No messages.
pub const AHOY_LOG_OFF: i32 = 0;
/// Something failed that the library could not mend.
pub const AHOY_LOG_ERROR: i32 = 1;
/// Something is wrong that it could: a listener rests, a limit is reached.
pub const AHOY_LOG_WARN: i32 = 2;
/// Servers start and stop.
pub const AHOY_LOG_INFO: i32 = 3;
/// Connections open and close.
pub const AHOY_LOG_DEBUG: i32 = 4;
/// Everything.
pub const AHOY_LOG_TRACE: i32 = 5;

/// One message for the program's log, without a newline; it lives until this returns. Runs on the thread
/// where it happened: be quick, and do not call `ahoy_log_set`. Other calls are legal.
pub type ahoy_log_fn = Option<unsafe extern "C" fn(level: i32, message: *const c_char, user: *mut c_void)>;

/// Sets the callback for messages of `level` and all more severe ones, for the whole process. When this
/// returns, the callback that was set before is no longer running and will not be called again.
///
/// @param level   AHOY_LOG_OFF to AHOY_LOG_TRACE.
/// @param on_log  NULL: none.
/// @param user    passed to `on_log`.
/// @return AHOY_OK. AHOY_ERR_ENUM: no such level. AHOY_ERR_DEADLOCK: inside the log callback.
///
/// Each place in the library writes at most ten messages of the levels error, warn and info in a second; the next
/// one after that second says how many were held back ("... (and 1234 more like it)"), and `ahoy_metrics_text`
/// counts them all.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_log_set(level: i32, on_log: ahoy_log_fn, user: *mut c_void) -> Status {
    guard(|| {
        let level = log::level(level)
            .ok_or_else(|| Error::new(Status::Enum, format!("level: no level has the number {level}")))?;
        let sink = on_log.map(|call| CSink { call, user });
        log::set(
            level,
            sink.map(|sink| Box::new(move |level, message: &std::ffi::CStr| sink.write(level, message)) as _),
        )
    })
}

#[derive(Clone, Copy)]
struct CSink {
    call: unsafe extern "C" fn(i32, *const c_char, *mut c_void),
    user: *mut c_void,
}

// SAFETY: the header demands a callback that may run on any thread; `user` is only passed on to it.
unsafe impl Send for CSink {}
// SAFETY: as above.
unsafe impl Sync for CSink {}

impl CSink {
    fn write(&self, level: i32, message: &std::ffi::CStr) {
        // SAFETY: the program gave this function for this purpose; `message` lives until it returns.
        unsafe { (self.call)(level, message.as_ptr(), self.user) }
    }
}
