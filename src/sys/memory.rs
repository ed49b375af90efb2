//! Memory that there may be none of.

use std::collections::TryReserveError;

use crate::fault::{self, Call};

/// A value on the heap, or an answer that there is no room for it.
pub fn boxed<T>(value: T) -> Result<Box<T>, crate::status::Error> {
    fault::check(Call::Memory).map_err(|_| crate::status::Status::Memory)?;
    let mut place = Vec::new();
    place.try_reserve_exact(1)?;
    place.push(value);
    let slice: Box<[T]> = place.into_boxed_slice();
    // SAFETY: a slice of one value has the layout of the value.
    Ok(unsafe { Box::from_raw(Box::into_raw(slice).cast::<T>()) })
}

/// Makes room for a number of bytes that the program or a peer has chosen, or says that there is none.
pub fn reserve(buffer: &mut Vec<u8>, bytes: usize) -> Result<(), TryReserveError> {
    let bytes = if fault::check(Call::Memory).is_ok() { bytes } else { usize::MAX };
    buffer.try_reserve_exact(bytes)
}
