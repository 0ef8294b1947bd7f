"""Specifications of attachments and static routes, read and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from dnet.errors import InvalidRequest, Unsupported
from dnet.model.address import ANYWHERE, IPAddress, IPInterface
from dnet.model.attachment import StaticRoute
from dnet.model.container_spec import EndpointSpec
from dnet.model.network import Network
from dnet.model.parse import check_interface, check_mac, check_mtu, listed, parse_address, take
from dnet.model.values import Value, fill, frozen, optional, reads, replace
from dnet.model.vlan import PortVlans, read_vlans

HASHED_BYTES = 5
SWITCH_KIND = "ovs"  # of attachments to a bridge of Open vSwitch, the only ones with VLANs
MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
STRING_MAC = "U:"
NO_ADDRESSES = ("0/0", "0.0.0.0/0", "::/0")
METRIC_MAX = 0xFFFFFFFF

if TYPE_CHECKING:  # making one takes 0.2 ms

    class AttachOptions(TypedDict, total=False):
        """Keywords of AttachmentSpec, and of Engine.attach to a device."""

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


def _read_device(bridge: str = "", macvlan: str = "", direct: str = "", *, dummy: bool = False) -> tuple[str, str]:
    """Return the kind of an attachment, and its device; a dummy has none."""
    named = {"bridge": bridge, "macvlan": macvlan, "direct": direct, "dummy": "dummy" if dummy else ""}
    given = [(kind, device) for kind, device in named.items() if device]
    if len(given) != 1:
        hint = "name one: a bridge, a parent of a macvlan, or an interface that moves itself"
        raise InvalidRequest("an attachment needs one device of the host", object=bridge or macvlan, hint=hint)
    kind, device = given[0]
    if device == "lo":
        raise InvalidRequest("lo is the loopback device, which leads to nobody", object=device)
    return kind, "" if dummy else device


def parse_address_and_gateway(text: str) -> tuple[IPInterface | None, IPAddress | None]:
    """Read ADDRESS/LENGTH[@GATEWAY]. The address is None for pipework's 0/0, the gateway None if not given."""
    address, at, after = text.partition("@")
    gateway = parse_address(after, "gateway") if at else None
    if gateway and (gateway.is_unspecified or gateway.is_multicast or gateway.is_loopback):
        raise InvalidRequest(f"no gateway has the address {gateway}", object=text)
    if address in NO_ADDRESSES:
        return None, gateway
    try:
        if "/" not in address or "%" in address:
            raise ValueError(address)
        interface = ip_interface(address)
    except ValueError as error:
        hint = "write the address with its prefix length, as in 10.1.0.5/16, and a gateway behind an @"
        raise InvalidRequest(f"invalid address {text!r}", object=text, hint=hint) from error
    if interface.ip.is_unspecified or interface.ip.is_multicast or interface.ip.is_loopback:
        raise InvalidRequest(
            f"an interface cannot have the address {interface}", object=text, hint="0/0 stands for none"
        )
    return interface, gateway


def hashed_mac(text: str) -> str:
    """Return pipework's MAC address for a string: 02 and the first 40 bits of the MD5 sum of a line.

    The line is what `echo $string` writes: words with one space between them, and a line feed at the end.
    """
    line = " ".join(text.split()) + "\n"
    digest = hashlib.md5(line.encode(errors="surrogateescape"), usedforsecurity=False).digest()
    return ":".join(f"{byte:02x}" for byte in (2, *digest[:HASHED_BYTES]))


def parse_mac(text: str) -> str:
    """Read a MAC address, or `U:` and a string that is hashed into one, as in pipework."""
    if not text.startswith(STRING_MAC):
        return check_mac(text)
    if not text.removeprefix(STRING_MAC).strip():
        raise InvalidRequest(f"invalid MAC address {text!r}", object=text, hint="write U: and any string")
    return hashed_mac(text.removeprefix(STRING_MAC))


def _check_mode(kind: str, mode: str) -> str:
    if kind != "macvlan" and mode:
        raise InvalidRequest("--mode is for a macvlan", object=mode, hint="add --macvlan DEVICE")
    mode = mode or ("bridge" if kind == "macvlan" else "")
    if mode and mode not in MACVLAN_MODES:
        hint = f"choose {', '.join(MACVLAN_MODES[:-1])} or {MACVLAN_MODES[-1]}"
        raise InvalidRequest(f"there is no macvlan mode {mode!r}", object=mode, hint=hint)
    return mode


