"""How pyroute2's README makes container networks: one object a namespace, one call a step.

A contestant's program:

    python -m benchmarks.peer_pyroute2 moved|in-place N

The README makes both ends of a veth on the host and moves one; "in-place" has the kernel make it in the namespace,
which the reference of IPRoute.link mentions.
"""

from __future__ import annotations

import sys

from pyroute2 import IPRoute, NetNS

from benchmarks.peer_scripts import BRIDGE, GATEWAY, PREFIX_LENGTH


def create(count: int, *, in_place: bool) -> None:
    """Make the bridge and `count` containers on it."""
    with IPRoute() as host:
        host.link("add", ifname=BRIDGE, kind="bridge")
        bridge = host.link_lookup(ifname=BRIDGE)[0]
        host.addr("add", index=bridge, address=str(GATEWAY), prefixlen=PREFIX_LENGTH)
        host.link("set", index=bridge, state="up")
        for number in range(1, count + 1):
            name = f"c-{number}"
            with NetNS(name) as sandbox:
                make_veth = _make_veth_in_place if in_place else _make_veth_and_move
                make_veth(host, name, number)
                _wire(host, bridge, sandbox, number)


def _make_veth_in_place(host: IPRoute, name: str, number: int) -> None:
    host.link("add", ifname=f"veth{number}", kind="veth", peer={"ifname": "eth0", "net_ns_fd": name})


def _make_veth_and_move(host: IPRoute, name: str, number: int) -> None:
    host.link("add", ifname=f"veth{number}", kind="veth", peer=f"peer{number}")
    peer = host.link_lookup(ifname=f"peer{number}")[0]
    host.link("set", index=peer, net_ns_fd=name, ifname="eth0")


def _wire(host: IPRoute, bridge: int, sandbox: NetNS, number: int) -> None:
    veth = host.link_lookup(ifname=f"veth{number}")[0]
    host.link("set", index=veth, master=bridge)
    host.link("set", index=veth, state="up")
    loopback = sandbox.link_lookup(ifname="lo")[0]
    sandbox.link("set", index=loopback, state="up")
    eth0 = sandbox.link_lookup(ifname="eth0")[0]
    sandbox.addr("add", index=eth0, address=str(GATEWAY + number), prefixlen=PREFIX_LENGTH)
    sandbox.link("set", index=eth0, state="up")
    sandbox.route("add", dst="default", gateway=str(GATEWAY))


if __name__ == "__main__":
    create(int(sys.argv[2]), in_place=sys.argv[1] == "in-place")
