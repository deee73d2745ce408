#!/usr/bin/env bash
# Break and restore the network of one host of netns_up.sh.
#   netns_fault.sh PREFIX HOST loss 20        # lose 20 % of the packets in each direction
#   netns_fault.sh PREFIX HOST mute           # one direction: its outgoing packets are lost, incoming ones arrive
#   netns_fault.sh PREFIX HOST deaf           # the other direction
#   netns_fault.sh PREFIX HOST rate 500       # 500 kbit/s outwards
#   netns_fault.sh PREFIX HOST drop 9090      # packets to and from this TCP port are lost (a half-open connection)
#   netns_fault.sh PREFIX HOST reset 9090     # connections to or from this TCP port are refused with a reset
#   netns_fault.sh PREFIX HOST silent         # partition: the switch port is down, packets are lost without an error
#   netns_fault.sh PREFIX HOST unplug         # the host's own interface is down: ENETUNREACH at once
#   netns_fault.sh PREFIX HOST heal           # remove all faults
# nftables drops the packets, because a small kernel may lack the netem queue (so there is no fault of delay).
set -euo pipefail
prefix=${1:?usage: netns_fault.sh PREFIX HOST FAULT [VALUE]} host=${2:?} what=${3:?} value=${4:-}
ns=$prefix$host

rules() { # one rule for incoming packets, one for outgoing ones; none for packets to itself
    ip netns exec "$ns" nft -f - <<RULES
table inet fault
delete table inet fault
table inet fault {
    chain in { type filter hook input priority 0; iifname "lo" accept; $1; }
    chain out { type filter hook output priority 0; oifname "lo" accept; $2; }
}
RULES
}
both() { rules "$1" "$1"; }

case $what in
    loss) both "numgen random mod 100 < $value drop" ;;
    mute) rules accept drop ;;
    deaf) rules drop accept ;;
    rate) tc -n "$ns" qdisc replace dev eth0 root tbf rate "${value}kbit" burst 32k latency 200ms ;;
    drop) both "tcp sport $value drop; tcp dport $value drop" ;;
    reset) both "tcp dport $value reject with tcp reset" ;;
    silent) ip -n "$prefix-sw" link set "port$host" nomaster ;;
    unplug) ip -n "$ns" link set eth0 down ;;
    heal)
        ip netns exec "$ns" nft delete table inet fault 2>/dev/null || true
        tc -n "$ns" qdisc del dev eth0 root 2>/dev/null || true
        ip -n "$prefix-sw" link set "port$host" master br0
        ip -n "$ns" link set eth0 up
        ;;
    *)
        echo "netns_fault: unknown fault '$what'; choose loss, mute, deaf, rate, drop, reset, silent, unplug or heal" >&2
        exit 2
        ;;
esac
