#!/bin/sh
# Make .venv with the locked packages, or compile the kernel into app/kernel/: Make calls this when a
# lock file or a source has changed.  Or install what STRATEGY_REQUIREMENTS names, if that has changed.
# Without a compiler the stack runs as plain Python; the next `make setup` tries again.
# Usage: venv.sh packages|kernel|strategy
set -eu
cd "$(dirname "$0")/.."
venv=.venv
fail() { echo "setup: $*" >&2; exit 1; }

packages() {
    if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(images/find_python.sh)
        echo "setup: $venv with $python"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
    echo "setup: locked packages"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: -r requirements.lock
}

# What the stack has, too, keeps its version.
strategy() {
    file=$(images/requirements.sh)
    [ -n "$file" ] || return 0
    now=$(cat "$file" requirements.lock | cksum)
    [ "$now" != "$(cat "$venv/strategy.installed" 2>/dev/null)" ] || return 0
    echo "setup: packages of $file"
    sed -n 's/ *\\$//; /==/p' requirements.lock >"$venv/constraints.txt"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --only-binary :all: \
        -r "$file" -c "$venv/constraints.txt" || fail "cannot install STRATEGY_REQUIREMENTS=$file"
    echo "$now" >"$venv/strategy.installed"
}

# Debian has Python.h in a separate package.  If it is not installed, unpack the package into the
# venv: this needs no root and changes nothing outside.  Prints what the compiler is told then.
headers() {
    set -- $("$venv/bin/python" -c 'import sys, sysconfig
print(sysconfig.get_path("include"), "libpython%d.%d-dev" % sys.version_info[:2])')
    [ -e "$1/Python.h" ] && return
    if ! [ -e "$venv/headers$1/Python.h" ]; then
        command -v apt-get >/dev/null || return 0
        echo "setup: Python.h from $2" >&2
        mkdir -p "$venv/headers"
        (cd "$venv/headers" && apt-get download -q "$2" >/dev/null 2>&1 \
            && dpkg-deb -x "$2"_*.deb . && rm -f "$2"_*.deb) || return 0
    fi
    echo "-I$PWD/$venv/headers$1 -I$PWD/$venv/headers/usr/include"
}

# The first of C's and Python's headers that is not there.
missing_header() {
    include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    for header in stdio.h linux/futex.h Python.h; do
        echo "#include <$header>" | gcc ${CFLAGS:-} $flags "-I$include" -E -x c - >/dev/null 2>&1 || {
            echo "$header"
            return
        }
    done
}

# What was compiled from other sources must not run in the place of these.
failed() {
    find app -name '*.so' -delete
    cat "$1"
    exit 1
}

kernel() {
    rm -f "$venv/kernel.stamp"
    missing=""
    command -v gcc >/dev/null || missing="gcc"
    [ -n "$missing" ] || flags=$(headers)
    [ -n "$missing" ] || missing=$(missing_header)
    if [ -n "$missing" ]; then
        # What was compiled from other sources must not run in their place.
        find app -name '*.so' -delete
        echo "setup: $missing is missing, so nothing is compiled and everything runs slowly, as plain" \
            "Python; install gcc and the headers of this Python (Debian: apt-get install gcc" \
            "libc6-dev python3-dev), then make setup" >&2
        return
    fi
    echo "setup: kernel"
    CFLAGS="${CFLAGS:-} $flags" "$venv/bin/python" -W ignore \
        -c 'import setuptools; setuptools.setup()' -q build_ext --inplace \
        >"$venv/kernel.log" 2>&1 || failed "$venv/kernel.log"
    echo "setup: order core"
    CFLAGS="${CFLAGS:-} $flags" "$venv/bin/python" images/compile.py >"$venv/core.log" 2>&1 \
        || failed "$venv/core.log"
    grep -h -A 5 'warning:' "$venv/kernel.log" || true
    touch "$venv/kernel.stamp"
}

"$1"
