#!/bin/sh
# Print the folder of prometheus and promtool: the installed ones, or Debian's package, unpacked into
# build/prometheus.  Nothing is installed, and no service starts.
set -eu
cd "$(dirname "$0")/../.."
tools=build/prometheus/usr/bin
fail() { echo "prometheus: $*" >&2; exit 1; }

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    dirname "$(command -v prometheus)"
    exit
fi
if ! [ -x $tools/promtool ]; then
    command -v apt-get >/dev/null || fail "not installed, and there is no apt-get to fetch it with"
    echo "prometheus: fetching Debian's package into build/prometheus" >&2
    rm -rf build/prometheus
    mkdir -p build/prometheus
    download() { apt-get download -q prometheus >/dev/null 2>&1; }
    # Without package lists, as in a fresh container, they come first; that needs root.
    (cd build/prometheus && { download || { apt-get update -q >/dev/null 2>&1 && download; }; } \
        && dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb) \
        || fail "no package: does a Debian mirror answer (apt-get update)?"
fi
echo "$PWD/$tools"
