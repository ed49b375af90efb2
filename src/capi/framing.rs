//! # Framing
//!
//! How the messages of a conversation lie in a stream of bytes. A server has one framing, a listener may
//! have its own, in the query of its URL: "tcp://0.0.0.0:7000?framing=lines". What a peer sends becomes whole
//! messages, one on_message for each; what the program sends gets its frame from `ahoy_send`. A message that
//! lies whole in what one read gave is handed on in place, without a copy; only a partial one is kept.
//!
//! In a URL:
//!
//!     ?framing=raw
//!     ?framing=lines
//!     ?framing=length&length_bytes=2&length_order=little      (default: 4 bytes, big-endian)
//!     ?framing=delimiter&delimiter=%0D%0A%0D%0A               (percent-encoded)

use std::ffi::c_void;

use super::pointer::{Sized, bytes, read_sized};
use crate::framing::{Framing, Order};
use crate::status::{Error, Result, Status};

/// As `framing`: what goes without saying. For `ahoy_connect` that is the server's framing, otherwise
/// none.
pub const AHOY_FRAMING_DEFAULT: i32 = 0;
/// As `framing`: none. A message is what one read gave: TCP may split and join what the peer sent. Sends go
/// out as they are.
pub const AHOY_FRAMING_RAW: i32 = 1;
/// As `framing`: lines. Each ends with LF or CRLF, which is not part of the message; sends get an LF. A
/// message may be empty. What a peer leaves without an end is no message.
pub const AHOY_FRAMING_LINES: i32 = 2;
/// As `framing`: in front of each message its length in bytes, which may be 0; by default in four bytes,
/// big-endian.
pub const AHOY_FRAMING_LENGTH: i32 = 3;
/// As `framing`: behind each message a delimiter of your choice. The delimiter must not occur in what is
/// sent, or the other side takes it for several messages (this holds for LF and lines, too).
pub const AHOY_FRAMING_DELIMITER: i32 = 4;

/// As `length_order`: the most significant byte comes first (network order).
pub const AHOY_ORDER_BIG: i32 = 0;
/// As `length_order`: the least significant byte comes first.
pub const AHOY_ORDER_LITTLE: i32 = 1;

/// The particulars of AHOY_FRAMING_LENGTH and AHOY_FRAMING_DELIMITER.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_framing_options {
    /// sizeof(ahoy_framing_options).
    pub size: usize,
    /// With AHOY_FRAMING_DELIMITER: the delimiter, 1 to 64 bytes.
    pub delimiter: *const c_void,
    /// Length of the delimiter in bytes. 0: `delimiter` is a string that ends with a zero byte.
    pub delimiter_bytes: usize,
    /// With AHOY_FRAMING_LENGTH: bytes of the length: 1, 2 or 4. 0: 4.
    pub length_bytes: u32,
    /// With AHOY_FRAMING_LENGTH: AHOY_ORDER_BIG or AHOY_ORDER_LITTLE.
    pub length_order: i32,
}

// SAFETY: a plain C struct for which all bytes zero are the defaults; `size` comes first.
unsafe impl Sized for ahoy_framing_options {
    const SIZE_MIN: usize = size_of::<Self>();
}

/// None: the default, whatever that is there.
///
/// SAFETY: `options` is NULL or points to a struct that starts with its size, and its delimiter is readable.
pub(super) unsafe fn framing(kind: i32, options: *const ahoy_framing_options) -> Result<Option<Framing>> {
    let options = match options.is_null() {
        true => None,
        // SAFETY: not NULL, and as promised by our caller.
        false => Some(unsafe { read_sized(options)? }),
    };
    let framing = match kind {
        AHOY_FRAMING_DEFAULT => return Ok(None),
        AHOY_FRAMING_RAW => Framing::Raw,
        AHOY_FRAMING_LINES => Framing::Lines,
        AHOY_FRAMING_LENGTH => {
            let order = match options.map_or(AHOY_ORDER_BIG, |options| options.length_order) {
                AHOY_ORDER_BIG => Order::Big,
                AHOY_ORDER_LITTLE => Order::Little,
                other => {
                    return Err(Error::new(Status::Enum, format!("length_order: no order has the number {other}")));
                }
            };
            Framing::length(options.map_or(0, |options| options.length_bytes), order)?
        }
        AHOY_FRAMING_DELIMITER => {
            let given = options.ok_or_else(|| Error::new(Status::Null, "framing_options is NULL: no delimiter"))?;
            // SAFETY: as promised by our caller.
            let delimiter = unsafe {
                match given.delimiter_bytes {
                    0 if !given.delimiter.is_null() => std::ffi::CStr::from_ptr(given.delimiter.cast()).to_bytes(),
                    length => bytes(given.delimiter, length)?,
                }
            };
            Framing::delimiter(delimiter)?
        }
        other => return Err(Error::new(Status::Enum, format!("framing: no framing has the number {other}"))),
    };
    Ok(Some(framing))
}
