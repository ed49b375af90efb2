#!/usr/bin/env bash
# Runs targets of the Makefile one after the other, all of them also when one fails, and ends with one line that
# counts their tests: "N passed, N failed". A target without a count of its own counts as one test.
# usage: stages.sh TARGET…
set -euo pipefail

cd "$(dirname "$0")/.."
logs=target/stages
mkdir -p "$logs"
passed=0
failed=0
broken=()

# The sums of what one stage has printed: lines of cargo test, and lines "N passed, N failed".
counts() {
    sed -nE -e 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed.*/\1 \2/p' \
        -e 's/^([A-Za-z_-]+: )?([0-9]+) passed, ([0-9]+) failed.*/\2 \3/p' "$1" |
        awk '{ passed += $1; failed += $2 } END { print passed + 0, failed + 0 }'
}

for stage in "$@"; do
    echo "=== $stage"
    log=$logs/$stage.log
    begin=$SECONDS
    status=0
    make "$stage" 2>&1 | tee "$log" || status=$?
    read -r good bad < <(counts "$log")
    if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    if [ "$status" = 0 ] && [ "$good" = 0 ]; then good=1; fi
    if [ "$bad" != 0 ]; then broken+=("$stage"); fi
    passed=$((passed + good))
    failed=$((failed + bad))
    echo "=== $stage: $good good, $bad bad, $((SECONDS - begin)) s"
done

if [ "${#broken[@]}" -gt 0 ]; then echo "broken: ${broken[*]} (see $logs/)"; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
