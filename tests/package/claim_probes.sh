#!/usr/bin/env bash
# PROBES=1 puts every USDT probe of the sources into the library that is installed; without it there is none
source "$(dirname "$0")/common.sh"

# The names of the probes of provider "ahoy" in the library $1.
probes_in() {
    readelf -nW "$1" >"$work/notes"
    sed -n '/Provider: ahoy$/{n;s/^ *Name: //p}' "$work/notes" | sort -u
}

install_staged PREFIX=/usr PROBES=1
lib=$stage/usr/lib
sed -n 's/^    \([a-z_]*\)(.*);$/\1/p' "$root/src/probes.rs" | sort >"$work/declared"
probes_in "$lib/libahoy.so" >"$work/found"
[ -s "$work/declared" ] || fail "src/probes.rs declares none"
diff "$work/declared" "$work/found" || fail "declared (<) and found (>) differ"

# Each is where somebody can put a breakpoint: within the library's code.
readelf -SW "$lib/libahoy.so" | awk '$2 == ".text" || $3 == ".text" { sub(/^ *\[ *[0-9]+\] */, ""); print $3, $5 }' >"$work/text"
read -r start size <"$work/text"
sed -n 's/.*Location: 0x\([0-9a-f]*\),.*/\1/p' "$work/notes" | while read -r at; do
    if (( 16#$at < 16#$start || 16#$at >= 16#$start + 16#$size )); then fail "0x$at is not in .text"; fi
done

# And it serves as the other does.
timeout 120 python3 "$here/ctypes_serve.py" "$lib/libahoy.so"

make -C "$root" lib
[ -z "$(probes_in "$root/target/lib/libahoy.so")" ] || fail "the plain library has probes"
if grep -q stapsdt "$work/notes"; then fail "the plain library has notes"; fi
