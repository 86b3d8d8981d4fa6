#!/usr/bin/env bash
# Make a Python >= 3.13 base image from Debian packages, for machines that reach no registry, and
# configure Compose to use it (docker-compose.override.yml).  An existing image or file is kept.
# Usage: base_image.sh [--if-needed]   --if-needed: only if PYTHON_IMAGE is not here and not pullable
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LOCAL_IMAGE=trading-python:3.13
readonly SUITE=trixie  # its Python is 3.13
readonly OVERRIDE=docker-compose.override.yml
readonly APT_LOG=/tmp/base-image-apt.log
readonly TARGETS="shm gateway orderbook strategy order_manager dashboard tests"

say() { echo "base-image: $*"; }
fail() { echo "base-image: $*" >&2; exit 1; }

have() { docker image inspect "$1" >/dev/null 2>&1; }

wanted_image() {
    [ -n "${PYTHON_IMAGE:-}" ] || PYTHON_IMAGE=$(sed -n 's/^PYTHON_IMAGE=//p' .env)
    echo "$PYTHON_IMAGE"
}

build_image() {
    if ! command -v mmdebstrap >/dev/null; then
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null \
            || fail "needs mmdebstrap: install it, or set PYTHON_IMAGE to an image you have"
        say "installing mmdebstrap"
        { apt-get update -q && apt-get install -y -q --no-install-recommends mmdebstrap; } \
            >"$APT_LOG" 2>&1 || fail "cannot install mmdebstrap: see $APT_LOG"
    fi
    say "making $LOCAL_IMAGE from Debian $SUITE packages"
    mmdebstrap --quiet --variant=minbase --include=python3,ca-certificates \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        "$SUITE" - \
        | docker import -c 'ENV LANG=C.UTF-8' -c 'CMD ["python3"]' - "$LOCAL_IMAGE" >/dev/null \
        || fail "mmdebstrap failed: does the Debian mirror answer?"
}

copy_certificates() {
    local bundle
    for bundle in "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt; do
        if [ -s "$bundle" ]; then
            cmp -s "$bundle" images/ca/bundle.crt || cp "$bundle" images/ca/bundle.crt
            return
        fi
    done
}

write_override() {
    if [ -e "$OVERRIDE" ] && ! grep -q "$LOCAL_IMAGE" "$OVERRIDE"; then
        say "keeping your $OVERRIDE; set PYTHON_IMAGE=$LOCAL_IMAGE to use the image"
        return
    fi
    {
        echo "# Made by 'make base-image'; delete it to use PYTHON_IMAGE of .env again."
        echo "services:"
        for target in $TARGETS; do
            echo "  $target: {build: {args: {PYTHON_IMAGE: $LOCAL_IMAGE}}}"
        done
    } >"$OVERRIDE"
}

if [ "${1:-}" = --if-needed ] && ! [ -e "$OVERRIDE" ]; then
    image=$(wanted_image)
    have "$image" && exit
    say "pulling $image"
    docker pull -q "$image" >/dev/null 2>&1 && exit
    say "cannot pull $image"
fi
have "$LOCAL_IMAGE" || build_image
copy_certificates
write_override
say "$LOCAL_IMAGE is ready"
