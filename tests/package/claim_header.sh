#!/usr/bin/env bash
# ahoy.h compiles without a warning as C99 and as C++11, with gcc and with clang, also when included twice
source "$(dirname "$0")/common.sh"

printf '#include <ahoy.h>\n#include <ahoy.h>\nint main(void) { return ahoy_version() == 0; }\n' >"$work/twice.c"
cp "$work/twice.c" "$work/twice.cc"
# Alone as the first include, so that it brings what it needs.
strict=(-Wall -Wextra -pedantic -Werror -I"$root/include" -fsyntax-only)
for cc in gcc clang; do
    for std in c99 c11 c17; do "$cc" "-std=$std" -Wstrict-prototypes "${strict[@]}" "$work/twice.c"; done
done
for cxx in g++ clang++; do
    for std in c++11 c++17 c++20; do "$cxx" "-std=$std" "${strict[@]}" "$work/twice.cc"; done
done
