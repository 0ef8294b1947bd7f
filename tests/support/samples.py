"""Networks, endpoints and containers for tests. What a test does not name is empty, also fields that come later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import MISSING, fields
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, TypeVar

from dnet.model.container import Container, Endpoint, Settings
from dnet.model.network import Network

T = TypeVar("T")

_EMPTY: tuple[tuple[str, Any], ...] = (
    ("Mapping[", {}),
    ("tuple[", ()),
    ("frozenset[", frozenset()),
    ("bool", False),
    ("int", 0),
    ("float", 0.0),
    ("str", ""),
)


def filled(kind: type[T], **given: object) -> T:
    """Make a value of a dataclass from the fields given, every other one at its default or empty."""
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in given or field.default is not MISSING or field.default_factory is not MISSING:
            continue
        declared = str(field.type)
        if declared.endswith("None"):
            given[field.name] = None
        else:
            given[field.name] = next(empty for start, empty in _EMPTY if declared.startswith(start))
    return kind(**given)


def identity_of(text: str) -> str:
    """Return 64 hexadecimal digits, the same for the same text."""
    return hashlib.sha256(text.encode()).hexdigest()


def network(name: str = "blue", subnet: str = "10.1.0.0/24", **given: Any) -> Network:
    """Return a network whose gateway is the subnet's first address; its device follows from its name."""
    cidr = IPv4Network(subnet)
    index = int(identity_of(name)[:6], 16) + (1 << 28)
    known: dict[str, object] = {
        "id": identity_of(f"network {name}"),
        "name": name,
        "driver": "bridge",
        "subnet": cidr,
        "gateway": cidr[1],
        "ip_range": None,
        "icc": True,
        "masquerade": True,
        "device": f"br-{identity_of(name)[:12]}",
        "device_index": index,
        "created": 1_700_000_000.25,
    }
    return filled(Network, **(known | given))


def endpoint(
    net: Network, address: str, *, interface: str = "eth0", index: int = 0x5630_0001, **given: Any
) -> Endpoint:
    """Return an endpoint of `net`."""
    known: dict[str, object] = {
        "id": identity_of(f"endpoint {net.name} {address}"),
        "network_id": net.id,
        "network": net.name,
        "interface": interface,
        "address": IPv4Interface((address, net.subnet.prefixlen)),
        "gateway": None if net.internal else net.gateway,
        "mac": "02:42:" + IPv4Address(address).packed.hex(":"),
        "host_interface": f"veth{index:x}",
        "host_index": index,
    }
    return filled(Endpoint, **(known | given))


def container(name: str = "web", endpoints: Sequence[Endpoint] = (), *, run: str = "/run/x", **given: Any) -> Container:
    """Return a container with these endpoints, pinned below `run`."""
    identity = identity_of(f"container {name}")
    known: dict[str, object] = {
        "id": identity,
        "name": name,
        "mode": endpoints[0].network if endpoints else "none",
        "sandbox": f"{run}/netns/{identity[:12]}",
        "files": f"{run}/etc/{identity[:12]}",
        "settings": Settings(hostname=name),
        "created": 1_700_000_100.5,
        "status": "created",
        "endpoints": tuple(endpoints),
    }
    return filled(Container, **(known | given))
