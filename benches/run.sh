#!/bin/sh
# Builds the peers and compares ours with them. Called by `make bench`, which builds target/lib first.
#
#     benches/run.sh [--quick] [--pairs N] [--scenario A,B] [--peers A,B] …      all options: --help
set -eu
cd "$(dirname "$0")/.."

# Debian keeps haproxy where a user's PATH does not look.
PATH=$PATH:/usr/sbin

# A peer that cannot be built is left out, and the report says so.
make --no-print-directory -s -k -C benches/peers || echo "benches/run.sh: goes on without the peers that are not built" >&2

# For the cargo that the comparison calls, too, to bench the timers: built here, so that it does not build then.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
cargo bench --quiet --locked --no-run --bench timers --bench compare
exec cargo bench --quiet --locked --bench compare -- "$@"
