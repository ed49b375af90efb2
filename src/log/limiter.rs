//! How often each place in the code may write to the log: a fault that happens a million times a second must not fill
//! the program's disk, nor hold the workers up.

use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, Record};

/// Messages that one place may write in one second.
const MESSAGES_MAX: u64 = 10;

/// Places that have a limit of their own: more than the library has that write at these levels.
const PLACES: usize = 256;
/// How many places of the table a new one tries before it shares one. Sharing makes a limit stricter; what is held back
/// is counted all the same.
const PROBES: usize = 16;

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it, and say that so many like it were held back before.
    Write {
        /// May be 0.
        held_back: u32,
    },
    /// Hold it back: it is counted.
    Hold,
}

/// A place in the code that writes to the log; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site(u64);

impl Site {
    /// Where a message comes from; None: from a level that is not limited, since who wants it wants all of it.
    pub(super) fn of(record: &Record<'_>) -> Option<Self> {
        if record.level() > Level::Info {
            return None;
        }
        let file = record.file().unwrap_or_else(|| record.target());
        Some(Self::new(file, record.line().unwrap_or(0)))
    }

    fn new(file: &str, line: u32) -> Self {
        // FNV-1a, over the whole name: the same text may lie at several addresses.
        let bytes = file.bytes().chain(line.to_le_bytes());
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        Self(u64::max(hash, 1))
    }
}

/// The limits of all places. Nothing in it locks or allocates: messages come from workers, and from a panic's hook.
pub(super) struct Limiter {
    places: [Place; PLACES],
    held_back: AtomicU64,
}

struct Place {
    /// Whose it is; 0: nobody's yet. Once given it is never taken away.
    site: AtomicU64,
    /// A [`Window`] in one word, so that no count gets lost between two threads.
    window: AtomicU64,
}

/// What a place has done in the second in which it wrote last.
#[derive(Clone, Copy, Default)]
struct Window {
    /// The second; its upper bits are cut off, which matters once in eight years.
    second: u64,
    written: u64,
    held_back: u32,
}

const SECOND_BITS: u32 = 28;
const WRITTEN_BITS: u32 = 4;

impl Window {
    fn unpack(word: u64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // the lower half
        let held_back = word as u32;
        let written = (word >> 32) & ((1 << WRITTEN_BITS) - 1);
        Self { second: word >> (32 + WRITTEN_BITS), written, held_back }
    }

    fn pack(self) -> u64 {
        self.second << (32 + WRITTEN_BITS) | self.written << 32 | u64::from(self.held_back)
    }

    fn next(self, now_ms: u64) -> (Self, Verdict) {
        let second = (now_ms / 1000) & ((1 << SECOND_BITS) - 1);
        if second != self.second {
            return (Self { second, written: 1, held_back: 0 }, Verdict::Write { held_back: self.held_back });
        }
        if self.written < MESSAGES_MAX {
            return (Self { written: self.written + 1, ..self }, Verdict::Write { held_back: 0 });
        }
        (Self { held_back: self.held_back.saturating_add(1), ..self }, Verdict::Hold)
    }
}

impl Limiter {
    pub(super) const fn new() -> Self {
        let places = [const { Place { site: AtomicU64::new(0), window: AtomicU64::new(0) } }; PLACES];
        Self { places, held_back: AtomicU64::new(0) }
    }

