//! # Handles
//!
//! Objects are small values that may be copied, compared (by `id`), kept and passed to other threads
//! freely. They never dangle: the library knows a stale one.

/// A server. `id` 0: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_server {
    /// Opaque.
    pub id: u64,
}

/// One connection of a server. `id` 0: none. Valid from before on_open until on_close has returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_conn {
    /// Opaque.
    pub id: u64,
}

/// A timer. `id` 0: none. Valid until its `on_free` is called.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_timer {
    /// Opaque.
    pub id: u64,
}

/// A function's subscription to a topic. `id` 0: none. Valid until its `on_free` is called.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_subscription {
    /// Opaque.
    pub id: u64,
}

/// Working on a queue. `id` 0: none. Valid until `ahoy_work_stop`, or until the server stops.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_work {
    /// Opaque.
    pub id: u64,
}

/// An open bucket. `id` 0: none. Valid until `ahoy_kv_close`, or until the server has stopped.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_kv {
    /// Opaque.
    pub id: u64,
}

/// A job in hand. `id` 0: none. Valid until it ends, or until the server has stopped.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_job {
    /// Opaque.
    pub id: u64,
}

/// A watch of a bucket. `id` 0: none. Valid until it is ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_watch {
    /// Opaque.
    pub id: u64,
}
