//! The C face: the only exports of the library. One file for each group of the header.
//!
//! Here C's pointers, strings and numbers are checked and turned into safe values; nothing below this
//! module knows a C pointer, and nothing in it knows how a connection works. Every export runs inside
//! [`guard`], which answers for forks and panics.
#![allow(unsafe_code, non_camel_case_types)]
// The comments become the header's: what a C caller has to see to is said there, in C's words.
#![allow(clippy::missing_safety_doc)]

mod address;
mod client;
mod cluster;
mod conn;
mod driver;
mod entry;
mod error;
mod framing;
mod greeting;
mod guard;
mod handle;
mod handler;
mod handover;
#[cfg(feature = "test-hooks")]
mod hooks;
mod kv;
mod log;
mod metrics;
mod pointer;
mod queue;
mod server;
mod service;
mod timer;
mod topic;
mod watch;

pub use address::*;
pub use client::*;
pub use cluster::*;
pub use conn::*;
pub use driver::*;
pub use error::*;
pub use framing::*;
pub use greeting::*;
pub use handle::*;
pub use handover::*;
#[cfg(feature = "test-hooks")]
pub use hooks::*;
pub use kv::*;
pub use log::*;
pub use metrics::*;
pub use queue::*;
pub use server::*;
pub use service::*;
pub use timer::*;
pub use topic::*;
pub use watch::*;
