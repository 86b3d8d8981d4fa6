#!/bin/sh
# Three brokers, a sequencer, and one stack for each shard in SHARDS (default: those that run, else a b), as
# Compose projects of their own: trading-bus, trading-a, trading-b.
# Usage: cluster.sh up|build|down|ps|bus ARGUMENT...|shard NAME ARGUMENT...
# The ports of the n-th shard are those of .env + 100 n.
set -eu
cd "$(dirname "$0")/../.."
: "${CLUSTER:=trading}" "${BUS_KEYS:=$PWD/build/cluster}"
BUS_NETWORK=$CLUSTER-bus
# Files that last until "down": the shards, and the run's name in the streams.
running=$BUS_KEYS/running_shards run=$BUS_KEYS/run
: "${SHARDS:=$(cat "$running" 2>/dev/null || echo a b)}"
export SHARDS BUS_KEYS BUS_NETWORK
# Made by make base-image where no registry answers.
override=docker-compose.override.yml
if [ -z "${PYTHON_IMAGE:-}" ] && grep -qs "trading-python:3.13" "$override"; then
    export PYTHON_IMAGE=trading-python:3.13
fi

fail() { echo "cluster: $*" >&2; exit 1; }

setting() { eval "echo \"\${$1:-$(sed -n "s/^$1=//p" .env)}\""; }

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac }

bus() (
    DATA_DIR=$(absolute "$(setting DATA_DIR)")
    [ -d "$DATA_DIR" ] || fail "DATA_DIR=$DATA_DIR: no such folder"
    SHARD_MAP=$(setting SHARD_MAP) SHARD_MAP_SUM=
    if [ -n "$SHARD_MAP" ]; then
        SHARD_MAP=$(absolute "$SHARD_MAP")
        [ -f "$SHARD_MAP" ] || fail "SHARD_MAP=$SHARD_MAP: no such file"
        SHARD_MAP_SUM=$(cksum <"$SHARD_MAP")
    fi
    : "${RUN_ID:=$(cat "$run" 2>/dev/null || true)}"
    export DATA_DIR SHARD_MAP SHARD_MAP_SUM RUN_ID
    docker compose -p "$CLUSTER-bus" --project-directory images/cluster --env-file .env \
        -f images/cluster/docker-compose.yml "$@"
)

known() { cat "$BUS_KEYS"/accounts.conf "$BUS_KEYS"/*.pem 2>/dev/null | cksum; }

shard() (  # shard NAME ARGUMENT...: docker compose for one shard
    SHARD=$1
    shift
    n=0
    for each in $SHARDS; do
        n=$((n + 1))
        [ "$each" != "$SHARD" ] || break
    done
    # Its data is what its stream has; sentiment comes along.
    export SHARD DATA_PATH="nats://" SENTIMENT_PATH=
    export BUS_URL="${BUS_URL:-tls://broker-1:4222,tls://broker-2:4222,tls://broker-3:4222}"
    for name in PRICE SENTIMENT ORDER DASHBOARD; do
        export "PUBLISHED_${name}_PORT=$(($(setting "PUBLISHED_${name}_PORT") + 100 * n))"
    done
    files="-f docker-compose.yml"
    [ ! -f "$override" ] || files="$files -f $override"
    # shellcheck disable=SC2086
    docker compose -p "$CLUSTER-$SHARD" $files -f images/cluster/shard.yml "$@"
)

# All shards that there may be containers of.
every_shard() {
    { ls "$BUS_KEYS/creds" 2>/dev/null | sed -n 's/^shard-//p'; printf '%s\n' $SHARDS; } | sort -u
}

# wait_for PROJECT [SERVICE]: until every container is healthy, or has come to its end; says why if one cannot.
# Compose's own --wait gives up at once where one is unhealthy for a moment, or has ended.
wait_for() {
    left=90 # of about two seconds each
    while :; do
        waiting=0
        for id in $(docker ps -aq --filter "label=com.docker.compose.project=$1" \
            --filter label=com.docker.compose.oneoff=False \
            --filter "label=com.docker.compose.service${2:+=$2}"); do
            state=$(docker inspect -f \
                '{{.State.Status}} {{.RestartCount}} {{with .State.Health}}{{.Status}}{{end}}' "$id")
            case $state in
                running*\ healthy) continue ;;
                exited*) ;;
                *\ 0\ *) waiting=1 && continue ;;
            esac
            # Ended, or started again: with an error, or a run that is over.
            why=$(docker logs "$id" 2>&1 | sed -En \
                's/^[^ ]+ ERROR (.*)/\1/p; /: invalid settings:$/{n;p}; /"level": *"error"/p' | tail -1)
            [ -z "$why" ] || fail "$(docker inspect -f '{{.Name}}' "$id" | tr -d /): $why"
            case $state in exited*) ;; *) waiting=1 ;; esac
        done
        [ $waiting = 1 ] || return 0
        left=$((left - 1))
        [ $left -gt 0 ] || fail "$1 is not ready: images/cluster/cluster.sh ps"
        sleep 1
    done
}

up() {
    for each in $(cat "$running" 2>/dev/null || true); do
        case " $SHARDS " in
            *" $each "*) ;;
            *) fail "shard $each runs and is not in SHARDS=\"$SHARDS\": add it, or make down-cluster first" ;;
        esac
    done
    before=$(known)
    images/cluster/keys.sh "$BUS_KEYS" $SHARDS
    echo "$SHARDS" >"$running"
    [ -s "$run" ] || date -u +%Y%m%dT%H%M%S >"$run"
    if [ "$before" != "$(known)" ] && [ -n "$(bus ps -q broker-1)" ]; then
        # A container keeps the files that were there when it was made.
        for broker in broker-1 broker-2 broker-3; do
            bus up -d --wait --wait-timeout 120 --force-recreate "$broker"
        done
    fi
    bus up -d --wait --wait-timeout 120 broker-1 broker-2 broker-3
    bus run --rm -T setup
    # First of all, so that it is known whether the data and the map can be used.
    bus up -d sequencer
    wait_for "$CLUSTER-bus" sequencer
    for name in $SHARDS; do
        shard "$name" up -d
    done
    for name in $SHARDS; do
        wait_for "$CLUSTER-$name"
    done
    bus up -d --wait --wait-timeout 60 portfolio monitor
    echo "cluster: the brokers and the shards $SHARDS are ready; make down-cluster stops them"
}

case ${1:-} in
    up) up ;;
    build)
        shard a build shard
        bus build broker-1 portfolio
        ;;
    down)
        shift
        for name in $(every_shard); do
            shard "$name" down "$@"
        done
        bus down "$@"
        rm -f "$running" "$run"
        ;;
    ps)
        bus ps
        for name in $SHARDS; do
            shard "$name" ps
        done
        ;;
    bus | shard) "$@" ;;
    *)
        echo "usage: cluster.sh up|build|down|ps|bus ARGUMENT...|shard NAME ARGUMENT..." >&2
        exit 2
        ;;
esac
