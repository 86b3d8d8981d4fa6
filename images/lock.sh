#!/bin/sh
# Resolve pyproject.toml into lock files: one for the host, one per image layer (each has only the
# packages that the layers below it lack).  They contain hashes, no addresses.  Versions that still
# satisfy pyproject.toml stay; UPGRADE=1 takes the newest.  Usage: lock.sh UV
set -eu
cd "$(dirname "$0")/.."
uv=$1

compile() {  # compile OUTPUT [uv options]: the dependencies of the project and of groups
    compile_only "$@" pyproject.toml
}

compile_only() {  # compile_only OUTPUT [uv options]: those of groups only
    output=$1
    shift
    "$uv" pip compile -q --universal --python-version 3.11 --generate-hashes \
        --no-annotate --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" -o "$output" "$@"
    echo "lock: $output"
}

without() {  # without LOCK...: options that leave out the packages of these lock files
    sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' "$@" | sort -u
}

compile requirements.lock --group dev ${UPGRADE:+--upgrade}

locks=images/locks
like="-c requirements.lock"  # the images use the same versions as the host
compile $locks/base.txt $like
compile $locks/data.txt $like --group data $(without $locks/base.txt)
compile $locks/live.txt $like --group live $(without $locks/base.txt)
compile $locks/order_manager.txt $like --group order_manager $(without $locks/base.txt)
compile $locks/dashboard.txt $like --group dashboard $(without $locks/base.txt)
compile $locks/bus.txt $like --group bus $(without $locks/base.txt)
compile_only $locks/broker.txt $like --group broker
compile $locks/tests.txt $like --group test \
    $(without $locks/base.txt $locks/data.txt $locks/live.txt $locks/order_manager.txt $locks/dashboard.txt $locks/bus.txt $locks/broker.txt)
compile $locks/build.txt $like --group build $(without $locks/base.txt)
compile_only $locks/supply_chain.txt $like --group supply_chain
for peer in backtesting nautilus vectorbt; do
    compile_only $locks/peer_$peer.txt --group peer_$peer
done
