//! Subjects and payloads on their way to the connection's task. Memory that one thread takes and another gives back costs more
//! than all the rest of a publish; so small ones share chunks, and a subject that comes again is not written again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::Subject;
use bytes::{Bytes, BytesMut};

/// Longer ones have memory of their own.
const SHARED_BYTES_MAX: usize = 4 << 10;
const CHUNK_BYTES: usize = 64 << 10;

pub(super) struct Pack(Mutex<State>);

struct State {
    chunk: BytesMut,
    /// The last one.
    subject: Subject,
}

impl Default for Pack {
    fn default() -> Self {
        Self(Mutex::new(State { chunk: BytesMut::new(), subject: Subject::from_static("") }))
    }
}

impl Pack {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both, as the connection takes them.
    pub(super) fn message(&self, subject: &str, payload: &[u8]) -> (Subject, Bytes) {
        // Copied with nothing locked.
        let long = (payload.len() > SHARED_BYTES_MAX).then(|| Bytes::copy_from_slice(payload));
        let mut state = self.lock();
        if state.subject.as_str() != subject {
            let bytes = state.put(subject.as_bytes());
            state.subject = Subject::from_utf8(bytes).unwrap_or_else(|_| subject.into());
        }
        (state.subject.clone(), long.unwrap_or_else(|| state.put(payload)))
    }
}

impl State {
    fn put(&mut self, bytes: &[u8]) -> Bytes {
        if self.chunk.capacity() < bytes.len() {
            // The same memory again, if nothing of it is on its way any more.
            self.chunk.reserve(CHUNK_BYTES);
        }
        self.chunk.extend_from_slice(bytes);
        self.chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_stays_what_it_is() {
        let (pack, long) = (Pack::default(), vec![b'l'; SHARED_BYTES_MAX + 1]);
        let mut kept = Vec::new();
        // Many chunks' worth, of which all stays on its way.
        for round in 0..1_000 {
            let (subject, payload) = (format!("s.{}", round / 3), format!("{round:200}"));
            kept.push((pack.message(&subject, payload.as_bytes()), subject.clone(), payload.into_bytes()));
            kept.push((pack.message(&subject, &long), subject.clone(), long.clone()));
            kept.push((pack.message(&subject, b""), subject, Vec::new()));
        }
        for ((wire, bytes), subject, payload) in kept {
            assert_eq!((wire.as_str(), &bytes[..]), (subject.as_str(), &payload[..]));
        }
    }

    #[test]
    fn memory_is_used_again_when_nothing_of_it_is_on_its_way() {
        let pack = Pack::default();
        let at = || pack.message("s", &[0; 100]).1.as_ptr() as usize;
        // The subject keeps the chunk that it is in.
        let chunk = (0..1_000).fold(0, |_, _| at());
        assert!((0..100_000).all(|_| at().abs_diff(chunk) <= CHUNK_BYTES), "other memory");
    }
}
