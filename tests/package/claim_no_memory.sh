#!/usr/bin/env bash
# where libahoy.so cannot go on without memory it says so in one line and aborts, also with RUST_BACKTRACE
source "$(dirname "$0")/common.sh"

"$CC" -D_GNU_SOURCE -Wall -Wextra -Werror -I"$root/include" -o "$work/no_memory" "$here/no_memory.c" \
    -L"$root/target/lib" -lahoy -Wl,-rpath,"$root/target/lib" -ldl
ulimit -c 0
export RUST_BACKTRACE=full

aborted=0
for ((call = 1; call <= 60; call++)); do
    code=0
    timeout 60 "$work/no_memory" "$call" >"$work/said" 2>&1 || code=$?
    case $code in
        0) [ ! -s "$work/said" ] || fail "call $call: it lives, and said: $(<"$work/said")" ;;
        134)
            aborted=$((aborted + 1))
            grep -qxE 'memory allocation of [0-9]+ bytes failed' "$work/said" || fail "call $call: it said: $(<"$work/said")"
            [ "$(wc -l <"$work/said")" = 1 ] || fail "call $call: it said more: $(<"$work/said")"
            ;;
        *) fail "call $call: it ended with $code" ;;
    esac
done
echo "$aborted of 60 aborted"
[ "$aborted" -gt 0 ] || fail "nothing was put to the test"
