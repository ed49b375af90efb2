#!/bin/sh
# Builds the peers and compares ours with them. Called by `make bench`, which builds target/lib first.
#
#     benches/run.sh [--quick] [--pairs N] [--scenario A,B] [--peers A,B] …      all options: --help
set -eu
cd "$(dirname "$0")/.."

# Debian keeps haproxy where a user's PATH does not look.
PATH=$PATH:/usr/sbin
missing=
pkg-config --exists libuv 2>/dev/null || missing="$missing libuv1-dev"
pkg-config --exists libevent_core 2>/dev/null || missing="$missing libevent-dev"
command -v pkg-config >/dev/null || missing=" pkg-config libuv1-dev libevent-dev"
command -v haproxy >/dev/null || missing="$missing haproxy"
if [ -n "$missing" ]; then
    echo "benches/run.sh: packages are missing: apt-get install$missing" >&2
    exit 1
fi

make --no-print-directory -s -C benches/peers

# For the cargo that the comparison calls, too, to bench the timers: built here, so that it does not build then.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
cargo bench --quiet --locked --no-run --bench timers --bench compare
exec cargo bench --quiet --locked --bench compare -- "$@"
