"""Wiring by hand: what a caller asks for, read and checked against what there is. Rank 5, pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, TypedDict

from dnet import ipam
from dnet.errors import Conflict, InvalidRequest, NotFound, Unsupported
from dnet.model import (
    Attachment,
    Container,
    IPAddress,
    IPInterface,
    Network,
    PortVlans,
    StaticRoute,
    check_interface,
    check_mac,
    check_mtu,
    parse_any_address,
)
from dnet.reports import INFINIBAND, Link
from dnet.specs import EndpointSpec, read_vlans
from dnet.values import Value, frozen, replace

MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
STRING_MAC = "U:"
NO_ADDRESSES = ("0/0", "0.0.0.0/0", "::/0")
METRIC_MAX = 0xFFFFFFFF


if TYPE_CHECKING:  # making one takes 0.2 ms

    class AttachOptions(TypedDict, total=False):
        """AttachmentSpec's fields as keywords of Engine.attach."""

        bridge: str
        macvlan: str
        direct: str
        dummy: bool
        mode: str
        interface: str
        addresses: Iterable[str | IPInterface]
        gateways: Iterable[str | IPAddress]
        mac: str
        mtu: int
        vlan: str | int | None
        trunk: str | None
        native: str | int | None
        dhcp: bool
        hostname: str
        host_interface: str


