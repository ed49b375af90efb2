//! C's pointers, checked: what is NULL, how long it is, whether a struct is one that we know.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use crate::status::{Error, Result, Status};
use crate::sys;

/// Refuses NULL.
pub(super) fn require<T>(pointer: *const T, name: &str) -> Result<()> {
    if pointer.is_null() { Err(null(name)) } else { Ok(()) }
}

fn null(name: &str) -> Error {
    Error::new(Status::Null, format!("{name} is NULL"))
}

/// The text of a string that may be NULL.
///
/// SAFETY: `pointer` is NULL or a string that ends with a zero byte and outlives the result.
pub(super) unsafe fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    // SAFETY: as promised by our caller.
    let Some(bytes) = (unsafe { optional_bytes(pointer) }) else { return Ok(None) };
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Error::new(Status::Url, format!("{name} is not UTF-8"))),
    }
}

/// The text of a string that may not be NULL.
///
/// SAFETY: as for [`optional_text`].
pub(super) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: as promised by our caller.
    let bytes = unsafe { optional_bytes(pointer) }.ok_or_else(|| null(name))?;
    std::str::from_utf8(bytes).map_err(|_| Error::new(Status::Invalid, format!("{name} is not UTF-8")))
}

/// The bytes of a string that may be NULL, without the zero byte.
///
/// SAFETY: as for [`optional_text`].
pub(super) unsafe fn optional_bytes<'a>(pointer: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: not NULL, and as promised by our caller.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// The text of a string for display; NULL is empty.
///
/// SAFETY: as for [`optional_text`].
pub(super) unsafe fn text_or_empty<'a>(pointer: *const c_char) -> Cow<'a, str> {
    // SAFETY: as promised by our caller.
    String::from_utf8_lossy(unsafe { optional_bytes(pointer) }.unwrap_or_default())
}

/// `length` bytes at `pointer`, which may be NULL only if there are none.
///
/// SAFETY: `pointer` is NULL or has `length` readable bytes that outlive the result.
pub(super) unsafe fn bytes<'a>(pointer: *const c_void, length: usize) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Error::new(Status::Null, "data is NULL and its length is not 0"));
    }
    if length > isize::MAX.unsigned_abs() {
        return Err(Error::new(Status::TooLong, "length is longer than memory can be"));
    }
    // SAFETY: not NULL, within isize, and as promised by our caller.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// `count` values at `pointer`, which may be NULL only if there are none.
///
/// SAFETY: `pointer` is NULL or has `count` values that outlive the result.
pub(super) unsafe fn array<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    require(pointer, name)?;
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX.unsigned_abs()) {
        return Err(Error::new(Status::TooLong, format!("{name} is longer than memory can be")));
    }
    if !pointer.is_aligned() {
        return Err(Error::new(Status::Invalid, format!("{name} is not aligned")));
    }
    // SAFETY: not NULL, aligned, within isize, and as promised by our caller.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// `count` descriptors, which need not be open.
///
/// SAFETY: as for [`array`].
pub(super) unsafe fn descriptors<'a>(pointer: *const c_int, count: usize) -> Result<&'a [RawFd]> {
    // SAFETY: as promised by our caller.
    unsafe { array(pointer, count, "fds") }
}

/// Hands descriptors that `make` gives to the caller, who has room for `capacity`; all of them or none.
///
/// SAFETY: `pointer` is NULL or has room for `capacity` descriptors.
pub(super) unsafe fn out_descriptors(
    pointer: *mut c_int,
    capacity: usize,
    make: impl FnOnce() -> Result<Vec<OwnedFd>>,
) -> Result<()> {
    if capacity > 0 {
        require(pointer, "fds")?;
    }
    let made = make()?;
    if made.len() > capacity {
        let text = format!("{} descriptors do not fit: there is room for {capacity}", made.len());
        return Err(Error::new(Status::TooLong, text));
    }
    for (at, descriptor) in made.into_iter().enumerate() {
        // SAFETY: `at` is less than `capacity`, and as promised by our caller.
        unsafe { pointer.add(at).write(descriptor.into_raw_fd()) };
    }
    Ok(())
}

/// A buffer to write to, or none.
///
/// SAFETY: `pointer` is NULL or has `capacity` writable bytes that nothing else uses meanwhile.
pub(super) unsafe fn out_buffer<'a>(
    pointer: *mut c_void,
    capacity: usize,
) -> Result<Option<&'a mut [MaybeUninit<u8>]>> {
    if capacity == 0 {
        return Ok(None);
    }
    if pointer.is_null() {
        return Err(Error::new(Status::Null, "buffer is NULL and its capacity is not 0"));
    }
    let capacity = capacity.min(isize::MAX.unsigned_abs());
    // SAFETY: not NULL, within isize, and as promised by our caller.
    Ok(Some(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), capacity) }))
}

