#!/usr/bin/env bash
# Runs the tests with real brokers: starts nats-servers on loopback or in network namespaces, and breaks them. Builds
# the programs of this folder, which are their nodes, first.
# usage: run.sh [--server current|debian] [--long] [--list] [NAME…]      after `make check-cluster` has installed what
#                            it needs. NAME: a test, a file of tests or a pattern; see check.py
set -euo pipefail

cd "$(dirname "$0")/../.."
lib=$PWD/target/lib
out=target/cluster-tests
mkdir -p "$out"
for source in tests/cluster/*.c; do
    program=$out/$(basename "$source" .c)
    if [ "$program" -nt "$source" ] && [ "$program" -nt include/ahoy.h ]; then continue; fi
    "${CC:-cc}" -std=gnu11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -pthread -Iinclude -o "$program" "$source" \
        -L"$lib" -lahoy -Wl,-rpath,"$lib"
done
exec target/python/bin/python -B tests/cluster/check.py "$@"
