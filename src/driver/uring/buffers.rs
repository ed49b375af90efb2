//! The memory that the kernel receives into: a ring of buffers, each of which it fills piece by piece.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::fault::{self, Call};

/// Buffers; a power of two.
const COUNT: u16 = 16;
/// The group that receives name. Each ring has one.
pub(super) const GROUP: u16 = 0;
/// The kernel gives a buffer out in pieces, one behind the other (Linux 6.12): small messages lie close together, and few
/// buffers serve many connections.
const IOU_PBUF_RING_INC: u16 = 2;

pub(super) struct Buffers {
    /// One mapping: the ring's entries in the first page, and behind it the buffers.
    base: *mut u8,
    bytes: usize,
    buffer_bytes: usize,
    /// Behind the last entry that the kernel may take.
    tail: u16,
    /// How much of each buffer is given out.
    given: [usize; COUNT as usize],
}

// SAFETY: the mapping is its alone; what the kernel writes there it writes to whole pieces that were not told yet.
unsafe impl Send for Buffers {}

const PAGE_BYTES: usize = 4096;

impl Buffers {
    /// Maps them and registers them with a ring, which has to be gone before they are.
    pub(super) fn register(ring: &IoUring, buffer_bytes: usize) -> io::Result<Self> {
        fault::check(Call::Memory)?;
        let bytes = PAGE_BYTES + usize::from(COUNT) * buffer_bytes;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, which overlaps nothing.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut buffers = Self { base: base.cast(), bytes, buffer_bytes, tail: 0, given: [0; COUNT as usize] };
        // SAFETY: the entries are in a page of their own, which stays mapped until after the ring has gone.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(buffers.base as u64, COUNT, GROUP, IOU_PBUF_RING_INC)?;
        }
        (0..COUNT).for_each(|id| buffers.offer(id));
        Ok(buffers)
    }

    /// What the kernel says it has written: the next piece of a buffer.
    pub(super) fn piece(&mut self, id: u16, length: usize) -> *const [u8] {
        let given = &mut self.given[usize::from(id)];
        let at = PAGE_BYTES + usize::from(id) * self.buffer_bytes + *given;
        *given += length;
        debug_assert!(*given <= self.buffer_bytes);
        // SAFETY: the buffer has so many bytes behind that place.
        unsafe { ptr::slice_from_raw_parts(self.base.add(at), length) }
    }

    /// Gives a buffer, of which nothing is needed any more, to the kernel.
    #[allow(clippy::cast_possible_truncation)] // a buffer is small
    pub(super) fn offer(&mut self, id: u16) {
        self.given[usize::from(id)] = 0;
        let ring = self.base.cast::<BufRingEntry>();
        let at = PAGE_BYTES + usize::from(id) * self.buffer_bytes;
        // SAFETY: the entry is in the first page, and not the kernel's while the tail has not passed it.
        unsafe {
            let entry = &mut *ring.add(usize::from(self.tail & (COUNT - 1)));
            entry.set_addr(self.base.add(at) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(ring).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: it is our mapping, and the ring that knew it has gone.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}
