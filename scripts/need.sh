#!/usr/bin/env bash
# Makes sure that the commands, headers and Rust components which the tests need are there: installs what is
# missing with apt-get or rustup and says so, or names it and fails.
# usage: need.sh NAME…      NAME: a command (gcc), a header (uv.h), or a component (miri)
set -euo pipefail

# Which Debian package has it; the ones that are not listed are named as their command.
declare -A package=(
    [clang++]=clang [clang-19]="clang-19 libclang-rt-19-dev" [event2/event.h]=libevent-dev [nc]=netcat-openbsd
    [objcopy]=binutils [readelf]=binutils [uv.h]=libuv1-dev
)

# Which component of which toolchain has it.
declare -A component=(
    [rustfmt]=rustfmt [cargo-clippy]=clippy [miri]="miri --toolchain nightly" [rust-src]="rust-src --toolchain nightly"
)

present() {
    case $1 in
        *.h) echo "#include <$1>" | cc -E - >/dev/null 2>&1 ;;
        rustfmt) cargo fmt --version >/dev/null 2>&1 ;;
        cargo-clippy) cargo clippy --version >/dev/null 2>&1 ;;
        miri) cargo +nightly miri --version >/dev/null 2>&1 ;;
        rust-src) [ -d "$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library" ] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

packages=()
for name in "$@"; do
    if present "$name"; then
        continue
    elif [ -n "${component[$name]:-}" ]; then
        echo "need: installing the Rust component ${component[$name]}"
        # shellcheck disable=SC2086 # The component may come with an option.
        rustup component add ${component[$name]} >/dev/null 2>&1 || true
    else
        read -ra of_name <<<"${package[$name]:-$name}"
        packages+=("${of_name[@]}")
    fi
done

if [ "${#packages[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "need: installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${packages[@]}"; } >/dev/null 2>&1 || true
fi

missing=()
for name in "$@"; do
    present "$name" || missing+=("$name (${package[$name]:-${component[$name]:-$name}})")
done
if [ "${#missing[@]}" -gt 0 ]; then
    echo "need: missing: ${missing[*]}" >&2
    exit 1
fi
