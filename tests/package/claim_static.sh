#!/usr/bin/env bash
# a C program built with pkg-config --static greets a client: as a static program, and with the archive alone
source "$(dirname "$0")/common.sh"

install_staged PREFIX=/usr
use_staged_pkg_config /usr
read -ra cflags < <(pkg-config --cflags ahoy)
read -ra libs < <(pkg-config --static --libs ahoy)

"$CC" -static -o "$work/static" "$here/serve.c" "${cflags[@]}" "${libs[@]}"
readelf -lW "$work/static" >"$work/segments"
if grep -q INTERP "$work/segments"; then fail "it is not static"; fi
serves "$work/static"

"$CC" -o "$work/archive" "$here/serve.c" "${cflags[@]}" "${libs[@]/#-lahoy/-l:libahoy.a}"
if is_shared "$work/archive"; then fail "it needs the shared library"; fi
serves "$work/archive"
