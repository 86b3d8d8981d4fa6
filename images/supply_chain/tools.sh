#!/bin/sh
# Install the locked tools of `make sbom` and `make audit` into build/supply_chain, as far as the lock
# file has changed, and print the folder of their programs.
set -eu
cd "$(dirname "$0")/../.."
lock=images/locks/supply_chain.txt
venv=build/supply_chain
mkdir -p build
# Two at a time would remove each other's: the second waits, and finds them installed.
exec 9>build/supply_chain.lock
! command -v flock >/dev/null || flock 9
if ! cmp -s "$lock" "$venv/installed.txt"; then
    python=$(images/find_python.sh)
    echo "supply chain: installing the tools into $venv" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: -r "$lock" >&2 || {
        echo "supply chain: cannot install $lock: does the package index answer?" >&2
        exit 1
    }
    cp "$lock" "$venv/installed.txt"
fi
echo "$PWD/$venv/bin"
