//! How many instructions a message costs: runs `steady.c` under callgrind, each scene twice with different numbers of
//! messages. `judge.py` takes the differences and compares them with the record. `make check-instructions`.

// What the macros make is public, and has no comments.
#![allow(missing_docs)]

use gungraun::{Bench, BinaryBenchmark, BinaryBenchmarkConfig, Callgrind, Command, binary_benchmark_group, main};

/// Each scene with its rounds, and its sends in each round, in the shorter and in the longer run.
const SCENES: [(&str, [(u32, u32); 2]); 6] = [
    ("echo", [(200, 1), (600, 1)]),
    ("crowd", [(10, 1), (30, 1)]),
    ("framed", [(50, 1), (150, 1)]),
    ("send", [(50, 20), (50, 60)]),
    ("sends", [(50, 20), (50, 60)]),
    ("others", [(50, 20), (50, 60)]),
];

const STEADY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/instructions/steady");

/// Whether the driver is there, on this system.
fn has(driver: &str) -> bool {
    let once = std::process::Command::new(STEADY).args([driver, "echo", "1", "1"]).status();
    once.is_ok_and(|status| status.success())
}

fn runs(driver: &str) -> BinaryBenchmark {
    let mut benchmark = BinaryBenchmark::new(driver);
    for (scene, lengths) in SCENES {
        for (rounds, sends) in lengths {
            let mut command = Command::new(STEADY);
            command.args([driver, scene, &rounds.to_string(), &sends.to_string()]);
            benchmark.bench(Bench::new(format!("{scene}_{rounds}_{sends}")).command(command));
        }
    }
    benchmark
}

binary_benchmark_group!(
    name = steady,
    benchmarks = |group: &mut BinaryBenchmarkGroup| {
        group.binary_benchmark(runs("epoll"));
        if has("uring") {
            group.binary_benchmark(runs("uring"));
        }
    }
);

main!(
    // The clients run as they are; where each instruction lies tells which ones lock.
    config = BinaryBenchmarkConfig::default().tool(Callgrind::with_args([
        "--trace-children=no",
        "--dump-instr=yes",
        "--cache-sim=no"
    ])),
    binary_benchmark_groups = steady
);