@frozen(kw_only=True)
class AttachmentSpec(Value):
    """What is asked of an attachment to a device of the host. Text is read and checked here.

    Keywords, of which InvalidRequest says what is wrong, and Unsupported where a device has no VLANs:

    bridge, macvlan, direct: the device, by exactly one of them: a bridge, the parent of a macvlan, or an interface that
        moves into the container; or `dummy`, for an interface that leads nowhere
    mode: of a macvlan: `bridge`, `private`, `vepa` or `passthru`
    interface: name inside the container, at most 15 characters; empty, the first free one of eth0, eth1, ...
    addresses: ADDRESS/PREFIX-LENGTH[@GATEWAY], where the gateway becomes the default route; 0/0 is no address
    gateways: addresses of gateways, one of each version of IP at most
    mac: unicast MAC address, or `U:` and any string, which gives the same address each time
    mtu: bytes, 68 to 65535; 0 is that of the device
    vlan, trunk, native: as of ContainerSpec, for a bridge of Open vSwitch
    dhcp: whether an IPv4 address comes by DHCP; `hostname` is sent to the server, empty for the container's name
    host_interface: name of the veth on the host; empty, it is chosen

    `kind` is `bridge`, `macvlan`, `direct`, `dummy`, or `ovs` once a bridge is known to be one of Open vSwitch.
    """

    kind: str
    device: str = optional(check_interface, "")
    mode: str
    interface: str = optional(check_interface, "")
    addresses: tuple[IPInterface, ...]
    gateways: tuple[IPAddress, ...]
    mac: str = optional(parse_mac, "")
    mtu: int = reads(check_mtu, 0)
    is_dhcp: bool
    hostname: str = ""
    host_interface: str = optional(check_interface, "")
    vlans: PortVlans | None

    def __init__(self, **options: Unpack[AttachOptions]) -> None:
        given: dict[str, Any] = {**options}
        kind, device = _read_device(**take(given, "bridge", "macvlan", "direct", "dummy"))
        pairs = [parse_address_and_gateway(str(item)) for item in listed(given.pop("addresses", ()))]
        gateways = [gateway for _, gateway in pairs if gateway]
        gateways += [parse_address(str(item), "gateway") for item in given.pop("gateways", ())]
        read = {
            "kind": kind,
            "device": device,
            "mode": _check_mode(kind, given.pop("mode", "")),
            "addresses": tuple(address for address, _ in pairs if address),
            "gateways": tuple(dict.fromkeys(gateways)),
            "is_dhcp": given.pop("dhcp", False),
            "vlans": read_vlans(**take(given, "vlan", "trunk", "native")),
        }
        fill(self, {**read, **given})
        self._check()

    def on_switch(self) -> AttachmentSpec:
        """Return the same on a bridge that has turned out to be one of Open vSwitch."""
        return replace(self, kind=SWITCH_KIND)

    def check_vlans(self) -> None:
        """Raise Unsupported when VLANs are asked for on a device without them; call it once the kind is known."""
        if self.vlans and self.kind != SWITCH_KIND:
            raise Unsupported(
                f"{self.vlans} on {self.device or 'a dummy'}: a device of the host's own is not divided into VLANs by "
                "dnet, unless it is a bridge of Open vSwitch",
                object=self.device,
                hint="dnet divides the bridges of its networks: `dnet attach --network NET --vlan N`",
            )

    @property
    def is_for_one(self) -> bool:
        """Whether only one container can have such an attachment."""
        return bool(self.addresses or self.mac or self.host_interface or self.kind == "direct")

    def _check(self) -> None:
        if self.kind != "bridge":
            self.check_vlans()
        for version in (4, 6):
            same = [gateway for gateway in self.gateways if gateway.version == version]
            if len(same) > 1:
                raise InvalidRequest(f"two gateways of one family: {same[0]} and {same[1]}", object=str(same[1]))
        own = [address.ip for address in self.addresses]
        for address in own:
            if own.count(address) > 1:
                raise InvalidRequest(f"address {address} is given twice", object=str(address))
            if address in self.gateways:
                raise InvalidRequest(f"{address} is the container's own address and its gateway", object=str(address))
        if self.is_dhcp and any(address.version == 4 for address in self.addresses):
            raise InvalidRequest("an address is given, and one is to come by DHCP", object=str(own[0]))
        if self.mode == "passthru" and self.mac:
            hint = "leave the MAC address out, or choose another mode"
            raise InvalidRequest("a macvlan in mode passthru has its parent's MAC address", object=self.mac, hint=hint)


