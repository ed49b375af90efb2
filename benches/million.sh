#!/bin/sh
# Builds the server that is filled with connections, and fills it. Called by `make million`, which builds target/lib first.
#
#     benches/million.sh [--driver epoll|uring] [--steps A,B] …      all options: --help
set -eu
cd "$(dirname "$0")/.."

out=target/million
mkdir -p "$out"
lib=$PWD/target/lib
"${CC:-cc}" -O2 -Wall -Wextra -Iinclude -o "$out/server" benches/million/server.c -L"$lib" -lahoy -Wl,-rpath,"$lib"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
exec cargo bench --quiet --locked --bench million -- --server "$PWD/$out/server" "$@"
