//! The library's messages, and its panics: neither is ever printed.
//!
//! Inside, everybody writes through the `log` crate, so that a Rust program that links the crate gets the
//! messages in its own way. The C face hands them to a callback, but no more of them than it can bear: each place in
//! the code writes at most ten messages a second (`limiter`).

mod limiter;

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::sync::{Once, PoisonError, RwLock};

use log::{LevelFilter, Log, Metadata, Record};

use self::limiter::{Limiter, Site, Verdict};
use crate::status::{Result, Status};
use crate::sys;

/// Where messages go: level (1 error … 5 trace) and text.
pub type Sink = Box<dyn Fn(i32, &CStr) + Send + Sync>;

static SINK: RwLock<Option<Sink>> = RwLock::new(None);
static LIMITER: Limiter = Limiter::new();

thread_local! {
    /// This thread is inside the sink: a message from there would come back to it, `set` would wait for itself.
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
    /// This thread runs code of the library: a panic here is ours to catch and report.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
}

/// The level with this number; 0 is off.
pub fn level(number: i32) -> Option<LevelFilter> {
    LevelFilter::iter().nth(usize::try_from(number).ok()?)
}

/// Replaces the sink. When this returns, the one before is no longer running.
pub fn set(level: LevelFilter, sink: Option<Sink>) -> Result<()> {
    if IN_SINK.get() {
        return Err(Status::Deadlock.into());
    }
    static LOGGER: Once = Once::new();
    // Fails only where a Rust host has a logger of its own, which then keeps the messages.
    LOGGER.call_once(|| drop(log::set_logger(&ToSink)));
    let level = if sink.is_some() { level } else { LevelFilter::Off };
    // Waits for the readers: the sink before is not in use any more when the lock is ours.
    let mut place = SINK.write().unwrap_or_else(PoisonError::into_inner);
    *place = sink;
    log::set_max_level(level);
    Ok(())
}

/// Messages that were kept from the sink so far. The next message from the same place says how many; where none
/// follows, this is the only trace of them.
pub fn held_back() -> u64 {
    LIMITER.held_back()
}

struct ToSink;

impl Log for ToSink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if IN_SINK.replace(true) {
            return;
        }
        if let Some(sink) = SINK.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            write(sink, record);
        }
        IN_SINK.set(false);
    }

    fn flush(&self) {}
}

fn write(sink: &Sink, record: &Record<'_>) {
    let verdict = Site::of(record).map_or(Verdict::Write { held_back: 0 }, |site| LIMITER.admit(site, sys::now_ms()));
    let mut text = match verdict {
        Verdict::Hold => return,
        Verdict::Write { held_back: 0 } => record.args().to_string(),
        Verdict::Write { held_back } => format!("{} (and {held_back} more like it)", record.args()),
    }
    .into_bytes();
    text.retain(|byte| *byte != 0);
    if let Ok(text) = CString::new(text) {
        sink(record.level() as i32, &text);
    }
}

/// Marks the thread as inside the library until it is dropped.
pub struct Inside(());

impl Inside {
    /// From here on a panic on this thread is the library's.
    pub fn enter() -> Self {
        INSIDE.set(INSIDE.get() + 1);
        Self(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get() - 1);
    }
}

/// Keeps the library's own panics off the standard error: they are caught, counted and logged. Those of a
/// Rust host go where they went before.
pub fn silence_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if INSIDE.try_with(Cell::get).unwrap_or(0) == 0 {
                return before(info);
            }
            log::error!("caught a bug: {info}");
        }));
    });
}

/// What a caught panic said.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn levels_are_numbered_as_in_the_header() {
        assert_eq!(level(0), Some(LevelFilter::Off));
        assert_eq!(level(1), Some(LevelFilter::Error));
        assert_eq!(level(5), Some(LevelFilter::Trace));
        assert_eq!(level(6), None);
        assert_eq!(level(-1), None);
    }

    /// Only one sink at a time: tests of this file take turns.
    static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn a_flood_is_held_back_and_told() {
        let _turn = TURN.lock().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = {
            let seen = Arc::clone(&seen);
            move |_: i32, text: &CStr| {
                if let Some(text) = text.to_str().unwrap().strip_prefix("a flood") {
                    seen.lock().unwrap().push(text.to_owned());
                }
            }
        };
        set(LevelFilter::Trace, Some(Box::new(sink))).unwrap();
        let before = held_back();
        // The clock is real here: as often as it takes until a message says that others were held back.
        let until_ms = sys::now_ms() + 60_000;
        let mut count = 0;
        while seen.lock().unwrap().last().is_none_or(String::is_empty) {
            assert!(sys::now_ms() < until_ms, "nothing was told");
            log::warn!("a flood");
            count += 1;
        }
        let mut written = std::mem::take(&mut *seen.lock().unwrap());
        for _ in 0..100 {
            log::debug!("a flood");
        }
        set(LevelFilter::Off, None).unwrap();
        let told = written.pop().unwrap();
        let told: usize = told.strip_prefix(" (and ").unwrap().strip_suffix(" more like it)").unwrap().parse().unwrap();
        assert!(written.iter().all(String::is_empty));
        assert_eq!(written.len() + 1 + told, count);
        assert!(held_back() - before >= told as u64);
        assert_eq!(seen.lock().unwrap().len(), 100);
    }

    #[test]
    fn the_sink_gets_messages_and_cannot_replace_itself() {
        let _turn = TURN.lock().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = {
            let seen = Arc::clone(&seen);
            move |level: i32, text: &CStr| {
                // Other tests of this process may log as well.
                if text.to_bytes().starts_with(b"for the sink") {
                    let nested = set(LevelFilter::Off, None).unwrap_err().status;
                    seen.lock().unwrap().push((level, text.to_owned(), nested));
                }
            }
        };
        set(LevelFilter::Warn, Some(Box::new(sink))).unwrap();
        log::warn!("for the sink\0: one");
        log::info!("for the sink: too quiet");
        set(LevelFilter::Off, None).unwrap();
        log::error!("for the sink: too late");
        assert_eq!(*seen.lock().unwrap(), [(2, c"for the sink: one".to_owned(), Status::Deadlock)]);
    }
}
