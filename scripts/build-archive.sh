#!/usr/bin/env bash
# Builds the library as one static archive, and writes beside it which system libraries it needs, and its man pages.
# usage: build-archive.sh plain|small|probes|hooks|asan|tsan ARCHIVE
#
# The crate type is given here and not left to Cargo.toml: that lists rlib too, for the Rust tests, and with
# an rlib in the list Cargo silently leaves out link-time optimisation.
set -euo pipefail

variant=$1
archive=$2
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

if ! command -v "$cargo" >/dev/null; then
    echo "build-archive.sh: $cargo is not found: install Rust 1.90 or later, with rustup for example" >&2
    exit 1
fi

# The paths of this machine stay out of the panic messages in the library: two builds of one source are equal.
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
flags=("--remap-path-prefix=$registry=crates" "--remap-path-prefix=$PWD=ahoy")
# A third of what is usual: most of the library runs once in the life of a connection or less. What runs for each message
# is inlined because it is marked so.
flags+=("-Cllvm-args=-inline-threshold=75")
toolchain=()
options=(--lib --crate-type staticlib --release --locked)
[ "${V:-0}" = 1 ] || options+=(--quiet)
target_dir=$PWD/target
triple=

# Sanitizers need options of the nightly compiler. A stable one has the same parts and can be told to use them.
sanitize() {
    flags+=("-Zsanitizer=$1" --cfg=ahoy_sanitized)
    triple=$(rustc -vV | sed -n 's/^host: //p')
    options+=(--features test-hooks --target "$triple")
    if "$cargo" +nightly --version >/dev/null 2>&1; then toolchain=(+nightly); else export RUSTC_BOOTSTRAP=1; fi
    # What is under test is the same without it, and is built sooner.
    export CARGO_PROFILE_RELEASE_LTO=off
}

case $variant in
    plain) ;;
    probes) options+=(--features probes) ;;
    small) options+=(--no-default-features) ;;
    # The faults are the engine's: without what carries clusters it is built sooner.
    hooks) options+=(--no-default-features --features "test-hooks uring") ;;
    asan)
        target_dir+=/asan
        sanitize address
        ;;
    tsan)
        target_dir+=/tsan
        sanitize thread
        flags+=(--cfg=thread_sanitizer)
        # The standard library has to be watched as well.
        options+=("-Zbuild-std=std,panic_unwind")
        ;;
    *)
        echo "build-archive.sh: no variant $variant" >&2
        exit 1
        ;;
esac

# Flags that the caller has set come first; the separator allows spaces in paths.
read -ra callers <<<"${RUSTFLAGS:-}"
flags=("${callers[@]}" "${flags[@]}")
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS

built=$target_dir/${triple:+$triple/}release
mkdir -p "$(dirname "$archive")"
# Everything but the remark that the list of libraries was written.
if [ -t 2 ]; then export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}; fi
# The messages for machines tell where the pages are, whether or not they had to be made.
{
    "$cargo" "${toolchain[@]}" rustc "${options[@]}" --target-dir "$target_dir" \
        --message-format=json-render-diagnostics -- --print native-static-libs="$built/native-libs" 2>&1 >&3 |
        sed '/native artifacts to link against/,+1d' >&2
} 3>"$archive.messages"
echo "$(<"$built/native-libs")" >"$archive.libs"
generated=$(sed -nE '/"build-script-executed".*#(ahoy@)?[0-9.]+"/s/.*"out_dir":"([^"]*)".*/\1/p' "$archive.messages" | grep /build/ahoy-)
rm -rf "$(dirname "$archive")/man"
cp -r "$generated/man" "$(dirname "$archive")/man"
cp "$built/libahoy.a" "$archive"
# The sanitizers' variants have no need to be small.
if [ -z "$triple" ]; then scripts/drop-backtraces.sh "$archive"; fi
