#!/bin/sh
# Build every image; quiet unless it fails.
set -eu
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "images: building"
# One after the other: side by side, each would build the stages that they share for itself.
if ! COMPOSE_PARALLEL_LIMIT=1 docker compose --profile tests build >"$log" 2>&1; then
    tail -40 "$log"
    echo "images: build failed" >&2
    exit 1
fi
