#!/usr/bin/env bash
# Builds the test programs of this folder against the built library and runs them, one by one.
#
#     tests/c/run.sh native|asan|valgrind|tsan [NAME...]
#
# Programs named hook_* need the library with the feature test-hooks. What a program had to do in a smaller way it
# says in a line "note: …". The last line is the sum.
#
# TEST_DRIVER=epoll, uring, or either (io_uring where it is): what they run on. TEST_LONG=1: nothing is done in a smaller way, however slow the tool is.
set -euo pipefail

mode=${1:?usage: run.sh native|asan|valgrind|tsan [NAME...]}
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cd "$root"

CC=${CC:-gcc}
flags=(-std=gnu11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -pthread -Iinclude)
lib=$target/lib
lib_hooks=$target/lib-hooks
wrapper=()
seconds_max=150

case $mode in
native) ;;
asan)
    lib=$target/lib-asan
    lib_hooks=$lib
    flags+=(-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:exitcode=9:detect_stack_use_after_return=0
    export TEST_SCALE=2 TEST_ROUNDS_DIVISOR=5
    ;;
valgrind)
    wrapper=(valgrind --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=9 -q
        --show-leak-kinds=definite --child-silent-after-fork=yes)
    seconds_max=300
    export TEST_VALGRIND=1 TEST_SCALE=4 TEST_ROUNDS_DIVISOR=50
    ;;
tsan)
    CC=${CC_TSAN:-clang-19}
    lib=$target/lib-tsan
    lib_hooks=$lib
    flags+=(-fsanitize=thread)
    export TSAN_OPTIONS=exitcode=9:halt_on_error=1:die_after_fork=0
    seconds_max=300
    export TEST_SCALE=4 TEST_ROUNDS_DIVISOR=20
    ;;
*)
    echo "run.sh: no mode named $mode" >&2
    exit 2
    ;;
esac

if [ "${TEST_LONG:-0}" = 1 ]; then
    seconds_max=3600
    export TEST_SCALE=20 TEST_ROUNDS_DIVISOR=1
fi

# The same programs serve valgrind and native runs.
out=$target/c-tests/$mode
[ "$mode" = valgrind ] && out=$target/c-tests/native
mkdir -p "$out"

# What all programs are linked with.
parts=(support client stage wire dgram remote)

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    for source in "$here"/*.c; do
        name=$(basename "$source" .c)
        case " ${parts[*]} " in *" $name "*) ;; *) names+=("$name") ;; esac
    done
fi

# Runs a command that makes $1 unless $1 is newer than all of the files after it, up to "--".
make_from() {
    local product=$1 part
    shift
    while [ "$1" != -- ]; do
        part=$1
        shift
        if [ ! -e "$product" ] || [ "$part" -nt "$product" ]; then
            while [ "$1" != -- ]; do shift; done
            shift
            "$@"
            return
        fi
    done
}

headers=(include/ahoy.h "$here"/*.h "$here/run.sh")
objects=("${parts[@]/#/$out/}")
objects=("${objects[@]/%/.o}")
for part in "${parts[@]}"; do
    make_from "$out/$part.o" "$here/$part.c" "${headers[@]}" -- \
        "$CC" "${flags[@]}" -c -o "$out/$part.o" "$here/$part.c"
done

build() {
    local name=$1 dir=$lib
    [ "${name#hook_}" = "$name" ] || dir=$lib_hooks
    make_from "$out/$name" "$here/$name.c" "${objects[@]}" "${headers[@]}" -- \
        "$CC" "${flags[@]}" -o "$out/$name" "$here/$name.c" "${objects[@]}" \
        -L"$dir" -lahoy -ldl -Wl,-rpath,"$dir"
}

# Two at a time.
failed_build=0
previous=
for name in "${names[@]}"; do
    build "$name" &
    [ -z "$previous" ] || wait "$previous" || failed_build=1
    previous=$!
done
wait "$previous" || failed_build=1
if [ $failed_build -ne 0 ]; then
    echo "run.sh: a program did not build" >&2
    exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
skipped=0
for name in "${names[@]}"; do
    begin=${EPOCHREALTIME/./}
    code=0
    timeout --kill-after=5 "$seconds_max" "${wrapper[@]}" "$out/$name" >"$log" 2>&1 </dev/null || code=$?
    micros=$((${EPOCHREALTIME/./} - begin))
    spent=$(printf '%d.%02d' $((micros / 1000000)) $((micros % 1000000 / 10000)))
    if [ "$code" -eq 0 ]; then
        passed=$((passed + 1))
        note=$(sed -n 's/^note: /: /p' "$log")
        printf 'ok   %-28s %6s s%s\n' "$name" "$spent" "$note"
    elif [ "$code" -eq 77 ]; then
        skipped=$((skipped + 1))
        printf 'skip %-28s %6s s: %s\n' "$name" "$spent" "$(head -n 1 "$log")"
    else
        failed=$((failed + 1))
        printf 'FAIL %-28s %6s s (exit %d)\n' "$name" "$spent" "$code"
        sed 's/^/     | /' "$log"
    fi
done
if [ "$skipped" -eq 0 ]; then
    echo "$passed passed, $failed failed"
else
    echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" -eq 0 ]
