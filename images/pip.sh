#!/bin/sh
# Install locked packages in the builder, then delete files that no process reads at run time.
# With a target, DIR/LOCK.sha256 lists the installed wheels: their hashes go into the images' SBOMs.
# Usage: pip.sh [--target DIR] -r LOCK
set -eu
if [ -s /ca/bundle.crt ]; then
    export PIP_CERT=/ca/bundle.crt
fi
report=$(mktemp)
/venv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
    --no-deps --require-hashes --only-binary :all: --report "$report" "$@"
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
