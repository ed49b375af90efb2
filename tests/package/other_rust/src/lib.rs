//! Uses what two Rust runtimes in one program could fight over: threads, allocation, panics.

use std::thread;

/// Sums 1 to `count` on threads of its own; one of them panics, which is caught.
#[unsafe(no_mangle)]
pub extern "C" fn other_sum(count: u64) -> u64 {
    let threads: Vec<_> = (1..=count).map(|number| thread::spawn(move || Box::new(number))).collect();
    let panics = thread::spawn(|| std::panic::resume_unwind(Box::new("on purpose"))).join();
    let sum = threads.into_iter().map(|thread| thread.join().map_or(0, |number| *number)).sum();
    if panics.is_err() { sum } else { 0 }
}
