#!/bin/sh
# Builds the peers and compares ours with them. Called by `make bench`, which builds target/lib first.
#
#     benches/run.sh [--quick] [--pairs N] [--scenario A,B] [--peers A,B] …      all options: --help
set -eu
cd "$(dirname "$0")/.."

missing=
pkg-config --exists libuv 2>/dev/null || missing="$missing libuv1-dev"
pkg-config --exists libevent_core 2>/dev/null || missing="$missing libevent-dev"
command -v pkg-config >/dev/null || missing=" pkg-config libuv1-dev libevent-dev"
if [ -n "$missing" ]; then
    echo "benches/run.sh: packages are missing: apt-get install$missing" >&2
    exit 1
fi

make --no-print-directory -s -C benches/peers
exec cargo bench --quiet --locked --target-dir target --bench compare -- "$@"
