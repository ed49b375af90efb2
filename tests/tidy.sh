#!/usr/bin/env bash
# Checks the rules of the tree that no compiler knows. Each check prints what breaks it, one place in a line.
# shellcheck disable=SC2016,SC2046 # Backquotes in patterns are meant; lists of files are split: no name has a blank.
set -euo pipefail
shopt -s inherit_errexit

cd "$(dirname "$0")/.."
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    mapfile -t files < <(git ls-files --cached --others --exclude-standard | while read -r file; do
        if [ -f "$file" ]; then echo "$file"; fi
    done)
else
    mapfile -t files < <(find . -type f -not -path './target/*' -not -path '*/build/*' -printf '%P\n' | sort)
fi

# The files whose names match the pattern $1 (and not $2).
named() { printf '%s\n' "${files[@]}" | grep -E "$1" | grep -vE "${2:-^$}" || true; }
mapfile -t code < <(named '\.(rs|c|h|cc|sh|py|cmake|in|map|toml)$|(^|/)(Makefile|run|CMakeLists\.txt)$')
mapfile -t prose < <(named '\.md$')

# What matches $1 in the files that follow; its own pattern is not a finding.
find_in() {
    local pattern=$1
    shift
    if [ $# -gt 0 ]; then grep -nE -H -- "$pattern" "$@" | grep -v '^tests/tidy\.sh:' || true; fi
}

passed=0
failed=0
# check RULE COMMAND…: the rule holds if the command prints nothing.
check() {
    local rule=$1 found
    shift
    found=$("$@") || found+="${found:+$'\n'}the check itself failed"
    if [ -z "$found" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "tidy: $rule"
        while IFS= read -r line; do echo "    $line"; done <<<"$found"
    fi
}

longer_than() {
    local lines_max=$1 file lines
    shift
    for file in "$@"; do
        lines=$(wc -l <"$file")
        if [ "$lines" -gt "$lines_max" ]; then echo "$file: $lines lines"; fi
    done
}

# Without comments and strings; lint names have longer words.
unsafe_code() {
    local file
    for file in $(named '\.rs$' '(^|/)sys(\.rs$|/)|^src/(capi|driver)/|^tests/package/other_rust/|^c_examples/mixed/'); do
        sed -E 's|//.*||; s|"[^"]*"||g' "$file" | grep -nE '\bunsafe\b' | sed "s|^|$file:|" || true
    done
}

# Every function that C can call catches a panic: its body goes through the guard.
unguarded_exports() {
    awk '
        /^ *#\[unsafe\(no_mangle\)\]/ { exported = 1; name = ""; guarded = 0; next }
        exported && name == "" && match($0, /fn [a-z0-9_]+/) { name = substr($0, RSTART + 3, RLENGTH - 3) }
        exported && /guard[a-z_]*\(/ { guarded = 1 }
        exported && name != "" && /^}/ {
            # It returns a constant.
            if (!guarded && name != "ahoy_version") print FILENAME ": " name
            exported = 0
        }' $(named '^src/.*\.rs$')
}

# Exports outside of the C face, where the check above expects them.
exports_elsewhere() { find_in 'no_mangle|export_name' $(named '^src/.*\.rs$' '^src/capi/|^src/hooks\.rs$|^src/capi\.rs$'); }

# Statuses, with their numbers, that the header has and a document's table has not, and the other way round.
differing_statuses() {
    { diff <(sed -nE 's/^ *(AHOY_(OK|ERR_[A-Z_]+)) = (-?[0-9]+),?$/\1 \3/p' include/ahoy.h | sort) \
        <(sed -nE 's/^\| `(AHOY_(OK|ERR_[A-Z_]+))` \| (-?[0-9]+) \|.*/\1 \3/p' "$1" | sort) || true; } |
        sed -n "s|^< |$1 lacks |p; s|^> |$1 invents |p"
}

missing_limits() {
    local limit
    sed -n '/^typedef struct ahoy_server_options/,/^}/s/^ *[a-z0-9_]*_t \([a-z_]*\);/\1/p' include/ahoy.h |
        grep -E '_max$|_ms$|^backlog$' | while read -r limit; do
        grep -qE "^\|.*\`$limit\`" "$1" || echo "$1 lacks $limit"
    done
}

missing_dependencies() {
    local crate
    sed -n '/^\[.*dependencies\]/,/^$/s/^\([a-z0-9_-]*\) *=.*/\1/p' Cargo.toml | sort -u | while read -r crate; do
        grep -qsE "\`$crate\`" docs/ARCHITECTURE.md || echo "docs/ARCHITECTURE.md does not say why $crate"
    done
}

missing_since() {
    awk '
        /^\/\*\*/ { comment = "" }
        { comment = comment $0 }
        # The type of a callback is no function.
        /^typedef/ { comment = comment "Since 0" }
        /^[a-z].*ahoy_[a-z_]+\(.*;$|^ +[^*].*\);$/ { if (comment !~ /Since [0-9]/) print FILENAME ": " $0; comment = "" }
    ' include/ahoy.h
}

broken_links() {
    local document target
    for document in "${prose[@]}"; do
        grep -oE '\]\([^)# ]+' "$document" | sed 's/^](//' | { grep -vE '^[a-z]+:' || true; } | while read -r target; do
            [ -e "$(dirname "$document")/$target" ] || echo "$document: $target"
        done || true
    done
}

whitespace_code() {
    find_in '[[:space:]]+$' "${code[@]}" "${prose[@]}"
    local -a untabbed
    mapfile -t untabbed < <(printf '%s\n' "${code[@]}" | grep -vE '(^|/)Makefile$')
    find_in $'\t' "${untabbed[@]}"
}

endless_last_line() {
    local file
    for file in "${code[@]}" "${prose[@]}"; do
        if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then echo "$file"; fi
    done
}

check "sources have at most 500 lines" longer_than 500 $(named '\.(rs|c|h|cc|sh|py)$|(^|/)Makefile$' '^include/ahoy\.h$')
check "C tests have at most 400 lines" longer_than 400 $(named '^tests/c/.*\.[ch]$')
check "unsafe code stays in src/capi, src/driver and src/sys" unsafe_code
check "every export catches panics" unguarded_exports
check "exports are in src/capi" exports_elsewhere
check "nothing is left for later" find_in '\b(todo|unimplemented|dbg)!|\b(FIXME|XXX|TODO)\b' "${code[@]}" "${prose[@]}"
# support.c and waiting.py have the pause between two looks at a condition.
check "nothing waits for time instead of a condition" find_in '\b(u|nano)?sleep(_ms)?\(|(^|[;&|] *|\bdo )sleep [0-9]' \
    $(named '^(src|tests|c_examples)/' '\.md$|^tests/c/support\.c$|^tests/cluster/waiting\.py$')
check "no trailing blanks, and tabs in Makefiles only" whitespace_code
check "files end with a newline" endless_last_line
check "no path of one machine" find_in '(^|[^a-z.])/(work|root|home|Users)/' "${code[@]}" "${prose[@]}"
check "every function says since when it is there" missing_since
check "README.md has the statuses of the header" differing_statuses README.md
check "README.zh-TW.md has the same statuses" differing_statuses README.zh-TW.md
check "README.md has every limit in a table" missing_limits README.md
check "README.zh-TW.md has every limit in a table" missing_limits README.zh-TW.md
check "docs/ARCHITECTURE.md gives the reason for each dependency" missing_dependencies
check "links in documents lead somewhere" broken_links

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
