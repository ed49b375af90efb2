#!/usr/bin/env bash
# Runs targets of the Makefile one after the other, all of them also when one fails, and ends with one line that
# counts their tests: "N passed, N failed", and ", N skipped" if there are any. A target without a count of its own counts
# as one test.
# usage: stages.sh TARGET…
set -euo pipefail

cd "$(dirname "$0")/.."
logs=target/stages
mkdir -p "$logs"
passed=0
failed=0
skipped=0
broken=()

# The sums of what one stage has printed: lines of cargo test, and lines "N passed, N failed", with ", N skipped" or without.
counts() {
    sed -nE -e 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed.*/\1 \2 0/p' \
        -e 's/^([A-Za-z_-]+: )?([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?.*/\2 \3 \5/p' "$1" |
        awk '{ passed += $1; failed += $2; skipped += $3 } END { print passed + 0, failed + 0, skipped + 0 }'
}

for stage in "$@"; do
    echo "=== $stage"
    log=$logs/$stage.log
    begin=$SECONDS
    status=0
    make "$stage" 2>&1 | tee "$log" || status=$?
    read -r good bad left < <(counts "$log")
    if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    if [ "$status" = 0 ] && [ "$good" = 0 ] && [ "$left" = 0 ]; then good=1; fi
    if [ "$bad" != 0 ]; then broken+=("$stage"); fi
    passed=$((passed + good))
    failed=$((failed + bad))
    skipped=$((skipped + left))
    echo "=== $stage: $good good, $bad bad, $left skipped, $((SECONDS - begin)) s"
done

if [ "${#broken[@]}" -gt 0 ]; then echo "broken: ${broken[*]} (see $logs/)"; fi
if [ "$skipped" -eq 0 ]; then
    echo "$passed passed, $failed failed"
else
    echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" = 0 ]
