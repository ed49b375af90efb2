#!/usr/bin/env bash
# libahoy.so exports the functions of ahoy.h, which are those of ahoy.map, and nothing else
source "$(dirname "$0")/common.sh"

# The declarations, without comments; a typedef of a callback has its name in "(*name)".
"$CC" -E -P "$root/include/ahoy.h" | grep -oE '\bahoy_[a-z0-9_]+\(' | tr -d '(' | sort >"$work/header"
sed -n 's/^ *\(ahoy_[a-z0-9_]*\);$/\1/p' "$root/ahoy.map" | sort >"$work/map"
# The version nodes themselves are absolute symbols.
nm -D --defined-only "$root/target/lib/libahoy.so" | awk '$2 != "A" { print $3 }' | sort >"$work/exported"

[ "$(wc -l <"$work/header")" -ge 20 ] || fail "the header was not understood"
[ -z "$(uniq -d "$work/header")" ] || fail "the header declares a function twice"
diff "$work/header" "$work/map"
sed 's/@@AHOY_[0-9_]*$//' "$work/exported" | diff "$work/map" -
if grep -v '@@AHOY_' "$work/exported"; then fail "exported without a version"; fi

# The archive shows the linker the same names.
nm --defined-only --extern-only "$root/target/lib/libahoy.a" | awk 'NF == 3 { print $3 }' | sort | diff "$work/map" -
