#!/bin/sh
# Print the file that STRATEGY_REQUIREMENTS names, from the shell or .env; nothing if it names
# no file, or one without packages.
# It fails unless Docker can see the file, too: below this folder, by a relative name.
set -eu
cd "$(dirname "$0")/.."
fail() { echo "STRATEGY_REQUIREMENTS=$file: $*" >&2; exit 1; }

file=${STRATEGY_REQUIREMENTS-$(sed -n 's/^STRATEGY_REQUIREMENTS=//p' .env)}
[ -n "$file" ] || exit 0
mend="give a file below $PWD, by a name such as data/strategies/requirements.txt"
case $file in
    /* | ../* | */../* | *' '*) fail "$mend" ;;
esac
[ -f "$file" ] && [ -r "$file" ] || fail "no such file; $mend"
! grep -Eqv '^[[:space:]]*(#|$)' "$file" || echo "$file"
