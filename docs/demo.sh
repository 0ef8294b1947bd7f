#!/bin/sh
# The main job, for real, on this machine's own network: 500 containers, a look at them, and away with them.
set -eu
dnet=$1
had_bridge=$("$dnet" network ls -q --json | grep -c '"name": "bridge"' || true)

echo "+ dnet bulk-create --count 500 --prefix demo"
"$dnet" bulk-create --count 500 --prefix demo
echo "+ dnet ps | head -4"
"$dnet" ps | sed 4q
address=$("$dnet" inspect -f '{{ .NetworkSettings.IPAddress }}' demo-500)
echo "+ ip netns exec demo-1 ping -c 1 $address        (from the first container to the last)"
ip netns exec demo-1 ping -c 1 "$address"
echo "+ dnet bulk-delete --prefix demo"
"$dnet" bulk-delete --prefix demo
[ "$had_bridge" -ne 0 ] || "$dnet" network rm bridge >/dev/null
