#!/usr/bin/env bash
# the public ABI is the one on record in packaging/ahoy.abi
source "$(dirname "$0")/common.sh"

"$here/abi_record.py" "$root/include/ahoy.h" >"$work/now"
if [ "$(grep -c '^struct ' "$work/now")" -lt 4 ] || [ "$(wc -l <"$work/now")" -lt 100 ]; then
    fail "the header was not understood"
fi
if ! diff "$root/packaging/ahoy.abi" "$work/now"; then
    fail "The ABI has changed. If that is meant, announce it: run 'make abi' and say so in CHANGELOG.md."
fi