/// A descriptor that is open.
///
/// SAFETY: it stays open as long as the result lives.
pub(super) unsafe fn borrow<'a>(fd: c_int) -> Result<BorrowedFd<'a>> {
    if !sys::is_open(fd) {
        return Err(Error::new(Status::BadDescriptor, format!("{fd} is not open")));
    }
    // SAFETY: it is open, and as promised by our caller.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Writes `text` and a zero byte, or nothing.
///
/// SAFETY: `pointer` is NULL or has `capacity` writable bytes.
pub(super) unsafe fn out_text(pointer: *mut c_char, capacity: usize, text: &str) -> Result<()> {
    require(pointer, "text")?;
    if text.len() >= capacity {
        return Err(Error::new(Status::TooLong, format!("text needs {} bytes and has {capacity}", text.len() + 1)));
    }
    // SAFETY: there is room for the text and its zero byte, as just checked.
    unsafe {
        pointer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
        pointer.add(text.len()).write(0);
    }
    Ok(())
}

/// Writes an output that the caller may not want.
///
/// SAFETY: `pointer` is NULL or points to a `T` that the caller owns.
pub(super) unsafe fn set_out<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() {
        // SAFETY: not NULL, and as promised by our caller.
        unsafe { pointer.write(value) };
    }
}

/// A C struct that starts with its size and only ever grows at the end.
///
/// # Safety
///
/// The type is `repr(C)`, starts with `size: usize`, and is valid with all bytes zero.
pub(super) unsafe trait Sized: Copy {
    /// The size of its first release.
    const SIZE_MIN: usize;
}

/// No struct of ours will ever be larger: a `size` beyond it was never set.
const SIZE_MAX: usize = 4096;

/// Reads a struct that may be older (shorter: the rest is zero) or newer (longer: the rest must be zero)
/// than ours.
///
/// SAFETY: `pointer` is not NULL and points to as many bytes as its first field says.
pub(super) unsafe fn read_sized<T: Sized>(pointer: *const T) -> Result<T> {
    // SAFETY: as promised by our caller: the size is there, and what it says.
    let size = unsafe { checked_size(pointer)? };
    let known = size.min(size_of::<T>());
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable there and fit here; the trait promises that the rest may be zero.
    unsafe {
        let source = pointer.cast::<u8>();
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(source, known);
        let rest = std::slice::from_raw_parts(source.add(known), size - known);
        if rest.iter().any(|byte| *byte != 0) {
            let text = format!(
                "size is {size}, and something is set behind the {known} bytes that this version of the library \
                 knows: an option of a newer one, or size is too large"
            );
            return Err(Error::new(Status::Unsupported, text));
        }
        Ok(value.assume_init())
    }
}

