#!/bin/sh
# What pipework does to attach a container to a Linux bridge, step by step and one `ip` each: the peer of `dnet attach`.
# Written from a description of its steps; left out is a look into /sys for what the bridge is.
#
#     [ARPING=no] sh peer_pipework.sh BRIDGE PID|CONTAINER ADDRESS/LENGTH[@GATEWAY]
#
# A Docker container's name costs three `docker inspect`, as with pipework; a pid leaves them out.
# arping, where it is installed, waits for a second although nothing answers a gratuitous ARP. ARPING=no is pipework
# on a host without it.
set -eu

bridge=$1
target=$2
address=${3%%@*}
gateway=${3#"$address"}
gateway=${gateway#@}
inside=eth1

case $target in
    *[!0-9]*)
        pid=$(docker inspect --format '{{ .State.Pid }}' "$target")
        # For the external ids of an Open vSwitch port; asked for in any case.
        docker inspect --format '{{ .Id }}' "$target" >/dev/null
        docker inspect --format '{{ .Name }}' "$target" >/dev/null
        ;;
    *) pid=$target ;;
esac
host_end=v${inside}pl$pid
guest_end=v${inside}pg$pid
named=/var/run/netns/$pid

in_container() {
    ip netns exec "$pid" "$@"
}

# `ip netns exec` goes by a name in this directory.
[ -d /var/run/netns ] || mkdir -p /var/run/netns
rm -f "$named"
ln -s "/proc/$pid/ns/net" "$named"

mtu=$(ip link show "$bridge" | awk '{ print $5; exit }')
if ip link show "$host_end" >/dev/null 2>&1; then
    echo "peer_pipework.sh: $host_end exists" >&2
    exit 1
fi
ip link add name "$host_end" mtu "$mtu" type veth peer name "$guest_end" mtu "$mtu"
ip link set "$host_end" master "$bridge"
ip link set "$host_end" up

ip link set "$guest_end" netns "$pid"
in_container ip link set "$guest_end" name "$inside"
in_container ip -4 addr add "$address" dev "$inside"
if [ -n "$gateway" ]; then
    in_container ip -4 route delete default >/dev/null 2>&1 || true
fi
in_container ip -4 link set "$inside" up
if [ -n "$gateway" ]; then
    in_container ip -4 route get "$gateway" >/dev/null 2>&1 ||
        in_container ip -4 route add "$gateway/32" dev "$inside"
    in_container ip -4 route replace default via "$gateway" dev "$inside"
fi

if [ "${ARPING:-yes}" != no ] && command -v arping >/dev/null 2>&1; then
    in_container arping -c 1 -A -I "$inside" "${address%/*}" >/dev/null 2>&1 || true
fi
rm -f "$named"
