#!/usr/bin/env bash
# make builds nothing when nothing has changed
source "$(dirname "$0")/common.sh"

make -C "$root" all
make -C "$root" --question all || fail "make would build again"
