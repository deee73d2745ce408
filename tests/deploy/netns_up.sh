#!/usr/bin/env bash
# Make HOSTS virtual hosts on one virtual switch, each in a separate network namespace.
#
#   netns_up.sh [PREFIX] [HOSTS]      # default: lite 3 -> lite-sw, lite0 lite1 lite2 at 10.77.0.10, .11, .12
#   ip netns exec lite1 COMMAND       # run a command on a host
#   netns_fault.sh ...                # loss, throttling, partition, heal
#   netns_down.sh [PREFIX]
#
# NET gives the first three numbers of the addresses. Needs root and iproute2. The switch is a bridge in its own
# namespace, so nothing here reaches the machine's network, and nothing on the machine sees these addresses.
set -euo pipefail
prefix=${1:-lite} hosts=${2:-3} net=${NET:-10.77.0}
[ "$(id -u)" = 0 ] || { echo "netns_up: must run as root" >&2; exit 77; }
command -v ip >/dev/null || { echo "netns_up: ip not found; apt-get install -y iproute2" >&2; exit 77; }

ip netns add "$prefix-sw"
ip -n "$prefix-sw" link add br0 type bridge
ip -n "$prefix-sw" link set br0 up
for ((h = 0; h < hosts; h++)); do
    ip netns add "$prefix$h"
    ip -n "$prefix$h" link add eth0 type veth peer name "port$h" netns "$prefix-sw"
    ip -n "$prefix-sw" link set "port$h" master br0
    ip -n "$prefix-sw" link set "port$h" up
    ip -n "$prefix$h" link set lo up
    ip -n "$prefix$h" link set eth0 up
    ip -n "$prefix$h" address add "$net.$((10 + h))/24" dev eth0
    echo "$prefix$h $net.$((10 + h))"
done
