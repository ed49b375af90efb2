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

# The timers are a program that the comparison runs, as the servers are.
timers=$(cargo bench --quiet --locked --no-run --bench timers --message-format=json |
    sed -n '/"name":"timers"/s/.*"executable":"\([^"]*\)".*/\1/p')
cp "$timers" target/peers/timers
exec cargo bench --quiet --locked --bench compare -- "$@"
