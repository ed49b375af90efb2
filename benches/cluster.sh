#!/bin/sh
# Builds the programs that measure clusters and runs them against a NATS server of their own. Called by `make bench-cluster`, which
# builds target/lib and the examples first.
set -eu
cd "$(dirname "$0")/.."

out=target/cluster-bench
mkdir -p "$out"
lib=$PWD/target/lib
for name in publish_ahoy call_ahoy fanout; do
    "${CC:-cc}" -O2 -Wall -Wextra -D_GNU_SOURCE -pthread -Iinclude -o "$out/$name" "benches/cluster/$name.c" -L"$lib" -lahoy -Wl,-rpath,"$lib"
done
"${CC:-cc}" -O2 -Wall -Wextra -o "$out/publish_nats" benches/cluster/publish_nats.c -lnats
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
exec cargo bench --quiet --locked --bench cluster -- "$PWD/target/python/bin/nats-server" "$PWD/$out" "$PWD/c_examples/build/chat"
