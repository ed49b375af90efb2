#!/usr/bin/env bash
# Runs the packaging tests: each claim_*.sh here proves the one claim that its second line states.
# usage: run.sh [NAME…]      NAME: abi, cmake …; none: all
set -euo pipefail

cd "$(dirname "$0")"
if [ $# -gt 0 ]; then claims=("${@/%/.sh}") && claims=("${claims[@]/#/claim_}"); else claims=(claim_*.sh); fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
for claim in "${claims[@]}"; do
    name=${claim#claim_}
    text=$(sed -n '2s/^# //p' "$claim")
    if timeout 300 bash "./$claim" >"$log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        printf 'ok    %-16s %s\n' "${name%.sh}" "$text"
    else
        failed=$((failed + 1))
        printf 'FAIL  %-16s %s\n' "${name%.sh}" "$text"
        tail -n 60 "$log" | sed 's/^/      | /'
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
