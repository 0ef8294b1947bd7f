"""Specification of a network, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from dnet.errors import InvalidRequest
from dnet.model.address import IPAddress
from dnet.model.parse import (
    check_interface,
    check_mtu,
    check_name,
    fill,
    parse_address,
    parse_address6,
    parse_any_address,
    parse_subnet,
    parse_subnet6,
    read_boolean,
    read_number,
)
from dnet.model.values import Value, frozen
from dnet.model.vlan import parse_vid

RESERVED_NETWORK_NAMES = frozenset({"host", "none", "container", "default"})
# Docker's option of an endpoint for the name of its interface.
VLAN_BACKENDS = ("bpf", "bridge", "ovs")


@frozen(kw_only=True)
class NetworkSpec(Value):
    """What is asked of a network; `mtu` 0 is the kernel's default. Text is read and checked here.

    `bridge` is the name of its bridge, perhaps of one that exists already. With `vlan`, the gateway is in that VLAN and
    the network's ports keep VLANs apart; the option `vlan_backend` says by what.
    """

    name: str
    driver: str = "bridge"
    subnet: IPv4Network | None = None
    gateway: IPv4Address | None = None
    ip_range: IPv4Network | None = None
    ipv6: bool = False
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    aux_addresses: Mapping[str, IPAddress] = field(default_factory=dict)
    internal: bool = False
    icc: bool = True
    masquerade: bool = True
    host_binding: IPAddress | None = None
    snat: IPv4Address | None = None
    snat6: IPv6Address | None = None
    vlan: int = 0
    vlan_backend: str = ""
    mtu: int = 0
    bridge: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def __init__(
        self,
        *,
        name: str,
        driver: str = "bridge",
        subnet: str | IPv4Network | None = None,
        gateway: str | IPv4Address | None = None,
        ip_range: str | IPv4Network | None = None,
        ipv6: bool = False,
        subnet6: str | IPv6Network | None = None,
        gateway6: str | IPv6Address | None = None,
        aux_addresses: Mapping[str, str | IPAddress] | None = None,
        internal: bool = False,
        icc: bool = True,
        masquerade: bool = True,
        host_binding: str | IPAddress | None = None,
        vlan: str | int | None = None,
        mtu: int = 0,
        bridge: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if name in RESERVED_NETWORK_NAMES:
            raise InvalidRequest(
                f"network name {name} is a mode of containers", object=name, hint="choose another name"
            )
        fields: dict[str, Any] = {
            "name": check_name(name, "network"),
            "driver": driver,
            "subnet": parse_subnet(str(subnet)) if subnet else None,
            "gateway": parse_address(str(gateway), "gateway") if gateway else None,
            "ip_range": parse_subnet(str(ip_range), "ip-range") if ip_range else None,
            "ipv6": ipv6 or bool(subnet6),
            "subnet6": parse_subnet6(str(subnet6)) if subnet6 else None,
            "gateway6": parse_address6(str(gateway6), "gateway") if gateway6 else None,
            "aux_addresses": {
                key: parse_any_address(str(value), f"aux-address {key}") for key, value in (aux_addresses or {}).items()
            },
            "internal": internal,
            "icc": icc,
            "masquerade": masquerade,
            "host_binding": parse_any_address(str(host_binding), "host binding") if host_binding else None,
            "snat": None,
            "snat6": None,
            "vlan": parse_vid(vlan, "VLAN") if vlan is not None else 0,
            "vlan_backend": "",
            "mtu": mtu,
            "bridge": bridge,
            "labels": dict(labels or {}),
            "options": dict(options or {}),
        }
        fields |= read_options(options or {}, driver)
        check_mtu(fields["mtu"])
        if fields["bridge"]:
            check_interface(fields["bridge"])
        fill(self, **fields)
        if not self.bridge:
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
    """Read driver options by their Docker names into fields of NetworkSpec; those of Open vSwitch stay options."""
    fields: dict[str, Any] = {}
    for key, value in options.items():
        if key in SWITCH_OPTIONS:
            if driver != "ovs":
                raise InvalidRequest(f"option {key} is for networks of driver ovs", object=key, hint="add -d ovs")
            if key == "datapath_type" and value not in DATAPATH_TYPES:
                hint = f"write {' or '.join(DATAPATH_TYPES)}"
                raise InvalidRequest(f"there is no datapath_type {value!r}", object=value, hint=hint)
            continue
        if key not in _OPTIONS:
            hint = f"known: {', '.join(sorted((*_OPTIONS, *SWITCH_OPTIONS)))}"
            raise InvalidRequest(f"there is no network option {key!r}", object=key, hint=hint)
        name, read = _OPTIONS[key]
        fields[name] = read(value, f"option {key}")
    return fields


def _read_backend(text: str, what: str) -> str:
    if text not in VLAN_BACKENDS:
        raise InvalidRequest(f"{what} is {text!r}", object=text, hint=f"write one of {', '.join(VLAN_BACKENDS)}")
    return text


DRIVERS = ("bridge", "ovs")
# Options of networks on Open vSwitch: its datapath, and where its database is, with the keys that ssl needs.
SWITCH_OPTIONS = ("datapath_type", "ovsdb", "ovsdb_private_key", "ovsdb_certificate", "ovsdb_ca_certificate")
DATAPATH_TYPES = ("netdev", "system")
_OPTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "com.docker.network.driver.mtu": ("mtu", read_number),
    "com.docker.network.bridge.name": ("bridge", lambda text, _: text),
    "com.docker.network.bridge.enable_ip_masquerade": ("masquerade", read_boolean),
    "com.docker.network.bridge.enable_icc": ("icc", read_boolean),
    "com.docker.network.bridge.host_binding_ipv4": ("host_binding", parse_any_address),
    "com.docker.network.host_ipv4": ("snat", parse_address),
    "com.docker.network.host_ipv6": ("snat6", parse_address6),
    "vlan_backend": ("vlan_backend", _read_backend),
}
