//! # Metrics
//!
//! What a server has done, as numbers (`ahoy_server_stats`) and as text for Prometheus.

use std::ffi::c_char;

use super::guard::guard;
use super::handle::ahoy_server;
use super::pointer::{out_text, require, set_out};
use super::server::find;
use crate::status::{Error, Status};

/// Writes everything that a server counts in Prometheus' text format (version 0.0.4): traffic, connections by
/// state, closes by reason, queues, refusals, the histogram of turn times, the driver. A handler for GET
/// /metrics sends it as it is: c_examples/metrics.c does.
///
/// @param text      receives the text and a zero byte; NULL if `capacity` is 0, to ask for the length.
/// @param capacity  size of `text` in bytes; 16 KiB suffice.
/// @param length    receives the length, without the zero byte, also when it does not fit; NULL if you do not
///                  care.
/// @return AHOY_OK. AHOY_ERR_STALE. AHOY_ERR_TOO_LONG: `text` is too small, and unchanged. AHOY_ERR_NULL.
///
/// Counting costs the workers no lock. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_metrics_text(
    server: ahoy_server,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Status {
    guard(|| {
        let metrics = find(server)?.metrics_text();
        // SAFETY: the caller passes NULL or a pointer to a size_t it owns.
        unsafe { set_out(length, metrics.len()) };
        if capacity == 0 {
            return Err(Error::new(Status::TooLong, format!("the text has {} bytes", metrics.len())));
        }
        require(text, "text")?;
        // SAFETY: the caller passes `capacity` writable bytes.
        unsafe { out_text(text, capacity, &metrics) }
    })
}
