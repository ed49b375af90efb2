#!/usr/bin/env bash
# install writes just the files that it should, and uninstall leaves nothing of them
source "$(dirname "$0")/common.sh"

install_staged PREFIX=/usr LIBDIR=/usr/lib64
(cd "$stage" && find . -not -type d -printf '%P\n' | grep -vE '^usr/share/(doc/ahoy|man/man3)/' | sort) >"$work/installed"
sort >"$work/expected" <<END
usr/include/ahoy.h
usr/lib64/cmake/Ahoy/AhoyConfig.cmake
usr/lib64/cmake/Ahoy/AhoyConfigVersion.cmake
usr/lib64/libahoy.a
usr/lib64/libahoy.so
usr/lib64/libahoy.so.${version%%.*}
usr/lib64/libahoy.so.$version
usr/lib64/pkgconfig/ahoy.pc
END
diff "$work/expected" "$work/installed"
for licence in "$root"/LICENSE-*; do cmp "$licence" "$stage/usr/share/doc/ahoy/${licence##*/}"; done
if grep -r '@[A-Z_]*@' "$stage/usr/lib64/pkgconfig" "$stage/usr/lib64/cmake"; then fail "a blank was not filled in"; fi
if grep -rF "$stage" "$stage"; then fail "DESTDIR is in an installed file"; fi
[ "$(stat -c %a "$stage/usr/include/ahoy.h")" = 644 ]

# Someone else's file stays.
touch "$stage/usr/include/other.h"
make -C "$root" uninstall DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib64
[ "$(find "$stage" -not -type d)" = "$stage/usr/include/other.h" ] || fail "left: $(find "$stage" -not -type d)"
[ -z "$(find "$stage" -type d -iname '*ahoy*')" ] || fail "left: $(find "$stage" -type d -iname '*ahoy*')"
for folder in lib64/cmake lib64/pkgconfig share/man/man3; do
    [ ! -e "$stage/usr/$folder" ] || fail "left, though nothing is in it: $folder"
done
[ -d "$stage/usr/lib64" ] || fail "the libraries' folder is not ours to remove"

# The variant with the test hooks is never installed.
if make -C "$root" install DESTDIR="$work/hooks" HOOKS=1; then fail "installed the test hooks"; fi
[ ! -e "$work/hooks" ]
