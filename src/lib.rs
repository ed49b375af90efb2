//! Ahoy: the socket server that C programs link.
//!
//! The map, from the outside in; arrows between modules run down this list only:
//!
//! - `capi`: the C face, the only exports. One file for each group of `include/ahoy.h`.
//! - [`server`]: a server from start to free; its workers, and what other threads ask of them.
//! - [`greeting`], [`client`], [`handover`]: the blocking calls, which need no server: greet one client, ask one question,
//!   pass descriptors to another process.
//! - [`cluster`]: several servers that act as one: members, and what carries messages between them.
//! - `driver`: between a worker and the kernel; one contract, epoll and io_uring behind it.
//! - [`conn`]: handles, the life of one connection, and the bytes it still has to send.
//! - [`framing`]: how messages lie in a stream of bytes.
//! - `resolver`, `timer`, [`net`], [`options`], [`metrics`], [`log`]: names, the wheel of timers, addresses, limits,
//!   counts, messages.
//! - [`sys`], [`status`], `fault`: the system calls, the codes, and the seam where tests make calls fail.
//!
//! Start reading at [`server`], then `server/worker.rs`: one turn of a worker is the whole engine.
//! `docs/ARCHITECTURE.md` tells the invariants.

pub mod capi;
pub mod client;
pub mod cluster;
pub mod conn;
mod driver;
mod fault;
pub mod framing;
pub mod greeting;
pub mod handover;
pub mod log;
pub mod metrics;
pub mod net;
pub mod options;
mod probes;
mod resolver;
pub mod server;
pub mod status;
pub mod sys;
mod timer;
