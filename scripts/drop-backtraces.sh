#!/usr/bin/env bash
# Takes the printer of backtraces out of an archive that rustc has made with link-time optimisation.
# usage: drop-backtraces.sh ARCHIVE
#
# std's panic hook can print a backtrace, and brings for that a reader of debug information: a quarter of the library.
# Ahoy never prints a panic (src/log/mod.rs), and an installed library is stripped of what there would be to read. But
# std cannot be built without it, and in an object that is optimised as one the hook refers to the printer by its
# section, not by a name that a linker could give to something else. So the printer's code itself is replaced here, by
# a function that returns 0: that is what `fmt` returns when it has written all that it wants. Nothing refers to the
# reader any more, and the linker leaves it out (--gc-sections). tests/package/claim_no_memory.sh runs the replacement.
set -euo pipefail

archive=$(realpath "$1")
read -ra cc <<<"${CC:-cc}"
objcopy=${OBJCOPY:-objcopy}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# With link-time optimisation there is one object for all but the compiler's own helpers. Without, the library is not meant
# to be small.
mapfile -t objects < <("${AR:-ar}" t "$archive" | grep '^ahoy-')
[ "${#objects[@]}" = 1 ] || exit 0
object=${objects[0]}
"${AR:-ar}" x "$archive" "$object"

# <std::sys::backtrace::BacktraceLock::print::DisplayBacktrace as core::fmt::Display>::fmt
printer='\.text\.[^ ]*BacktraceLock[^ ]*DisplayBacktrace[^ ]*Display[^ ]*fmt[^ ]*'
"${READELF:-readelf}" -SW "$object" >sections
read -r section bytes < <(sed -nE "s/^ *\[ *[0-9]+\] ($printer) +PROGBITS( +[0-9a-f]+){2} +([0-9a-f]+) .*/\1 \3/p" sections) || {
    echo "drop-backtraces.sh: this compiler has put std's printer of backtraces elsewhere; the library will be larger" >&2
    exit 0
}

# As long as before, so that what is said elsewhere about this stretch of code stays true.
echo 'int nothing(void) { return 0; }' >nothing.c
"${cc[@]}" -O2 -c nothing.c
"$objcopy" -O binary --only-section=.text nothing.o nothing
truncate -s "$((16#$bytes))" nothing
"$objcopy" --update-section "$section=nothing" --remove-relocations="$section" "$object"
# Without an index: all of it is linked, and ar would look into what is there for the compiler's own use.
"${AR:-ar}" rDS "$archive" "$object"
