#!/bin/sh
# Three brokers, and one stack for each shard in SHARDS (default: a b), as Compose projects of their own:
# trading-bus, trading-a, trading-b.  Usage: cluster.sh up|down|ps|bus ARGUMENT...|shard NAME ARGUMENT...
# The ports of the n-th shard are those of .env + 100 n.
set -eu
cd "$(dirname "$0")/../.."
: "${SHARDS:=a b}" "${CLUSTER:=trading}" "${BUS_KEYS:=$PWD/build/cluster}"
BUS_NETWORK=$CLUSTER-bus
export SHARDS BUS_KEYS BUS_NETWORK
# Made by make base-image where no registry answers.
override=docker-compose.override.yml
if [ -z "${PYTHON_IMAGE:-}" ] && grep -qs "trading-python:3.13" "$override"; then
    export PYTHON_IMAGE=trading-python:3.13
fi

bus() { docker compose -p "$CLUSTER-bus" --project-directory images/cluster --env-file .env \
    -f images/cluster/docker-compose.yml "$@"; }

known() { cat "$BUS_KEYS"/accounts.conf "$BUS_KEYS"/*.pem 2>/dev/null | cksum; }

port() { eval "echo \${$1:-$(sed -n "s/^$1=//p" .env)}"; }

shard() {  # shard NAME ARGUMENT...: docker compose for one shard
    SHARD=$1
    shift
    n=0
    for each in $SHARDS; do
        n=$((n + 1))
        [ "$each" != "$SHARD" ] || break
    done
    export SHARD
    for name in PRICE SENTIMENT ORDER DASHBOARD; do
        export "PUBLISHED_${name}_PORT=$(($(port "PUBLISHED_${name}_PORT") + 100 * n))"
    done
    files="-f docker-compose.yml"
    [ ! -f "$override" ] || files="$files -f $override"
    # shellcheck disable=SC2086
    docker compose -p "$CLUSTER-$SHARD" $files -f images/cluster/shard.yml "$@"
}

case ${1:-} in
    up)
        before=$(known)
        images/cluster/keys.sh "$BUS_KEYS" $SHARDS
        if [ "$before" != "$(known)" ] && [ -n "$(bus ps -q broker-1)" ]; then
            # A container keeps the files that were there when it was made.
            for broker in broker-1 broker-2 broker-3; do
                bus up -d --wait --wait-timeout 120 --force-recreate "$broker"
            done
        fi
        bus up -d --wait --wait-timeout 120 broker-1 broker-2 broker-3
        bus run --rm -T setup
        for name in $SHARDS; do
            (shard "$name" up -d --wait --wait-timeout 180)
        done
        bus up -d --wait --wait-timeout 60 portfolio
        echo "cluster: the brokers and the shards $SHARDS are ready; make down-cluster stops them"
        ;;
    build)
        (shard a build shard)
        bus build broker-1 portfolio
        ;;
    down)
        shift
        for name in $SHARDS; do
            (shard "$name" down "$@")
        done
        bus down "$@"
        ;;
    ps)
        bus ps
        for name in $SHARDS; do
            (shard "$name" ps)
        done
        ;;
    bus | shard) "$@" ;;
    *)
        echo "usage: cluster.sh up|build|down|ps|bus ARGUMENT...|shard NAME ARGUMENT..." >&2
        exit 2
        ;;
esac
