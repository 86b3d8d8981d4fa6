#!/bin/sh
# Install the backtests that the benchmark compares with into build/bench_peers, each into an environment
# of its own, as far as its lock file has changed.  One that cannot be installed is reported as absent.
set -u
cd "$(dirname "$0")/../../../.."
python=$(images/find_python.sh) || exit 1
for peer in backtesting nautilus vectorbt; do
    lock=images/locks/peer_$peer.txt
    venv=build/bench_peers/$peer
    cmp -s "$lock" "$venv/installed.txt" && continue
    echo "bench: installing $peer into $venv" >&2
    rm -rf "$venv"
    if "$python" -m venv "$venv" && "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: -r "$lock" >&2; then
        cp "$lock" "$venv/installed.txt"
    else
        rm -rf "$venv"
        echo "bench: $peer is absent: $lock cannot be installed with $("$python" -V)" >&2
    fi
done
