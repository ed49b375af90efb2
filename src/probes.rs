//! USDT probes: places where SystemTap, bpftrace, perf and gdb can look into a running server, such as
//!
//! ```text
//! bpftrace -e 'usdt:libahoy.so:ahoy:turn_end { @ns = hist(arg1); }'
//! ```
//!
//! With the feature `probes` each is one instruction that does nothing, and a note in the file that says where it is and
//! which registers have its arguments. Without it there is nothing at all.

macro_rules! probes {
    ($($(#[$comment:meta])* $name:ident($($argument:ident: $kind:ty),*);)*) => {
        $(
            $(#[$comment])*
            #[inline(always)]
            pub(crate) fn $name($($argument: $kind),*) {
                #[cfg(feature = "probes")]
                probe::probe!(ahoy, $name $(, $argument)*);
                #[cfg(not(feature = "probes"))]
                let _ = ($($argument,)*);
            }
        )*
    };
}

// Connections are given by the number of their handle, what a program sees as `id`.
probes! {
    /// A connection is open: just before `on_open`.
    conn_opened(conn: u64);
    /// A connection is over: just before `on_close`. `reason` is a status: 0 or negative.
    conn_closed(conn: u64, reason: i32);
    /// A message came: just before `on_message`.
    message_in(conn: u64, bytes: usize);
    /// A message was taken for sending; `bytes` are without its frame.
    message_out(conn: u64, bytes: usize);
    /// A worker's wait is over.
    turn_begin(worker: u32);
    /// A worker is about to wait again: its turn has taken so long.
    turn_end(worker: u32, nanoseconds: u64);
}
