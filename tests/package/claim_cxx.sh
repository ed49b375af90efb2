#!/usr/bin/env bash
# a C++11 program, with lambdas for callbacks, greets a client, built with g++ and with clang++
source "$(dirname "$0")/common.sh"

for cxx in g++ clang++; do
    "$cxx" -std=c++11 -Wall -Wextra -pedantic -Werror -I"$root/include" -o "$work/serve" "$here/serve.cc" \
        -L"$root/target/lib" -lahoy -Wl,-rpath,"$root/target/lib"
    serves "$work/serve"
done
