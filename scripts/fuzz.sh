#!/usr/bin/env bash
# Feeds each fuzz target with what a fuzzer makes of the kept inputs, for a while. New inputs go to target/fuzz/corpus,
# those that break a target to fuzz/artifacts.
# usage: fuzz.sh SECONDS [TARGET…]      TARGET: one of `cargo fuzz list`, all of them by default
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=$1
shift
cargo="${CARGO:-cargo}"
if [ $# -eq 0 ]; then mapfile -t targets < <("$cargo" +nightly fuzz list); else targets=("$@"); fi

# Words only where something is wrong.
export CARGO_TERM_QUIET=true
"$cargo" +nightly fuzz build --target-dir target/fuzz
mkdir -p target/fuzz/log
failed=0
for target in "${targets[@]}"; do
    log=target/fuzz/log/$target
    mkdir -p "target/fuzz/corpus/$target"
    if "$cargo" +nightly fuzz run --target-dir target/fuzz "$target" "target/fuzz/corpus/$target" "fuzz/corpus/$target" \
        -- -max_total_time="$seconds" -max_len=1024 -timeout=10 >"$log" 2>&1; then
        printf '  %-7s %s: %s\n' FUZZ "$target" "$(sed -n 's/^Done //p' "$log")"
    else
        failed=1
        printf '  %-7s %s: FAILED, see %s\n' FUZZ "$target" "$log"
        tail -n 40 "$log"
    fi
done
exit "$failed"
