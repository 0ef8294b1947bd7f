"""What the kernel reports of an interface that is to be adopted, by pyroute2's codec."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_interface
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dnet.drivers import uplink, uplink_snapshot
from dnet.drivers.uplink_snapshot import Snapshot
from dnet.objects import observed, replay
from dnet.objects.host import AddressMessage, LinkMessage, Message, RouteMessage
from dnet.objects.links import PortOf
from dnet.objects.object import Object
from dnet.objects.observed import Observed, ObservedAddress, ObservedLink, ObservedRoute

SETTINGS = tuple(0 for _ in replay.SETTINGS)


ETH1 = ObservedLink(index=3, name="eth1", mac="02:00:00:00:00:01", address_generation=0, settings=SETTINGS)


BRIDGE = ObservedLink(
    index=70, name="br0", kind="bridge", mac="02:42:0a:01:00:01", address_generation=1, settings=SETTINGS
)


ETH2 = ObservedLink(index=4, name="eth2", mac="02:00:00:00:00:02")


SYSCTLS = {"accept_ra": "1", "forwarding": "0", "ndisc_notify": "0", "autoconf": "1", "disable_ipv6": "0"}


PERMANENT, SECONDARY, NODAD, TENTATIVE, DADFAILED, NOPREFIXROUTE = 0x80, 0x01, 0x02, 0x40, 0x08, 0x200


PORT = (PortOf("eth1", 3, "", master="br0", master_index=70),)


def adopting(snapshot: Snapshot, port: Sequence[Object] = PORT) -> tuple[Object, ...]:
    """Return what makes eth1 a port of br0."""
    return uplink.adopting(snapshot, port)


def releasing(snapshot: Snapshot, port: Sequence[Object] = PORT, *, is_rollback: bool = False) -> tuple[Object, ...]:
    """Return what gives eth1 back."""
    return uplink.releasing(snapshot, port, is_rollback=is_rollback)


def encoded(kind: type, number: int, fields: dict[str, Any], attributes: list[tuple[str, Any]]) -> bytes:
    """Return a message as pyroute2 writes it."""
    message = kind()
    for key, value in fields.items():
        message[key] = value
    message["attrs"] = attributes
    message["header"]["type"] = number
    message.encode()
    return bytes(message.data)


def decoded(item: Message) -> Any:
    """Return what pyroute2 reads in a message that is to be sent."""
    kind = {AddressMessage: ifaddrmsg, RouteMessage: rtmsg, LinkMessage: ifinfmsg}[type(item)]
    header = (16 + len(item.body)).to_bytes(4, "little") + item.type.to_bytes(2, "little") + bytes(10)
    message = kind(header + item.body)
    message.decode()
    return message


def address(text: str, index: int = 3, flags: int = PERMANENT, **attributes: Any) -> ObservedAddress:
    """Return an address as the kernel reports it."""
    interface = ip_interface(text)
    is_four = interface.version == 4
    fields = {
        "family": socket.AF_INET if is_four else socket.AF_INET6,
        "prefixlen": interface.network.prefixlen,
        "index": index,
        "flags": flags & 0xFF,
        "scope": 253 if interface.is_link_local else 0,
    }
    local = [("IFA_LOCAL", str(interface.ip)), ("IFA_LABEL", "eth1")] if is_four else []
    rest = [(f"IFA_{name.upper()}", value) for name, value in attributes.items()]
    given = {name for name, _ in rest}
    local = [pair for pair in local if pair[0] not in given]
    base = [("IFA_ADDRESS", str(interface.ip))] if "IFA_ADDRESS" not in given else []
    return observed.address(encoded(ifaddrmsg, 20, fields, [*base, *local, *rest, ("IFA_FLAGS", flags)]))


def route(
    text: str, index: int = 3, *, protocol: int = 4, scope: int = 0, kind: int = 1, **attributes: Any
) -> ObservedRoute:
    """Return a route of the main table as the kernel reports it, to a destination, `default` or `default6`."""
    words = {"default": "0.0.0.0/0", "default6": "::/0"}
    network = ip_interface(words.get(text, text)).network
    fields = {
        "family": socket.AF_INET if network.version == 4 else socket.AF_INET6,
        "dst_len": network.prefixlen,
        "table": attributes.get("table", 254) & 0xFF,
        "proto": protocol,
        "scope": scope,
        "type": kind,
        "flags": attributes.pop("flags", 0),
    }
    named = [(f"RTA_{name.upper()}", value) for name, value in {"table": 254, **attributes}.items()]
    destination = [("RTA_DST", str(network.network_address))] if network.prefixlen else []
    through = [("RTA_OIF", index)] if index else []
    return observed.route(encoded(rtmsg, 24, fields, [*destination, *through, *named]))


def report(
    addresses: list[ObservedAddress] | None = None, routes: list[ObservedRoute] | None = None, *links: ObservedLink
) -> Observed:
    """Return a host with eth1, eth2 and br0."""
    return Observed([ETH1, ETH2, BRIDGE, *links], addresses or [], routes or [])


def taken(found: Observed, **given: Any) -> Snapshot:
    """Return a snapshot of eth1 and br0."""
    options = {"sysctls": SYSCTLS, "bridge_sysctls": SYSCTLS, "spare": None, "takes_mac": True, "boot": "this"}
    return uplink_snapshot.take(found, ETH1, BRIDGE, **{**options, **given})


def phrases(items: tuple[Any, ...]) -> list[str]:
    """Return objects as people read them."""
    return [str(item) for item in items]


ADDRESSES = [
    address("192.0.2.10/24", broadcast="192.0.2.255"),
    address("192.0.2.11/24", flags=PERMANENT | SECONDARY, label="eth1:0"),
    address("2001:db8::11/64"),
    address("2001:db8::10/64", flags=PERMANENT | NODAD),
]


ROUTES = [
    route("default", gateway="192.0.2.2", priority=100),
    route("192.0.2.0/24", protocol=2, scope=253, prefsrc="192.0.2.10"),
    route("198.18.0.1/32", scope=253),
    route("2001:db8::/64", protocol=2, priority=256),
    route("default6", gateway="2001:db8::2", priority=90),
    route("192.0.2.10/32", protocol=2, scope=254, kind=2, table=255),
]


SNAPSHOT = taken(report(ADDRESSES, ROUTES))


def sent(snapshot: Snapshot, start: str) -> Any:
    """Return what pyroute2 reads in the one message of adopting whose phrase begins so."""
    [item] = [item for item in adopting(snapshot) if str(item).startswith(start)]
    assert isinstance(item, Message)
    return decoded(item)
