#!/bin/sh
# A sweep on a Dask cluster of containers, which is started first: sweep.sh [options of the command].
# Then `docker compose --project-directory . -f images/dask/docker-compose.yml down` ends the cluster.
set -eu
cd "$(dirname "$0")/../.."
# The base image that make images has made, if no registry answered.
if [ -z "${PYTHON_IMAGE:-}" ] && [ -e docker-compose.override.yml ]; then
    PYTHON_IMAGE=$(sed -n 's/.*PYTHON_IMAGE: \([^}]*\)}.*/\1/p' docker-compose.override.yml | head -1)
    export PYTHON_IMAGE
fi
compose() { docker compose --project-directory . -f images/dask/docker-compose.yml "$@"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "sweep-cluster: image and containers"
if ! { compose build scheduler && compose up -d --wait; } >"$log" 2>&1; then
    tail -40 "$log"
    echo "sweep-cluster: the cluster has not started" >&2
    exit 1
fi
compose run --rm -T sweep "$@"
