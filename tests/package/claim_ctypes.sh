#!/usr/bin/env bash
# Python's ctypes loads the library with dlopen, starts servers, greets a client, calls back into Python, stops
source "$(dirname "$0")/common.sh"

timeout 120 python3 "$here/ctypes_serve.py" "$root/target/lib/libahoy.so"
