#!/usr/bin/env bash
# a C program built with pkg-config from an install in DESTDIR, with the shared library, greets a client
source "$(dirname "$0")/common.sh"

install_staged PREFIX=/opt/ahoy
use_staged_pkg_config /opt/ahoy
# shellcheck disable=SC2046 # Several words are meant.
"$CC" -std=c99 -Wall -Wextra -pedantic -Werror -o "$work/serve" "$here/serve.c" $(pkg-config --cflags --libs ahoy)
is_shared "$work/serve" || fail "it is not linked with the shared library"
case $(pkg-config --libs ahoy) in *-lpthread*) fail "--libs lists private libraries" ;; esac
LD_LIBRARY_PATH=$stage/opt/ahoy/lib serves "$work/serve"

# The same tree at another place.
mv "$stage/opt/ahoy" "$work/moved"
unset PKG_CONFIG_SYSROOT_DIR
export PKG_CONFIG_LIBDIR=$work/moved/lib/pkgconfig
[ "$(pkg-config --define-prefix --variable=libdir ahoy)" = "$work/moved/lib" ]
