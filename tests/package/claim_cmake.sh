#!/usr/bin/env bash
# a CMake project finds Ahoy with find_package, wherever it lies, and both of its targets greet a client
source "$(dirname "$0")/common.sh"

# Folders that do not lie beside each other, as on Debian.
install_staged PREFIX=/usr LIBDIR=/usr/lib/any-linux-gnu INCLUDEDIR=/usr/include/ahoy-0
mv "$stage" "$work/moved"
cmake -S "$here/cmake" -B "$work/build" -DAhoy_DIR="$work/moved/usr/lib/any-linux-gnu/cmake/Ahoy"
cmake --build "$work/build"
is_shared "$work/build/serve_shared" || fail "serve_shared is not linked with the shared library"
if is_shared "$work/build/serve_static"; then fail "serve_static is"; fi
serves "$work/build/serve_shared"
serves "$work/build/serve_static"

# Another ABI, or a newer release than this one, is not what is installed here.
for wrong in 1.0 0.99; do
    sed "s/find_package(Ahoy 0.1/find_package(Ahoy $wrong/" "$here/cmake/CMakeLists.txt" >"$work/CMakeLists.txt"
    if cmake -S "$work" -B "$work/wrong" -DAhoy_DIR="$work/moved/usr/lib/any-linux-gnu/cmake/Ahoy" >"$work/log" 2>&1
    then fail "found Ahoy $wrong"; fi
    grep -qF "requested version \"$wrong\"" "$work/log" || { cat "$work/log"; fail "it failed for another reason"; }
done
