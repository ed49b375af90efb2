#!/usr/bin/env bash
# libahoy.so: its soname and links, hardened, never unmapped, and without a path of this machine
source "$(dirname "$0")/common.sh"

install_staged PREFIX=/usr
lib=$stage/usr/lib
major=${version%%.*}

[ "$(readlink "$lib/libahoy.so")" = "libahoy.so.$major" ]
[ "$(readlink "$lib/libahoy.so.$major")" = "libahoy.so.$version" ]
[ -f "$lib/libahoy.so.$version" ]
readelf -d "$lib/libahoy.so" >"$work/dynamic"
grep -q "SONAME.*\[libahoy\.so\.$major\]" "$work/dynamic"
grep -q 'FLAGS_1.*NOW.*NODELETE\|FLAGS_1.*NODELETE.*NOW' "$work/dynamic"
readelf -lW "$lib/libahoy.so" >"$work/segments"
grep -q GNU_RELRO "$work/segments"
if grep -q 'GNU_STACK.*RWE' "$work/segments"; then fail "the stack is executable"; fi
if grep -q 'TEXTREL\|RPATH\|RUNPATH' "$work/dynamic"; then fail "text relocations or a run path"; fi

# It needs the C library and the unwinder, and nothing that a program would have to bring.
sed -n 's/.*NEEDED.*\[\(.*\)\].*/\1/p' "$work/dynamic" | sort >"$work/needed"
if grep -vE '^(libc|libgcc_s|libm|libpthread|libdl|ld-linux-[a-z0-9-]+)\.so\.[0-9]+$' "$work/needed"; then
    fail "needs more than the system's own libraries"
fi

for file in "$lib/libahoy.so.$version" "$lib/libahoy.a"; do
    for path in "$root/" "${CARGO_HOME:-$HOME/.cargo}/"; do
        if grep -qaF "$path" "$file"; then fail "$file contains $path"; fi
    done
done
