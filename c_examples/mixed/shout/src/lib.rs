//! What is easier in Rust than in C: upper case in every script, also where the length changes
//! ("straße" becomes "STRASSE").

/// Writes `text` in upper case to `out` and returns its length in bytes, or 0 if it does not fit. Bytes
/// that are not UTF-8 become U+FFFD.
///
/// # Safety
///
/// `text` points to `len` readable bytes, `out` to `capacity` writable ones; they do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shout(text: *const u8, len: usize, out: *mut u8, capacity: usize) -> usize {
    // SAFETY: the caller promises both.
    let (text, out) = unsafe { (std::slice::from_raw_parts(text, len), std::slice::from_raw_parts_mut(out, capacity)) };
    let loud = String::from_utf8_lossy(text).to_uppercase();
    match out.get_mut(..loud.len()) {
        Some(room) => {
            room.copy_from_slice(loud.as_bytes());
            loud.len()
        }
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    fn shout(text: &str, capacity: usize) -> String {
        let mut out = vec![0; capacity];
        // SAFETY: both slices are as long as they say.
        let len = unsafe { super::shout(text.as_ptr(), text.len(), out.as_mut_ptr(), capacity) };
        String::from_utf8(out[..len].to_vec()).unwrap()
    }

    #[test]
    fn changes_length() {
        assert_eq!(shout("straße", 64), "STRASSE");
        assert_eq!(shout("straße", 7), "STRASSE");
        assert_eq!(shout("straße", 6), "");
    }
}