    /// Counts a message of a place, and says whether to write it.
    pub(super) fn admit(&self, site: Site, now_ms: u64) -> Verdict {
        let window = &self.place(site).window;
        let mut before = window.load(Ordering::Relaxed);
        loop {
            let (after, verdict) = Window::unpack(before).next(now_ms);
            match window.compare_exchange_weak(before, after.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    if verdict == Verdict::Hold {
                        self.held_back.fetch_add(1, Ordering::Relaxed);
                    }
                    return verdict;
                }
                Err(now) => before = now,
            }
        }
    }

    /// Messages held back so far, of all places.
    pub(super) fn held_back(&self) -> u64 {
        self.held_back.load(Ordering::Relaxed)
    }

    fn place(&self, site: Site) -> &Place {
        #[allow(clippy::cast_possible_truncation)] // any bits will do
        let start = (site.0 >> 32) as usize;
        let probes = (0..PROBES).map(|probe| &self.places[(start + probe) % PLACES]);
        let own = probes.into_iter().find(|place| {
            match place.site.compare_exchange(0, site.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => true,
                Err(owner) => owner == site.0,
            }
        });
        own.unwrap_or(&self.places[start % PLACES])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Verdict = Verdict::Write { held_back: 0 };

    fn site(line: u32) -> Site {
        Site::new("src/somewhere.rs", line)
    }

    #[test]
    fn ten_messages_of_one_second_are_written_and_the_next_second_says_how_many_were_not() {
        let limiter = Limiter::new();
        for _ in 0..10 {
            assert_eq!(limiter.admit(site(1), 5_000), WRITE);
        }
        for _ in 0..1234 {
            assert_eq!(limiter.admit(site(1), 5_999), Verdict::Hold);
        }
        assert_eq!(limiter.held_back(), 1234);
        assert_eq!(limiter.admit(site(1), 6_000), Verdict::Write { held_back: 1234 });
        assert_eq!(limiter.admit(site(1), 6_000), WRITE);
        assert_eq!(limiter.held_back(), 1234);
    }

    #[test]
    fn a_count_waits_for_the_next_message_however_long() {
        let limiter = Limiter::new();
        for _ in 0..13 {
            limiter.admit(site(1), 0);
        }
        assert_eq!(limiter.admit(site(1), 3_600_000), Verdict::Write { held_back: 3 });
    }

    #[test]
    fn places_have_limits_of_their_own() {
        let limiter = Limiter::new();
        for _ in 0..20 {
            limiter.admit(site(1), 0);
        }
        assert_eq!(limiter.admit(site(2), 0), WRITE);
        assert_eq!(limiter.admit(Site::new("src/elsewhere.rs", 1), 0), WRITE);
    }

    #[test]
    fn where_the_table_is_full_places_share_and_no_count_is_lost() {
        let limiter = Limiter::new();
        let (lines, each) = (4 * PLACES as u64, 3);
        let verdicts = (0..lines * each).map(|at| limiter.admit(site(u32::try_from(at % lines).unwrap()), 0));
        let written = verdicts.filter(|verdict| *verdict == WRITE).count() as u64;
        assert_eq!(written + limiter.held_back(), lines * each);
        // The windows know of every one of them.
        let known: u64 = limiter
            .places
            .iter()
            .map(|place| Window::unpack(place.window.load(Ordering::Relaxed)))
            .map(|window| window.written + u64::from(window.held_back))
            .sum();
        assert_eq!(known, lines * each);
        assert!(written >= 10 * PLACES as u64 / 2, "{written}");
    }

    #[test]
    fn threads_lose_no_count() {
        let limiter = Limiter::new();
        let each = if cfg!(miri) { 50 } else { 20_000 };
        let written = AtomicU64::new(0);
        let said = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for at in 0..each {
                        if let Verdict::Write { held_back } = limiter.admit(site(1), at) {
                            written.fetch_add(1, Ordering::Relaxed);
                            said.fetch_add(u64::from(held_back), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        if let Verdict::Write { held_back } = limiter.admit(site(1), 1_000_000) {
            said.fetch_add(u64::from(held_back), Ordering::Relaxed);
        }
        assert_eq!(written.into_inner() + limiter.held_back(), 4 * each);
        assert_eq!(said.into_inner(), limiter.held_back());
    }

    #[test]
    fn debug_and_trace_are_not_limited() {
        let of = |level| Site::of(&Record::builder().level(level).file(Some("a.rs")).line(Some(1)).build());
        assert_eq!(of(Level::Debug), None);
        assert_eq!(of(Level::Trace), None);
        assert_eq!(of(Level::Info), Some(Site::new("a.rs", 1)));
        assert_eq!(of(Level::Error), of(Level::Warn));
        assert_ne!(Site::new("a.rs", 1), Site::new("a.rs", 2));
        let nameless = Record::builder().level(Level::Info).target("host").build();
        assert_eq!(Site::of(&nameless), Some(Site::new("host", 0)));
    }
}
