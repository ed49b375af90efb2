#!/usr/bin/env bash
# libahoy.a shares a program with another archive written in Rust, in both orders, and both work
source "$(dirname "$0")/common.sh"

"${CARGO:-cargo}" build --quiet --release --locked --manifest-path "$here/other_rust/Cargo.toml" --target-dir "$work/other"
ahoy=$root/target/lib/libahoy.a
other=$work/other/release/libother_rust.a
read -ra libs <"$root/target/lib/rust/libahoy.a.libs"
"$CC" -I"$root/include" -o "$work/one" "$here/other_main.c" "$ahoy" "$other" "${libs[@]}"
"$CC" -I"$root/include" -o "$work/two" "$here/other_main.c" "$other" "$ahoy" "${libs[@]}"
serves "$work/one"
serves "$work/two"

# Panics are caught on both sides: unwinding still finds its way.
make -C "$root" lib HOOKS=1
"$CC" -DHOOKS -I"$root/include" -o "$work/three" "$here/other_main.c" "$root/target/lib-hooks/libahoy.a" "$other" "${libs[@]}"
serves "$work/three"
