#!/bin/bash
# Crash a service of the running containers and check its recovery: crash.sh SERVICE kill|freeze|cut
#
# A container of the service "check" watches from inside the stack's network and shared memory; it says
# when it is ready, and prints the result.  The fault comes from here, with the engine's means:
#   kill    SIGKILL to the process inside its container, which starts it again (after "docker kill", a
#           manual stop, the engine starts nothing: docker compose up -d does)
#   freeze  SIGSTOP to it, and SIGCONT after 3 s
#   cut     the container leaves its networks for 1 s, which breaks all its connections
set -euo pipefail
cd "$(dirname "$0")/.."
service=$1 fault=$2

inside() { docker compose exec -T "$service" sh -c "$1" </dev/null; }

reconnect() {
    local network
    for network in $networks; do
        docker network connect --alias "$service" "$network" "$container" 2>/dev/null || true
    done
}

inject() {
    # The process is the child of the keeper, the first child of the container's init (others are
    # orphans, such as the pause of a health check that has timed out).
    local find='read -r p _ </proc/1/task/1/children; read -r p _ </proc/$p/task/$p/children'
    case $fault in
        kill) inside "$find; kill -KILL \$p" ;;
        freeze) inside "$find; kill -STOP \$p; sleep 3; kill -CONT \$p" ;;
        cut)
            container=$(docker compose ps -q "$service")
            networks=$(docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' \
                "$container")
            trap reconnect EXIT # also after Ctrl-C
            for network in $networks; do docker network disconnect "$network" "$container"; done
            sleep 1
            trap - EXIT
            reconnect
            ;;
    esac
}

coproc check { docker compose run --rm --no-deps -T check crash "$service" --fault "$fault" --outside; }
result=$check_PID
exec 3<&"${check[0]}" 4>&"${check[1]}"
if read -r line <&3; then
    if [ "$line" != ready ]; then echo "$line"
    elif inject; then echo injected >&4
    fi
fi
exec 4>&-
cat <&3
wait "$result"
