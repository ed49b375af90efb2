#!/usr/bin/env bash
# libahoy.so has less than 600,000 bytes as it is installed, without optional features
source "$(dirname "$0")/common.sh"

bytes_max=600000
# What tells make to leave optional features out. There is none that `make` puts in by itself: the plain library is
# the one that is meant.
without_features=()

install_staged PREFIX=/usr "${without_features[@]}"

# The largest thing that could come back by itself, with another compiler: scripts/drop-backtraces.sh says why it went.
nm --demangle "$root/target/lib/libahoy.so.$version" >"$work/symbols"
if grep -q 'addr2line::' "$work/symbols"; then fail "it can read debug information: std's printer of backtraces is in it"; fi

bytes=$(stat -c %s "$stage/usr/lib/libahoy.so.$version")
echo "$bytes bytes"
[ "$bytes" -lt "$bytes_max" ] || fail "libahoy.so has $bytes bytes"
