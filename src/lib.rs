//! Ahoy: the socket server that C programs link.
//!
//! The map, from the outside in; arrows between modules run down this list only:
//!
//! - `capi`: the C face, the only exports. One file for each group of `include/ahoy.h`.
//! - [`server`]: a server from start to free; its workers, and what other threads ask of them.
//! - [`greeting`]: the blocking calls that greet one client without a server.
//! - `driver`: between a worker and the kernel; one contract, epoll behind it.
//! - [`conn`]: handles, the life of one connection, and the bytes it still has to send.
//! - `timer`, [`net`], [`options`], [`metrics`], [`log`]: the wheel of timers, addresses, limits, counts, messages.
//! - [`sys`], [`status`], `fault`: the system calls, the codes, and the seam where tests make calls fail.
//!
//! Start reading at [`server`], then `server/worker.rs`: one turn of a worker is the whole engine.
//! `docs/ARCHITECTURE.md` tells the invariants.

pub mod capi;
pub mod conn;
mod driver;
mod fault;
pub mod greeting;
pub mod log;
pub mod metrics;
pub mod net;
pub mod options;
pub mod server;
pub mod status;
pub mod sys;
mod timer;
