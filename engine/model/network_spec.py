"""Specification of a network, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import chain
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from dnet.errors import InvalidRequest
from dnet.model.address import IPAddress
from dnet.model.parse import (
    check_interface,
    check_mtu,
    check_name,
    copied,
    parse_address,
    parse_subnet,
    read_boolean,
    read_number,
)
from dnet.model.values import Value, fill, frozen, optional, reads
from dnet.model.vlan import parse_vid

RESERVED_NETWORK_NAMES = frozenset({"host", "none", "container", "default"})
VLAN_BACKENDS = ("bpf", "bridge", "ovs")

if TYPE_CHECKING:  # making one takes 0.2 ms

    class NetworkOptions(TypedDict, total=False):
        """Keywords of NetworkSpec, and of Engine.create_network, besides the name."""

        driver: str
        subnet: str | IPv4Network | None
        gateway: str | IPv4Address | None
        ip_range: str | IPv4Network | None
        ipv6: bool
        subnet6: str | IPv6Network | None
        gateway6: str | IPv6Address | None
        aux_addresses: Mapping[str, str | IPAddress] | None
        internal: bool
        icc: bool
        masquerade: bool
        host_binding: str | IPAddress | None
        vlan: str | int | None
        mtu: int
        bridge: str
        labels: Mapping[str, str] | None
        options: Mapping[str, str] | None


def _read_name(name: str) -> str:
    if name in RESERVED_NETWORK_NAMES:
        raise InvalidRequest(f"network name {name} is a mode of containers", object=name, hint="choose another name")
    return check_name(name, "network")


def _read_aux_addresses(addresses: Mapping[str, str | IPAddress] | None) -> dict[str, IPAddress]:
    return {key: parse_address(str(value), f"aux-address {key}") for key, value in (addresses or {}).items()}


@frozen(kw_only=True)
class NetworkSpec(Value):
    """What is asked of a network. Text is read and checked here; InvalidRequest says what is wrong.

    name: at most 128 letters, digits, `_`, `.` and `-`; not a mode of containers (`host`, `none`, `container`)
    driver: `bridge`, or `ovs` for a bridge of Open vSwitch
    subnet, subnet6: ADDRESS/PREFIX-LENGTH, host bits zero; unset, the first that is free in Docker's default pools
    gateway, gateway6: address of the host in the subnet; unset, the first one of it
    ip_range: part of the subnet from which addresses are chosen
    ipv6: whether the network has IPv6; a `subnet6` implies it
    aux_addresses: addresses that no container gets, by names of the caller's
    internal: whether the network has no way out of the host
    icc: whether containers of the network reach each other
    masquerade: whether packets that leave the host get an address of the host's
    host_binding: address of the host on which ports are published without one
    vlan: VLAN of the gateway (1 to 4094); ports of the network then keep VLANs apart
    mtu: bytes, 68 to 65535; 0 is the kernel's default
    bridge: name of the bridge, perhaps of one that exists already; empty, it is chosen
    labels: any text by any key
    options: driver options by their Docker names, which set fields: `snat`, `snat6` (source addresses in place of
        masquerading's choice), `vlan_backend` (`bpf`, `bridge` or `ovs`, what keeps VLANs apart), and others above
    """

    name: str = reads(_read_name)
    driver: str = "bridge"
    subnet: IPv4Network | None = optional(lambda text: parse_subnet(text, "subnet", IPv4Network), None)
    gateway: IPv4Address | None = optional(lambda text: parse_address(text, "gateway", IPv4Address), None)
    ip_range: IPv4Network | None = optional(lambda text: parse_subnet(text, "ip-range", IPv4Network), None)
    ipv6: bool = False
    subnet6: IPv6Network | None = optional(lambda text: parse_subnet(text, "subnet", IPv6Network), None)
    gateway6: IPv6Address | None = optional(lambda text: parse_address(text, "gateway", IPv6Address), None)
    aux_addresses: Mapping[str, IPAddress] = reads(_read_aux_addresses, None)
    internal: bool = False
    icc: bool = True
    masquerade: bool = True
    host_binding: IPAddress | None = optional(lambda text: parse_address(text, "host binding"), None)
    snat: IPv4Address | None = field(default=None, init=False)
    snat6: IPv6Address | None = field(default=None, init=False)
    vlan: int = reads(lambda vid: parse_vid(vid, "VLAN") if vid is not None else 0, None)
    vlan_backend: str = field(default="", init=False)
    mtu: int = 0
    bridge: str = ""
    labels: Mapping[str, str] = reads(copied, None)
    options: Mapping[str, str] = reads(copied, None)

    def __init__(self, *, name: str, **options: Unpack[NetworkOptions]) -> None:
        fill(self, {"name": name, **options})
        own = self.__dict__
        own.update(read_options(self.options, self.driver))
        own["ipv6"] = self.ipv6 or bool(self.subnet6)
        check_mtu(self.mtu)
        if self.bridge:
            check_interface(self.bridge)
        else:
            self.check_subnets()

    def check_subnets(self) -> None:
        """Raise when addresses are asked for in a subnet that is not given, and that no bridge of the user's has."""
        if not self.subnet and (self.gateway or self.ip_range or self.aux_addresses):
            hint = "add --subnet"
            raise InvalidRequest("gateway, ip-range and aux-address need a subnet", object=self.name, hint=hint)
        if self.gateway6 and not self.subnet6:
            hint = "add one with --subnet"
            raise InvalidRequest("an IPv6 gateway needs an IPv6 subnet", object=self.name, hint=hint)


def read_options(options: Mapping[str, str], driver: str) -> dict[str, Any]:
    """Read driver options by their Docker names into fields of NetworkSpec; those for one driver stay options."""
    fields: dict[str, Any] = {}
    for key, value in options.items():
        owner = next((name for name, keys in DRIVER_OPTIONS.items() if key in keys), "")
        if owner:
            if driver != owner:
                sentence = f"option {key} is for networks of driver {owner}"
                raise InvalidRequest(sentence, object=key, hint=f"add -d {owner}")
            if key == "datapath_type" and value not in DATAPATH_TYPES:
                hint = f"write {' or '.join(DATAPATH_TYPES)}"
                raise InvalidRequest(f"there is no datapath_type {value!r}", object=value, hint=hint)
            continue
        if key not in _OPTIONS:
            hint = f"known: {', '.join(sorted(chain(_OPTIONS, *DRIVER_OPTIONS.values())))}"
            raise InvalidRequest(f"there is no network option {key!r}", object=key, hint=hint)
        name, read = _OPTIONS[key]
        fields[name] = read(value, f"option {key}")
    return fields


def _read_backend(text: str, what: str) -> str:
    if text not in VLAN_BACKENDS:
        raise InvalidRequest(f"{what} is {text!r}", object=text, hint=f"write one of {', '.join(VLAN_BACKENDS)}")
    return text


# Options for networks of one driver. Those of Open vSwitch: the datapath, the database, and the keys that ssl needs.
DRIVER_OPTIONS = {
    "ovs": ("datapath_type", "ovsdb", "ovsdb_private_key", "ovsdb_certificate", "ovsdb_ca_certificate"),
}
DATAPATH_TYPES = ("netdev", "system")
_OPTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "com.docker.network.driver.mtu": ("mtu", read_number),
    "com.docker.network.bridge.name": ("bridge", lambda text, _: text),
    "com.docker.network.bridge.enable_ip_masquerade": ("masquerade", read_boolean),
    "com.docker.network.bridge.enable_icc": ("icc", read_boolean),
    "com.docker.network.bridge.host_binding_ipv4": ("host_binding", parse_address),
    "com.docker.network.host_ipv4": ("snat", lambda text, what: parse_address(text, what, IPv4Address)),
    "com.docker.network.host_ipv6": ("snat6", lambda text, what: parse_address(text, what, IPv6Address)),
    "vlan_backend": ("vlan_backend", _read_backend),
}
