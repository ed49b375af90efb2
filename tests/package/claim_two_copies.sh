#!/usr/bin/env bash
# two copies of the library, loaded with dlopen from two paths, serve in one process at once
source "$(dirname "$0")/common.sh"

cp "$root/target/lib/libahoy.so" "$work/one.so"
cp "$root/target/lib/libahoy.so" "$work/two.so"
"$CC" -std=c99 -Wall -Wextra -Werror -I"$root/include" -o "$work/two_copies" "$here/two_copies.c" -ldl
serves "$work/two_copies" "$work/one.so" "$work/two.so"
