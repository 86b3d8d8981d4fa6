#!/bin/sh
# Install packages in the builder, then delete files that no process reads at run time: locked ones, all
# with hashes; or a user's for a strategy, with what they need.  These take the stack's versions of what
# the stack has, too, and hashes if their file has any.
# With a target, DIR/LOCK.sha256 lists the installed wheels: their hashes go into the images' SBOMs.
# Usage: pip.sh [--target DIR] -r LOCK | pip.sh --target DIR -r REQUIREMENTS --beside LOCK...
set -eu
if [ -s /ca/bundle.crt ]; then
    export PIP_CERT=/ca/bundle.crt
fi
install() {
    /venv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --only-binary :all: --report "$report" "$@"
}
report=$(mktemp)
if [ "${5:-}" = --beside ]; then
    target=$2 file=$4
    shift 5
    mkdir -p "$target"
    grep -Eqv '^[[:space:]]*(#|$)' "$file" || exit 0
    constraints=$(mktemp)
    sed -n 's/ *\\$//; /==/p' "$@" >"$constraints"
    install --target "$target" -r "$file" -c "$constraints"
    # What every image has in this version is not needed a second time.
    /venv/bin/python - "$target" /site/base <<'END'
import sys
from importlib.metadata import distributions
from pathlib import Path
target, base = sys.argv[1:]
present = {(each.name, each.version) for each in distributions(path=[base])}
for each in distributions(path=[target]):
    if (each.name, each.version) in present:
        for file in each.files or ():
            Path(target, file).unlink(missing_ok=True)
END
    set -- --target "$target" -r "$file"
else
    install --no-deps --require-hashes "$@"
fi
if [ "$1" = --target ]; then
    rm -rf "${2:?}/bin"
    # Test suites and C headers are a third of NumPy and half of pandas.
    find "$2" -mindepth 1 -depth -type d \( -name tests -o -name include -o -name f2py \) -exec rm -rf {} +
    find "$2" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' \) -delete
    /venv/bin/python - "$report" >"$2/$(basename "$4" .txt).sha256" <<'END'
import json, sys
for package in json.load(open(sys.argv[1]))["install"]:
    found = package["download_info"]
    print(found["archive_info"]["hashes"]["sha256"], "", found["url"].rpartition("/")[2])
END
fi
rm "$report"
