#!/usr/bin/env bash
# the version is that of Cargo.toml everywhere: header, library, pkg-config, CMake, file names
source "$(dirname "$0")/common.sh"

install_staged PREFIX=/usr
use_staged_pkg_config /usr
IFS=. read -r major minor patch <<<"$version"
grep -qx "#define AHOY_VERSION \"$version\"" "$stage/usr/include/ahoy.h"
grep -qx "#define AHOY_VERSION_MAJOR $major" "$stage/usr/include/ahoy.h"
grep -qx "#define AHOY_VERSION_MINOR $minor" "$stage/usr/include/ahoy.h"
grep -qx "#define AHOY_VERSION_PATCH $patch" "$stage/usr/include/ahoy.h"
[ "$(pkg-config --modversion ahoy)" = "$version" ]
grep -qx "set(PACKAGE_VERSION \"$version\")" "$stage/usr/lib/cmake/Ahoy/AhoyConfigVersion.cmake"
[ -f "$stage/usr/lib/libahoy.so.$version" ]
[ "$(python3 -c 'import ctypes, sys
lib = ctypes.CDLL(sys.argv[1])
lib.ahoy_version.restype = ctypes.c_char_p
print(lib.ahoy_version().decode())' "$stage/usr/lib/libahoy.so")" = "$version" ]
