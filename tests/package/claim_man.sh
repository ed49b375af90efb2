#!/usr/bin/env bash
# every function and type of ahoy.h has a man page that mandoc and groff find nothing wrong with
source "$(dirname "$0")/common.sh"

install_staged PREFIX=/usr
man=$stage/usr/share/man
cd "$man"

# The declarations, without comments.
"$CC" -E -P "$root/include/ahoy.h" >"$work/plain"
mapfile -t functions < <(grep -oE '\bahoy_[a-z0-9_]+\(' "$work/plain" | tr -d '(')
mapfile -t types < <(grep -oE '\(\*ahoy_[a-z0-9_]+|^} ahoy_[a-z0-9_]+' "$work/plain" | grep -oE 'ahoy_.*')
if [ "${#functions[@]}" -lt 40 ] || [ "${#types[@]}" -lt 15 ]; then fail "the header was not understood"; fi

# Pages with a text of their own, and those that lead to one of them; there are no others.
mapfile -t pages < <(grep -L '^\.so ' man3/*.3)
mapfile -t links < <(grep -l '^\.so ' man3/*.3)
for link in "${links[@]}"; do
    [ "$(wc -l <"$link")" = 1 ] || fail "$link is not just a link"
    read -r _ target <"$link"
    printf '%s\n' "${pages[@]}" | grep -qxF "$target" || fail "$link leads to $target"
done
basename -s .3 -a man3/*.3 | sort >"$work/made"
{ printf '%s\n' "${functions[@]}" "${types[@]}" ahoy && basename -s .3 -a "${pages[@]}"; } | sort -u | diff - "$work/made"

mandoc -T lint -W warning "${pages[@]}"
for page in "${pages[@]}"; do
    groff -mandoc -ww -z -Tutf8 "$page" 2>&1 | tee -a "$work/complaints"
    grep -qx ".Os libahoy $version" "$page" || fail "$page is of another version"
    # Nothing of a comment's own marks is left.
    if grep -nE '@param|@return|`|^ *\*|Since 0' "$page" | grep -v 'as all that'; then fail "$page"; fi
done
[ ! -s "$work/complaints" ]

# What the header declares is in the page of its name: a prototype, the fields of a struct; constants are in some page.
text_of() { LC_ALL=C MANWIDTH=500 man -M "$man" --no-hyphenation "$1" | tr -s ' \n' ' '; }
for function in "${functions[@]}"; do
    prototype=$(tr -s ' \n' ' ' <"$work/plain" | grep -oE "\b$function\([^)]*\);")
    text_of "$function" >"$work/text"
    grep -qF " $prototype" "$work/text" || fail "no '$prototype' in $function(3)"
    grep -qF " $function came with " "$work/text" || grep -qE " $function\(\)[^.]* came with Ahoy [0-9]" "$work/text" ||
        fail "$function(3) does not say since when"
done
for type in "${types[@]}"; do
    # Some handles have the names of pages about other things.
    case $type in ahoy_server | ahoy_conn | ahoy_timer | ahoy_kv | ahoy_watch) page=ahoy_handle ;; *) page=$type ;; esac
    text_of "$page" >"$work/text"
    sed -n "/^typedef struct $type {/,/^}/s/^  *\(.* \**[a-z_0-9]*\);$/\1/p" "$work/plain" >"$work/fields"
    while IFS= read -r field; do
        grep -qF " $field " "$work/text" || fail "no '$field' in $type(3)"
    done <"$work/fields"
done
for page in "${pages[@]}"; do text_of "$(basename "$page" .3)"; done >"$work/text"
constants=$(sed -nE -e '/define AHOY_(H|VERSION.*)( |$)/d' -e 's/^#define (AHOY_[A-Z0-9_]+).*/\1/p' \
    -e 's/^ *(AHOY_[A-Z_]+) = .*/\1/p' "$root/include/ahoy.h")
for constant in $constants; do
    grep -qE " $constant = [-A-Z0-9_]+ [A-Z]" "$work/text" || fail "no page has $constant"
done