@frozen(kw_only=True)
class NetworkAttachmentSpec(Value):
    """What is asked of an attachment to a network.

    spec: the endpoint
    takes_default: whether the default route goes through it
    gateways: have to be those of the network
    lengths: (version of IP, prefix length) pairs; have to be those of the network's subnets
    """

    spec: EndpointSpec
    takes_default: bool = False
    gateways: tuple[IPAddress, ...] = ()
    lengths: tuple[tuple[int, int], ...] = ()

    @property
    def is_for_one(self) -> bool:
        """Whether only one container can have such an attachment."""
        return bool(self.spec.ip or self.spec.ip6 or self.spec.mac)

    def check(self, network: Network) -> None:
        """Raise InvalidRequest when gateways or prefix lengths differ from those of the network."""
        for gateway in self.gateways:
            own = network.gateway if gateway.version == 4 else network.gateway6
            if gateway != own:
                hint = "leave the gateway out: --default-route is enough"
                raise InvalidRequest(f"the gateway of network {network.name} is {own}", object=str(gateway), hint=hint)
        for version, length in self.lengths:
            subnet = network.subnet if version == 4 else network.subnet6
            if subnet and length != subnet.prefixlen:
                hint = "leave the prefix length out"
                raise InvalidRequest(
                    f"the subnet of network {network.name} is {subnet}", object=f"/{length}", hint=hint
                )


def read(
    network: str, options: Mapping[str, Any], *, aliases: Iterable[str] = (), takes_default: bool = False
) -> NetworkAttachmentSpec | AttachmentSpec:
    """Read the keywords of AttachmentSpec for an attachment to a network, or without one to a device.

    Of an attachment to a network, empty keywords count as unset, and addresses need no prefix length.
    """
    if not network:
        unfit = "--alias" if list(aliases) else "--default-route" if takes_default else ""
        if unfit:
            hint = "leave it out; --gateway, or an address with @GATEWAY, makes a default route through a device"
            raise InvalidRequest(f"{unfit} is for networks of dnet's (--network)", object=unfit, hint=hint)
        return AttachmentSpec(**options)
    given: dict[str, Any] = {key: value for key, value in options.items() if value}
    vlans, named = take(given, "vlan", "trunk", "native"), take(given, "interface", "mac")
    routed = take(given, "addresses", "gateways")
    if given:
        hint = "these are for devices of the host's"
        raise InvalidRequest(f"an attachment to a network has no {', '.join(sorted(given))}", object=network, hint=hint)
    addresses, gateways, lengths = _read_addresses(**routed)
    spec = EndpointSpec(
        network=network,
        ip=str(addresses.get(4, "")),
        ip6=str(addresses.get(6, "")),
        mac=parse_mac(named["mac"]) if "mac" in named else "",
        interface=named.get("interface", ""),
        aliases=aliases,
        vlans=read_vlans(**vlans),
    )
    return NetworkAttachmentSpec(
        spec=spec, takes_default=takes_default or bool(gateways), gateways=gateways, lengths=lengths
    )


def _read_addresses(
    addresses: Iterable[str] = (), gateways: Iterable[str] = ()
) -> tuple[dict[int, IPAddress], tuple[IPAddress, ...], tuple[tuple[int, int], ...]]:
    """Read ADDRESS[/LENGTH][@GATEWAY]; return addresses by version of IP, all gateways, and (version, length)."""
    by_version: dict[int, IPAddress] = {}
    all_gateways = [parse_address(str(item), "gateway") for item in gateways]
    lengths = []
    for text in addresses:
        bare, at, gateway = str(text).partition("@")
        all_gateways += [parse_address(gateway, "gateway")] if at else []
        bare, slash, length = bare.partition("/")
        address = parse_address(bare, "address")
        if other := by_version.get(address.version):
            raise InvalidRequest(f"two addresses of one family: {other} and {address}", object=str(address))
        by_version[address.version] = address
        if slash and not length.isdecimal():
            raise InvalidRequest(f"invalid address {text!r}", object=str(text), hint="write it as in 10.1.0.5/16")
        lengths += [(address.version, int(length))] if slash else []
    return by_version, tuple(all_gateways), tuple(lengths)


# Routes


def parse_route(words: Sequence[str], *, is_partial_ok: bool = False) -> StaticRoute:
    """Read DEST [via GATEWAY] [dev INTERFACE] [metric N], in the words of ip-route(8).

    With `is_partial_ok`, both the gateway and the interface may be missing, as in a request to delete the route.
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
    gateway = parse_address(fields["via"], "gateway") if "via" in fields else None
    interface = check_interface(fields["dev"]) if "dev" in fields else ""
    text = str(ANYWHERE[gateway.version if gateway else 4]) if words[0] == "default" else words[0]
    try:
        destination = ip_network(text)
    except ValueError as error:
        hint = "write a network with its host bits zero, as in 10.2.0.0/16, an address, or default"
        raise InvalidRequest(f"invalid destination {text!r}", object=text, hint=hint) from error
    if gateway and gateway.version != destination.version:
        raise InvalidRequest(f"{destination} and its gateway {gateway} are of different families", object=str(gateway))
    if not gateway and not interface and not is_partial_ok:
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
