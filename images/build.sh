#!/bin/sh
# Build every image; prints the log only if that fails.
set -eu
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
images/requirements.sh >/dev/null
echo "images: building"
# One at a time: in parallel, each image would build the shared stages again.
if ! COMPOSE_PARALLEL_LIMIT=1 docker compose --profile tests build >"$log" 2>&1; then
    tail -40 "$log"
    echo "images: build failed" >&2
    exit 1
fi
