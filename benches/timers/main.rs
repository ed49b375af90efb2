//! What starting and cancelling a timer takes while a million are pending: `make bench`, or
//! `cargo bench --bench timers`.
//!
//! `engine` is what a C program calls, on a worker, in a callback; `wheel` is the wheel beneath it alone.

#[path = "../../src/timer.rs"]
#[allow(dead_code, unused_imports)] // what expires is not measured, and its own tests are not run here
mod timer;

mod engine;
mod pending;
mod sys;

fn main() {
    divan::main();
}

#[divan::bench_group(sample_count = 200, sample_size = 1000)]
mod engine_at_a_million {
    use crate::engine::{self, Running};
    use crate::pending::Delays;
    use divan::Bencher;

    #[divan::bench]
    fn start(bencher: Bencher<'_, '_>) {
        engine::on_worker(|worker| {
            let mut delays = Delays::new();
            // What was started is cancelled when it is dropped, which is not measured.
            bencher.bench_local(|| Running::start(worker, delays.next_ms()));
        });
    }

    #[divan::bench]
    fn cancel(bencher: Bencher<'_, '_>) {
        engine::on_worker(|worker| {
            let mut delays = Delays::new();
            bencher.with_inputs(|| Running::start(worker, delays.next_ms())).bench_local_values(drop);
        });
    }
}

#[divan::bench_group(sample_count = 200, sample_size = 1000)]
mod wheel_at_a_million {
    use crate::pending::{Delays, PENDING};
    use crate::timer::{TimerKey, Wheel};
    use divan::Bencher;
    use std::cell::RefCell;

    /// In the wheel until it is dropped.
    struct Running<'a>(&'a RefCell<Wheel<u32>>, TimerKey);

    impl Drop for Running<'_> {
        fn drop(&mut self) {
            assert!(self.0.borrow_mut().cancel(self.1).is_some());
        }
    }

    fn start_one(wheel: &RefCell<Wheel<u32>>, delay_ms: u32) -> Running<'_> {
        Running(wheel, wheel.borrow_mut().start(delay_ms.into(), 0).expect("memory for a timer"))
    }

    fn filled(delays: &mut Delays) -> RefCell<Wheel<u32>> {
        let mut wheel = Wheel::new(0);
        for _ in 0..PENDING {
            wheel.start(delays.next_ms().into(), 0).expect("memory for a timer");
        }
        RefCell::new(wheel)
    }

    #[divan::bench]
    fn start(bencher: Bencher<'_, '_>) {
        let mut delays = Delays::new();
        let wheel = filled(&mut delays);
        bencher.bench_local(|| start_one(&wheel, delays.next_ms()));
    }

    #[divan::bench]
    fn cancel(bencher: Bencher<'_, '_>) {
        let mut delays = Delays::new();
        let wheel = filled(&mut delays);
        bencher.with_inputs(|| start_one(&wheel, delays.next_ms())).bench_local_values(drop);
    }
}