/// Writes as much of `value` as the caller's struct has room for, and leaves its size as it is.
///
/// SAFETY: `pointer` is not NULL and points to as many writable bytes as its first field says.
pub(super) unsafe fn write_sized<T: Sized>(pointer: *mut T, value: T) -> Result<()> {
    // SAFETY: as promised by our caller.
    let size = unsafe { checked_size(pointer)? };
    let known = size.min(size_of::<T>());
    let skip = size_of::<usize>();
    // SAFETY: both have `known` bytes, which are at least the size field.
    unsafe {
        let source = (&raw const value).cast::<u8>().add(skip);
        pointer.cast::<u8>().add(skip).copy_from_nonoverlapping(source, known - skip);
        pointer.cast::<u8>().add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// SAFETY: `pointer` points to a readable size field.
unsafe fn checked_size<T: Sized>(pointer: *const T) -> Result<usize> {
    // SAFETY: as promised by our caller.
    let size = unsafe { pointer.cast::<usize>().read() };
    if (T::SIZE_MIN..=SIZE_MAX).contains(&size) {
        return Ok(size);
    }
    Err(Error::new(
        Status::Size,
        format!("size is {size}; it must be at least {} (set it to sizeof the struct)", T::SIZE_MIN),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Now {
        size: usize,
        first: u32,
        second: u32,
    }
    // SAFETY: plain numbers, `size` first.
    unsafe impl Sized for Now {
        const SIZE_MIN: usize = size_of::<usize>();
    }

    #[repr(C)]
    struct Later {
        now: Now,
        third: u64,
    }

    #[test]
    fn an_older_struct_is_filled_with_zeros() {
        let older: usize = size_of::<usize>();
        // SAFETY: the struct is as long as it says.
        let read = unsafe { read_sized((&raw const older).cast::<Now>()) }.unwrap();
        assert_eq!(read, Now { size: older, first: 0, second: 0 });
    }

    #[test]
    fn a_newer_struct_is_taken_if_it_asks_for_nothing_new() {
        let mut later = Later { now: Now { size: size_of::<Later>(), first: 1, second: 2 }, third: 0 };
        // SAFETY: the struct is as long as it says.
        assert_eq!(unsafe { read_sized((&raw const later).cast::<Now>()) }.unwrap().second, 2);
        later.third = 3;
        // SAFETY: as above.
        let error = unsafe { read_sized((&raw const later).cast::<Now>()) }.unwrap_err();
        assert_eq!(error.status, Status::Unsupported);
        assert!(error.detail.starts_with("size is 24, and something is set behind the 16 bytes"), "{error}");
    }

    #[test]
    fn a_size_never_set_is_refused() {
        for size in [0, 1, SIZE_MAX + 1, usize::MAX] {
            let now = Now { size, first: 0, second: 0 };
            // SAFETY: a wrong size is refused before anything behind it is read.
            assert_eq!(unsafe { read_sized(&raw const now) }.unwrap_err().status, Status::Size);
        }
    }

    #[test]
    fn a_shorter_struct_is_written_no_further_than_it_goes() {
        let mut now = Now { size: size_of::<usize>() + 4, first: 0, second: 77 };
        // SAFETY: the struct is at least as long as it says.
        unsafe { write_sized(&raw mut now, Now { size: 0, first: 5, second: 6 }) }.unwrap();
        assert_eq!(now, Now { size: size_of::<usize>() + 4, first: 5, second: 77 });
    }

    #[test]
    fn text_is_written_whole_or_not_at_all() {
        let mut text = [7u8; 4];
        // SAFETY: four bytes are there.
        unsafe {
            assert_eq!(out_text(text.as_mut_ptr().cast(), 4, "four").unwrap_err().status, Status::TooLong);
            assert_eq!(text, [7; 4]);
            out_text(text.as_mut_ptr().cast(), 4, "abc").unwrap();
        }
        assert_eq!(&text, b"abc\0");
    }

    #[test]
    fn null_with_a_length_is_refused() {
        // SAFETY: NULL is refused before it is read.
        unsafe {
            assert_eq!(bytes(std::ptr::null(), 1).unwrap_err().status, Status::Null);
            assert!(bytes(std::ptr::null(), 0).unwrap().is_empty());
            assert!(out_buffer(std::ptr::null_mut(), 1).is_err());
        }
    }

    #[test]
    fn a_text_is_there_and_utf_8() {
        // SAFETY: NULL, and strings that end with a zero byte.
        unsafe {
            assert_eq!(text(c"name".as_ptr(), "topic").unwrap(), "name");
            assert_eq!(text(c"\xff".as_ptr(), "topic").unwrap_err().status, Status::Invalid);
            let error = text(std::ptr::null(), "topic").unwrap_err();
            assert_eq!((error.status, &*error.detail), (Status::Null, "topic is NULL"));
        }
    }

    #[test]
    fn an_array_is_checked_before_it_is_read() {
        let numbers = [1u32, 2, 3];
        // SAFETY: what is not refused is there.
        unsafe {
            assert_eq!(array(numbers.as_ptr(), 3, "numbers").unwrap(), numbers);
            assert!(array::<u32>(std::ptr::null(), 0, "numbers").unwrap().is_empty());
            assert_eq!(array::<u32>(std::ptr::null(), 1, "numbers").unwrap_err().status, Status::Null);
            let odd = numbers.as_ptr().byte_add(1);
            assert_eq!(array(odd, 1, "numbers").unwrap_err().status, Status::Invalid);
            for count in [usize::MAX, usize::MAX / 4 + 2, isize::MAX.unsigned_abs() / 4 + 1] {
                assert_eq!(array(numbers.as_ptr(), count, "numbers").unwrap_err().status, Status::TooLong);
            }
        }
    }

    #[test]
    fn descriptors_are_handed_out_all_or_none() {
        let open = |count: usize| -> Vec<OwnedFd> {
            (0..count).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect()
        };
        let mut out = [-7; 2];
        // SAFETY: there is room for two.
        unsafe {
            let error = out_descriptors(std::ptr::null_mut(), 1, || panic!("it is not asked")).unwrap_err();
            assert_eq!(error.status, Status::Null);
            let error = out_descriptors(out.as_mut_ptr(), 2, || Ok(open(3))).unwrap_err();
            assert_eq!((error.status, out), (Status::TooLong, [-7; 2]));
            let error = out_descriptors(std::ptr::null_mut(), 0, || Ok(open(1))).unwrap_err();
            assert_eq!(error.status, Status::TooLong);
            out_descriptors(std::ptr::null_mut(), 0, || Ok(Vec::new())).unwrap();
            out_descriptors(out.as_mut_ptr(), 2, || Ok(open(2))).unwrap();
            assert!(out.iter().all(|fd| sys::is_open(*fd)));
            out.into_iter().for_each(sys::close);
        }
    }
}
