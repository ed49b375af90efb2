//! The C face: the only exports of the library. One file for each group of the header.
//!
//! Here C's pointers, strings and numbers are checked and turned into safe values; nothing below this
//! module knows a C pointer, and nothing in it knows how a connection works. Every export runs inside
//! [`guard`], which answers for forks and panics.
#![allow(unsafe_code, non_camel_case_types)]
// The comments become the header's: what a C caller has to see to is said there, in C's words.
#![allow(clippy::missing_safety_doc)]

mod conn;
mod error;
mod greeting;
mod guard;
mod handle;
#[cfg(feature = "test-hooks")]
mod hooks;
mod log;
mod pointer;
mod server;

pub use conn::*;
pub use error::*;
pub use greeting::*;
pub use handle::*;
#[cfg(feature = "test-hooks")]
pub use hooks::*;
pub use log::*;
pub use server::*;
