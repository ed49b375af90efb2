#!/usr/bin/env bash
# libahoy.so has less than 1,200,000 bytes without optional features, and less than 6,000,000 with all, as it is installed
source "$(dirname "$0")/common.sh"

# Installs a library with these variables of make; fails if it is larger than that.
check_size() {
    local bytes_max=$1 bytes
    shift
    install_staged PREFIX=/usr "$@"
    bytes=$(stat -c %s "$stage/usr/lib/libahoy.so.$version")
    echo "$bytes bytes ${*:-with all}"
    [ "$bytes" -lt "$bytes_max" ] || fail "libahoy.so has $bytes bytes ${*:-with all}"
}

check_size 1200000 SMALL=1
# The largest thing that could come back by itself, with another compiler: scripts/drop-backtraces.sh says why it went.
nm --demangle "$root/target/lib-small/libahoy.so.$version" >"$work/symbols"
if grep -q 'addr2line::' "$work/symbols"; then fail "it can read debug information: std's printer of backtraces is in it"; fi

check_size 6000000