@frozen(kw_only=True)
class AttachmentSpec(Value):
    """What is asked of an attachment to a device of the host's: a bridge, or another interface.

    One of `bridge`, `macvlan`, `direct` names the device, or `dummy` is set; VLANs are for a bridge that turns out to
    be Open vSwitch's, of kind `ovs`. `addresses` are written with their prefix
    length and perhaps, behind an @, a gateway, which becomes the default route; 0/0 stands for no address. `mac` may
    be `U:` and any string, which gives the same address each time.
    """

    kind: str
    device: str
    mode: str
    interface: str
    addresses: tuple[IPInterface, ...]
    gateways: tuple[IPAddress, ...]
    mac: str
    mtu: int
    is_dhcp: bool
    hostname: str
    host_interface: str
    vlans: PortVlans | None

    def __init__(
        self,
        *,
        bridge: str = "",
        macvlan: str = "",
        direct: str = "",
        dummy: bool = False,
        mode: str = "",
        interface: str = "",
        addresses: Iterable[str | IPInterface] = (),
        gateways: Iterable[str | IPAddress] = (),
        mac: str = "",
        mtu: int = 0,
        vlan: str | int | None = None,
        trunk: str | None = None,
        native: str | int | None = None,
        dhcp: bool = False,
        hostname: str = "",
        host_interface: str = "",
    ) -> None:
        named = {"bridge": bridge, "macvlan": macvlan, "direct": direct, "dummy": "dummy" if dummy else ""}
        given = [(kind, device) for kind, device in named.items() if device]
        if len(given) != 1:
            hint = "name one: a bridge, a parent of a macvlan, or an interface that moves itself"
            raise InvalidRequest("an attachment needs one device of the host", object=bridge or macvlan, hint=hint)
        kind, device = given[0]
        if device == "lo":
            raise InvalidRequest("lo is the loopback device, which leads to nobody", object=device)
        listed = [addresses] if isinstance(addresses, str) else list(addresses)
        pairs = [parse_address(str(item)) for item in listed]
        ways = [way for _, way in pairs if way] + [parse_any_address(str(item), "gateway") for item in gateways]
        fields = {
            "kind": kind,
            "device": "" if dummy else check_interface(device),
            "mode": _check_mode(kind, mode),
            "interface": check_interface(interface) if interface else "",
            "addresses": tuple(address for address, _ in pairs if address),
            "gateways": tuple(dict.fromkeys(ways)),
            "mac": parse_mac(mac) if mac else "",
            "mtu": check_mtu(mtu),
            "is_dhcp": dhcp,
            "hostname": hostname,
            "host_interface": check_interface(host_interface) if host_interface else "",
            "vlans": read_vlans(vlan=vlan, trunk=trunk, native=native),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check()

    def of_kind(self, kind: str) -> AttachmentSpec:
        """Return the same on a bridge that has turned out to be of another kind: `bridge` or `ovs`."""
        return replace(self, kind=kind)

    def check_vlans(self) -> None:
        """Raise when VLANs are asked for where there are none; to be asked when the kind of a bridge is known."""
        if self.vlans and self.kind != "ovs":
            raise Unsupported(
                f"{self.vlans} on {self.device or 'a dummy'}: a device of the host's own is not divided into VLANs by "
                "dnet, unless it is a bridge of Open vSwitch",
                object=self.device,
                hint="dnet divides the bridges of its networks: `dnet attach --network NET --vlan N`",
            )

    @property
    def is_for_one(self) -> bool:
        """Whether only one container can be attached so."""
        return bool(self.addresses or self.mac or self.host_interface or self.kind == "direct")

    def _check(self) -> None:
        if self.kind != "bridge":
            self.check_vlans()
        for version in (4, 6):
            ways = [way for way in self.gateways if way.version == version]
            if len(ways) > 1:
                raise InvalidRequest(f"two gateways of one family: {ways[0]} and {ways[1]}", object=str(ways[1]))
        own = [address.ip for address in self.addresses]
        for address in own:
            if own.count(address) > 1:
                raise InvalidRequest(f"address {address} is given twice", object=str(address))
            if address in self.gateways:
                raise InvalidRequest(f"{address} is the container's own address and its gateway", object=str(address))
        if self.is_dhcp and any(address.version == 4 for address in self.addresses):  # noqa: PLR2004
            raise InvalidRequest("an address is given, and one is to come by DHCP", object=str(own[0]))
        if self.mode == "passthru" and self.mac:
            hint = "leave the MAC address out, or choose another mode"
            raise InvalidRequest("a macvlan in mode passthru has its parent's MAC address", object=self.mac, hint=hint)


@frozen(kw_only=True)
class ToNetwork(Value):
    """What is asked of an attachment to a network; `gateways` and `lengths` have to be what the network has anyway."""

    spec: EndpointSpec
    takes_default: bool = False
    gateways: tuple[IPAddress, ...] = ()
    lengths: tuple[tuple[int, int], ...] = ()

    @property
    def is_for_one(self) -> bool:
        """Whether only one container can be attached so."""
        return bool(self.spec.ip or self.spec.ip6 or self.spec.mac)

    def check(self, network: Network) -> None:
        """Raise when a network is otherwise than the addresses that are asked for say."""
        for gateway in self.gateways:
            own = network.gateway if gateway.version == 4 else network.gateway6  # noqa: PLR2004
            if gateway != own:
                hint = "leave the gateway out: --default-route is enough"
                raise InvalidRequest(f"the gateway of network {network.name} is {own}", object=str(gateway), hint=hint)
        for version, length in self.lengths:
            subnet = network.subnet if version == 4 else network.subnet6  # noqa: PLR2004
            if subnet and length != subnet.prefixlen:
                hint = "leave the prefix length out"
                raise InvalidRequest(
                    f"the subnet of network {network.name} is {subnet}", object=f"/{length}", hint=hint
                )


def to_network(
    network: str,
    *,
    interface: str = "",
    addresses: Iterable[str] = (),
    gateways: Iterable[str] = (),
    mac: str = "",
    vlan: str | int | None = None,
    trunk: str | None = None,
    native: str | int | None = None,
    aliases: Iterable[str] = (),
    takes_default: bool = False,
) -> ToNetwork:
    """Read what is asked of an attachment to a network: addresses as ADDR[/LENGTH][@GATEWAY]."""
    found: dict[int, IPAddress] = {}
    ways = [parse_any_address(str(item), "gateway") for item in gateways]
    lengths = []
    for text in addresses:
        address, at, way = str(text).partition("@")
        ways += [parse_any_address(way, "gateway")] if at else []
        bare, slash, length = address.partition("/")
        one = parse_any_address(bare, "address")
        if one.version in found:
            raise InvalidRequest(f"two addresses of one family: {found[one.version]} and {one}", object=str(one))
        found[one.version] = one
        if slash and not length.isdecimal():
            raise InvalidRequest(f"invalid address {text!r}", object=str(text), hint="write it as in 10.1.0.5/16")
        lengths += [(one.version, int(length))] if slash else []
    spec = EndpointSpec(
        network=network,
        ip=str(found.get(4, "")),
        ip6=str(found.get(6, "")),
        mac=parse_mac(mac) if mac else "",
        interface=interface,
        aliases=aliases,
        vlans=read_vlans(vlan=vlan, trunk=trunk, native=native),
    )
    return ToNetwork(spec=spec, takes_default=takes_default or bool(ways), gateways=tuple(ways), lengths=tuple(lengths))


def read(
    network: str, options: Mapping[str, Any], *, aliases: Iterable[str] = (), takes_default: bool = False
) -> ToNetwork | AttachmentSpec:
    """Read keywords: of an attachment to a network, or without one to a device."""
    if not network:
        unfit = "--alias" if list(aliases) else "--default-route" if takes_default else ""
        if unfit:
            hint = "leave it out; --gateway, or an address with @GATEWAY, makes a default route through a device"
            raise InvalidRequest(f"{unfit} is for networks of dnet's (--network)", object=unfit, hint=hint)
        return AttachmentSpec(**options)
    fields: dict[str, Any] = {key: value for key, value in options.items() if value}
    unknown = sorted(fields.keys() - {"interface", "addresses", "gateways", "mac", "vlan", "trunk", "native"})
    if unknown:
        hint = "these are for devices of the host's"
        raise InvalidRequest(f"an attachment to a network has no {', '.join(unknown)}", object=network, hint=hint)
    return to_network(network, aliases=aliases, takes_default=takes_default, **fields)


def _check_mode(kind: str, mode: str) -> str:
    if kind != "macvlan" and mode:
        raise InvalidRequest("--mode is for a macvlan", object=mode, hint="add --macvlan DEVICE")
    mode = mode or ("bridge" if kind == "macvlan" else "")
    if mode and mode not in MACVLAN_MODES:
        hint = f"choose {', '.join(MACVLAN_MODES[:-1])} or {MACVLAN_MODES[-1]}"
        raise InvalidRequest(f"there is no macvlan mode {mode!r}", object=mode, hint=hint)
    return mode


def parse_address(text: str) -> tuple[IPInterface | None, IPAddress | None]:
    """Read CIDR[@GATEWAY]; None for pipework's 0/0, and where no gateway is given."""
    address, at, gateway = text.partition("@")
    way = parse_any_address(gateway, "gateway") if at else None
    if way and (way.is_unspecified or way.is_multicast or way.is_loopback):
        raise InvalidRequest(f"no gateway has the address {way}", object=text)
    if address in NO_ADDRESSES:
        return None, way
    try:
        if "/" not in address or "%" in address:
            raise ValueError(address)
        found = ip_interface(address)
    except ValueError as error:
        hint = "write the address with its prefix length, as in 10.1.0.5/16, and a gateway behind an @"
        raise InvalidRequest(f"invalid address {text!r}", object=text, hint=hint) from error
    if found.ip.is_unspecified or found.ip.is_multicast or found.ip.is_loopback:
        raise InvalidRequest(f"an interface cannot have the address {found}", object=text, hint="0/0 stands for none")
    return found, way


def parse_mac(text: str) -> str:
    """Read a MAC address, or U: and a string to make one from, as pipework does."""
    if not text.startswith(STRING_MAC):
        return check_mac(text)
    if not text.removeprefix(STRING_MAC).strip():
        raise InvalidRequest(f"invalid MAC address {text!r}", object=text, hint="write U: and any string")
    from dnet.pipework import mac_of

    return mac_of(text.removeprefix(STRING_MAC))


def choose_mac(spec: AttachmentSpec, identity: str, link: Link | None) -> str:
    """Return an attachment's MAC address: the one asked for, the device's own, or one that stays the same.

    It follows the IPv4 address, as those of endpoints do, or else the attachment's own id.
    """
    if spec.mac:
        return spec.mac
    if link and (spec.kind == "direct" or spec.mode == "passthru"):
        return link.mac
    fours = [address.ip for address in spec.addresses if isinstance(address, IPv4Interface)]
    if fours:
        return ipam.mac_of(IPv4Address(fours[0]))
    return f"02:{bytes.fromhex(identity[:10]).hex(':')}"


# The host's device


def check_device(spec: AttachmentSpec, link: Link, *, is_wireless: bool, master: str) -> None:
    """Raise unless an attachment can be made to a device; `master` is the bridge or bond that it is a port of."""
    name = link.name
    if spec.kind == "ovs":
        return
    if spec.kind == "bridge":
        if link.kind != "bridge":
            hint = f"--macvlan {name} makes a macvlan on it, --direct {name} moves it"
            raise InvalidRequest(f"{name} is not a bridge", object=name, hint=hint)
        return
    if is_wireless:
        raise Unsupported(
            f"{name} is a wireless interface, whose access point takes frames of one MAC address only",
            object=name,
            hint="attach to a bridge, and let the host forward",
        )
    if link.type == INFINIBAND:
        raise Unsupported(f"{name} is an InfiniBand interface", object=name, hint="dnet attaches to Ethernet")
    if master:
        hint = f"attach to that: --bridge {master}"
        raise Conflict(f"{name} is a port of {master}", object=name, hint=hint)
    if spec.kind == "direct" and link.kind == "bridge":
        hint = f"--bridge {name} attaches to it"
        raise InvalidRequest(f"{name} is a bridge, and a bridge cannot be moved", object=name, hint=hint)
    if spec.kind == "macvlan" and spec.mtu > link.mtu:
        raise InvalidRequest(f"MTU {spec.mtu} is more than that of {name}, {link.mtu}", object=str(spec.mtu))


def missing_device(spec: AttachmentSpec, holder: str) -> NotFound:
    """Return the error for a device that the host does not have; `holder` is the container it was moved into."""
    if holder:
        hint = f"`dnet detach {holder}` gives it back"
        return NotFound(f"{spec.device} has been moved into {holder}", object=spec.device, hint=hint)
    hint = "`ip link` shows what there is"
    if spec.kind == "bridge":
        hint = "make it, or choose a name that begins with br: such a bridge is made"
    elif spec.kind == "ovs":
        hint = f"`ovs-vsctl add-br {spec.device}` makes a bridge of Open vSwitch"
    return NotFound(f"this host has no interface {spec.device}", object=spec.device, hint=hint)


# What is in the container already


def phrase(item: Attachment) -> str:
    """Return an attachment in words: what it is, and its addresses."""
    words = {
        "bridge": "on bridge {}",
        "ovs": "on Open vSwitch bridge {}",
        "macvlan": "macvlan on {}",
        "direct": "{} itself",
        "dummy": "dummy",
    }
    text = words[item.kind].format(item.device) + (f", {item.vlans}" if item.vlans else "")
    leased = [f"{item.lease['address']} by DHCP"] if item.lease else []
    return f"{text}, {', '.join([*leased, *map(str, item.addresses)]) or 'without an address'}"


def is_made(spec: AttachmentSpec, item: Attachment) -> bool:
    """Whether an attachment is what is asked for; what is left open is as it is."""
    asked = (spec.kind, spec.device, spec.mode, spec.is_dhcp)
    there = (item.kind, item.device, item.macvlan_mode, item.is_dhcp)
    return (
        asked == there
        and set(spec.addresses) == set(item.addresses)
        and set(spec.gateways) == set(item.gateways)
        and spec.interface in {"", item.interface}
        and spec.mac in {"", item.mac}
        and spec.mtu in {0, item.mtu}
        and spec.host_interface in {"", item.host_interface}
        and spec.vlans in {None, item.vlans}
    )


def holder(container: Container, interface: str) -> str:
    """Return what has the name of an interface in a container, in words; empty when nothing of dnet's does."""
    for end in container.endpoints:
        if end.interface == interface:
            return f"on network {end.network}, {end.address}"
    return next((phrase(item) for item in container.attachments if item.interface == interface), "")


def free_interface(container: Container, present: Iterable[str], first: int = 0) -> str:
    """Return the first name eth0, eth1, ... that neither dnet nor anybody has in the container."""
    used = {*present, *(end.interface for end in container.endpoints)}
    used |= {item.interface for item in container.attachments}
    number = first
    while f"eth{number}" in used:
        number += 1
    return f"eth{number}"


def label(container: Container) -> str:
    """Return what an error calls a container: a foreign one's name says already what it is."""
    return container.name if container.target else f"container {container.name}"


# Routes


def parse_route(words: Sequence[str], *, is_way_open: bool = False) -> StaticRoute:
    """Read DEST [via GATEWAY] [dev INTERFACE] [metric N], in the words of ip-route(8).

    With `is_way_open` both the gateway and the interface may be missing.
    """
    if not words:
        raise InvalidRequest("the destination of the route is missing", hint="write DEST via GATEWAY, or DEST dev IF")
    fields: dict[str, str] = {}
    rest = list(words[1:])
    while rest:
        key = rest.pop(0)
        if key not in {"via", "dev", "metric"} or key in fields or not rest:
            hint = "write DEST [via GATEWAY] [dev INTERFACE] [metric N]"
            raise InvalidRequest(f"cannot read {key!r} in a route", object=key, hint=hint)
        fields[key] = rest.pop(0)
    gateway = parse_any_address(fields["via"], "gateway") if "via" in fields else None
    interface = check_interface(fields["dev"]) if "dev" in fields else ""
    version = gateway.version if gateway else 4
    text = {4: "0.0.0.0/0", 6: "::/0"}[version] if words[0] == "default" else words[0]
    try:
        destination = ip_network(text)
    except ValueError as error:
        hint = "write a network with its host bits zero, as in 10.2.0.0/16, an address, or default"
        raise InvalidRequest(f"invalid destination {text!r}", object=text, hint=hint) from error
    if gateway and gateway.version != destination.version:
        raise InvalidRequest(f"{destination} and its gateway {gateway} are of different families", object=str(gateway))
    if not gateway and not interface and not is_way_open:
        raise InvalidRequest(
            f"the way to {destination} is missing", object=text, hint="add `via GATEWAY`, `dev INTERFACE`, or both"
        )
    if gateway and gateway.is_link_local and not interface:
        raise InvalidRequest(f"gateway {gateway} is on every link", object=str(gateway), hint="add `dev INTERFACE`")
    return StaticRoute(destination, gateway, interface, check_metric(fields.get("metric", "0")))


def check_metric(metric: int | str) -> int:
    """Return the metric of a route, given as a number or as text."""
    text = str(metric)
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(METRIC_MAX)) or int(text) > METRIC_MAX:
        raise InvalidRequest(f"invalid metric {text!r}", object=text, hint=f"write a number up to {METRIC_MAX}")
    return int(text)
