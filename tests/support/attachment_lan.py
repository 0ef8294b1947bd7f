"""A LAN on a bridge of the host's and namespaces of others, for wiring by hand. The answers are ip's and ping's."""

from __future__ import annotations

from typing import Any

from tests.support.hosts import FakeHost, Namespace, wait_until

HOST4, PEER4 = "192.168.1.1", "192.168.1.2"
HOST6, PEER6 = "fd00:1::1", "fd00:1::2"


def namespace(host: FakeHost, name: str) -> Namespace:
    """Make a network namespace of somebody else's, with a way out by an interface `up0`, and return it."""
    host.run("ip", "netns", "add", name)
    script = (
        "ip link set lo up; ip link add up0 type bridge; ip address add 10.9.0.2/24 dev up0; ip link set up0 up; "
        "ip address add fd00:9::2/64 dev up0 nodad; ip route add default via 10.9.0.1; "
        "ip -6 route add default via fd00:9::1"
    )
    space = host.sandbox(name)
    space.run("sh", "-ec", script)
    return space


def make_lan(host: FakeHost, bridge: str = "br0") -> Namespace:
    """Make a bridge that has an address of each family, with a machine on it, and return the machine."""
    # Link-local addresses of the kernel's own would go on changing for a second or two.
    host.run("sh", "-ec", f"ip link add {bridge} type bridge; ip link set {bridge} addrgenmode none; ip netns add peer")
    host.run("ip", "link", "set", bridge, "up")
    host.run("sh", "-ec", f"ip address add {HOST4}/24 dev {bridge}; ip address add {HOST6}/64 dev {bridge} nodad")
    host.run("ip link add port1 type veth peer name eth0 netns peer")
    host.run("sh", "-ec", f"ip link set port1 addrgenmode none; ip link set port1 master {bridge} up")
    peer = host.sandbox("peer")
    peer.run("sh", "-ec", f"ip address add {PEER4}/24 dev eth0; ip address add {PEER6}/64 dev eth0 nodad")
    peer.run("sh", "-ec", "ip link set lo up; ip link set eth0 up")
    wait_until(lambda: peer.can_ping(HOST4), "the LAN's machine reaches the bridge")
    return peer


def device(space: Namespace, name: str) -> dict[str, Any]:
    """Return what `ip -d` says of an interface."""
    [found] = space.json("ip", "-d", "-j", "link", "show", "dev", name)
    return dict(found)


def global_addresses(space: Namespace, name: str) -> list[str]:
    """Return the global addresses of an interface."""
    [found] = space.json("ip", "-j", "address", "show", "dev", name)
    return [f"{item['local']}/{item['prefixlen']}" for item in found["addr_info"] if item["scope"] == "global"]


def routes(space: Namespace, family: int = 4) -> list[tuple[str, str, str]]:
    """Return destination, gateway and device of the routes, those of the kernel's own left out."""
    found = space.json("ip", "-j", f"-{family}", "route", "show")
    return [
        (way["dst"], way.get("gateway", ""), way["dev"]) for way in found if way.get("protocol") not in {"kernel", "ra"}
    ]


def default(space: Namespace, family: int = 4) -> list[tuple[str, str]]:
    """Return gateway and device of the default routes."""
    return [(gateway, name) for destination, gateway, name in routes(space, family) if destination == "default"]


def state(space: Namespace) -> dict[str, Any]:
    """Return links, addresses and routes of a namespace, to be compared, without what changes by itself."""
    links = [(link["ifname"], link["address"], link["mtu"], link.get("ifalias")) for link in space.json("ip -j link")]
    found = {
        link["ifname"]: sorted(f"{item['local']}/{item['prefixlen']}" for item in link["addr_info"])
        for link in space.json("ip -j address")
    }
    return {"links": links, "addresses": found, "4": routes(space), "6": routes(space, 6)}


def names(space: Namespace) -> list[str]:
    """Return the names of a namespace's interfaces."""
    return [link["ifname"] for link in space.json("ip -j link")]
