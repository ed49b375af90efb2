#!/usr/bin/env bash
# Runs the tests with real brokers: starts nats-servers on loopback or in network namespaces, and breaks them. Builds
# the nodes, which are programs in C, first.
# usage: run.sh [--server current|debian] [--long] [--list] [--jobs N] [NAME…]      after `make check-cluster` has installed what
#                            it needs. NAME: a test, a file of tests or a pattern; see check.py
set -euo pipefail

cd "$(dirname "$0")/../.."
case " $* " in *" -h "* | *" --help "*) exec python3 -B tests/cluster/check.py "$@" ;; esac
mkdir -p target/cluster
for source in tests/cluster/*.c c_examples/render.c; do
    [ -e "$source" ] || continue
    program=target/cluster/$(basename "$source" .c)
    if [ ! "$program" -nt "$source" ] || [ ! "$program" -nt include/ahoy.h ]; then
        ${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -pthread -Iinclude -o "$program" "$source" \
            -Ltarget/lib -lahoy -Wl,-rpath,"$PWD/target/lib"
    fi
done
exec target/python/bin/python -B tests/cluster/check.py "$@"
