#!/usr/bin/env bash
# Builds the examples through their own Makefiles and talks to each with real clients (see drive.py).
# usage: run.sh [NAME…]      after `make`; only the tests with one of NAME in their names. Needs nc (OpenBSD's), socat,
#                            curl, python3, readelf and systemd-socket-activate
set -euo pipefail

cd "$(dirname "$0")/../.."
build=$PWD/target/examples

for folder in c_examples c_examples/mixed; do
    # AHOY=tree: an Ahoy that is installed on this machine is not the one to test.
    "${MAKE:-make}" --no-print-directory --silent -C "$folder" BUILD="$build/$folder" AHOY=tree \
        CFLAGS="-O2 -Wall -Wextra -pedantic -Werror"
done
"${CARGO:-cargo}" test --quiet --locked --manifest-path c_examples/mixed/shout/Cargo.toml \
    --target-dir "$build/c_examples/mixed/cargo"

exec python3 -B tests/examples/drive.py "$build/c_examples" "$build/c_examples/mixed" "$@"
