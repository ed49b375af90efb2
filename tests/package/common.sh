# shellcheck shell=bash
# What the packaging tests share: where things are, a folder of their own, an install, a client.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2034 # The claims use these.
version=$(sed -n '/^version = /{s/[^"]*"\([^"]*\)".*/\1/p;q;}' "$root/Cargo.toml")
: "${CC:=cc}"

# The options of an outer make are not for the ones that are started here.
unset MAKEFLAGS MFLAGS MAKELEVEL

fail() {
    echo "$*" >&2
    exit 1
}

# Installs below $work/stage; arguments go to make.
stage=$work/stage
install_staged() {
    make -C "$root" install DESTDIR="$stage" "$@"
}

# Points pkg-config at the staged install below the prefix $1, as for a cross build.
use_staged_pkg_config() {
    export PKG_CONFIG_LIBDIR=$stage$1/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$stage
}

# Whether the program $1 was linked with a shared library of Ahoy.
is_shared() {
    readelf -d "$1" >"$work/dynamic"
    grep -q 'NEEDED.*\[libahoy\.so\.' "$work/dynamic"
}

# Is greeted at the URL $1, as any client would be.
greet() {
    local answer socket
    exec {socket}<>"/dev/tcp/127.0.0.1/${1##*:}"
    printf hi >&"$socket"
    answer=$(timeout 60 cat <&"$socket")
    exec {socket}>&-
    [ "$answer" = "Hello from server" ] || fail "$1 answered '$answer'"
}

# Runs a program that prints the URLs of its servers and then "ready": greets every one, ends the program's
# input, and expects it to end well.
serves() {
    local pid in out line urls=()
    coproc SERVER { exec "$@"; }
    pid=$SERVER_PID
    exec {in}>&"${SERVER[1]}" {out}<&"${SERVER[0]}"
    eval "exec ${SERVER[1]}>&-"
    while IFS= read -r -t 60 -u "$out" line && [ "$line" != ready ]; do urls+=("$line"); done
    [ "${line:-}" = ready ] || fail "$1 did not get ready"
    [ "${#urls[@]}" -gt 0 ] || fail "$1 has no server"
    for line in "${urls[@]}"; do greet "$line"; done
    exec {in}>&-
    wait "$pid" || fail "$1 ended with $?"
    exec {out}<&-
    echo "$1 greeted ${#urls[@]}"
}
