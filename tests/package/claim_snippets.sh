#!/usr/bin/env bash
# the C in the documents compiles without a warning, against Ahoy, libuv and libevent, and its whole programs link
source "$(dirname "$0")/common.sh"

cd "$root"
for document in README.md README.zh-TW.md docs/migrating.md; do
    "$here/snippets.py" "$document" "$work"
done
snippets=("$work"/*.c)
[ "${#snippets[@]}" -ge 30 ] || fail "only ${#snippets[@]} snippets"

# What a callback does not need it does not name with a cast: the documents are about something else.
strict=(-Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-function -Iinclude)
broken=0
for snippet in "${snippets[@]}"; do
    compile=("$CC" "${strict[@]}" "$snippet" -o "$work/program")
    if grep -q 'int main(' "$snippet"; then
        compile+=(-Ltarget/lib -lahoy -luv -levent)
    else
        compile+=(-c)
    fi
    "${compile[@]}" || broken=$((broken + 1))
done
[ "$broken" = 0 ] || fail "$broken of ${#snippets[@]} do not compile"
