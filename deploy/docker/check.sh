#!/usr/bin/env bash
# Build the images and run their commands, without a container engine and without pulling a base image.
#
#   deploy/docker/check.sh [service|worker|all] [BUILD_OPTION...]
#
# BUILD_OPTIONs go to `buildah bud`, for example: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# It requires root and: apt-get install -y --no-install-recommends buildah mmdebstrap. mmdebstrap builds a Debian base
# once, which replaces python:3.11-slim (BASE in the Dockerfiles). This takes minutes and 2 GB in /var/lib/containers.
set -euo pipefail
cd "$(dirname "$0")/../.."
which=${1:-all}
shift $(($# > 0 ? 1 : 0))
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
base=localhost/hpbandster-lite-base

if ! buildah inspect "$base" > /dev/null 2>&1; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv bookworm "$work/root.tar"
    made=$(buildah from scratch)
    buildah add --quiet "$made" "$work/root.tar" / > /dev/null
    buildah commit --quiet "$made" "$base" > /dev/null
    buildah rm "$made" > /dev/null
fi

build() { # NAME BUILD_OPTION...: the image of one Dockerfile
    local name=$1 began=$SECONDS
    shift
    # This machine's trust store, so that pip trusts the same servers inside the build.
    buildah bud --quiet --layers --build-arg "BASE=$base" -v /etc/ssl/certs:/etc/ssl/certs:ro "$@" \
        -t "localhost/hpbandster-lite:$name" -f "deploy/docker/$name.Dockerfile" . > /dev/null
    echo "== $name: built in $((SECONDS - began)) s, $(buildah inspect --format '{{index .OCIv1.Config.Labels "org.opencontainers.image.title"}}' "localhost/hpbandster-lite:$name")"
}

inside() { # NAME SCRIPT: run a script in a new container of an image, as the image's user
    local container code=0
    container=$(buildah from "localhost/hpbandster-lite:$1")
    buildah run "$container" -- sh -euc "$2" || code=$?
    buildah rm "$container" > /dev/null
    [ "$code" = 0 ] || { echo "check.sh: $1 failed its check (exit code $code)" >&2; exit 1; }
    echo "== $1: its commands ran"
}

# shellcheck disable=SC2016 # expanded in the container
# A search with the three commands of the composition, on this machine's loopback interface.
search='
    test "$(id -u)" = 10001
    hpbandster-lite nameserver --port 0 --key names.key 2> names.log &
    names=$!
    until port=$(sed -n "s/.*listens on 127.0.0.1:\([0-9]*\).*/\1/p" names.log) && [ -n "$port" ]; do sleep 0.1; done
    python3 -c "import secrets; print(secrets.token_hex(32))" > run.key
    chmod 600 run.key
    export HPBANDSTER_LITE_RUN_ID=check HPBANDSTER_LITE_KEY_FILE=run.key
    export HPBANDSTER_LITE_NAMESERVER=127.0.0.1:$port HPBANDSTER_LITE_NAMESERVER_KEY_FILE=names.key
    hpbandster-lite master $PROBLEM --min-budget 1 --max-budget 3 --brackets 1 --seed 1 --run-dir run &
    master=$!
    TMPDIR=/scratch hpbandster-lite worker $PROBLEM
    wait "$master"
    kill "$names"
    wait "$names"
    hpbandster-lite best run
    hpbandster-lite verify run
'
if [ "$which" = service ] || [ "$which" = all ]; then
    build service "$@"
    inside service '! python3 -c "import torch" 2> /dev/null; hpbandster-lite plan digits > /dev/null; PROBLEM=counting_ones'"$search"
fi
if [ "$which" = worker ] || [ "$which" = all ]; then
    build worker "$@"
    inside worker 'python3 -c "import torch"; PROBLEM=digits'"$search"
fi
