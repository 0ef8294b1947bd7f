"""The values a caller hands in and gets back: specifications, networks, containers, endpoints. Rank 1, pure.

All are frozen. Addresses are `ipaddress` values; MACs are lower-case text; times are seconds since the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from dnet.errors import InvalidRequest

NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
NAME_CHARACTERS_MAX = 128
MAC_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
DEVICE_NAME_BYTES_MAX = 15
MTU_MIN, MTU_MAX = 68, 65535  # RFC 791's smallest, and the largest an IPv4 packet can fill

DEFAULT_NETWORK = "bridge"
DEFAULT_DEVICE = "dnet0"
MODE_NONE = "none"
RESERVED_NETWORK_NAMES = frozenset({"host", "none", "container", "default"})


def check_name(name: str, what: str) -> str:
    """Return `name` if containers and networks may be called so; `what` names the thing in the error."""
    if not NAME_PATTERN.match(name) or len(name) > NAME_CHARACTERS_MAX:
        raise InvalidRequest(
            f"invalid {what} name {name!r}",
            object=name,
            hint=f"use letters, digits, '_', '.', '-', first a letter or digit, at most {NAME_CHARACTERS_MAX} in all",
        )
    return name


def check_mac(text: str) -> str:
    """Return a unicast MAC address in lower case, colons between the bytes."""
    mac = text.lower().replace("-", ":")
    if not MAC_PATTERN.match(mac):
        raise InvalidRequest(
            f"invalid MAC address {text!r}", object=text, hint="write six bytes, as in 02:42:ac:12:00:05"
        )
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidRequest(
            f"MAC address {text} cannot belong to an interface (multicast or all zero)",
            object=text,
            hint="choose one whose first byte is even, such as 02:...",
        )
    return mac


def check_mtu(mtu: int) -> int:
    """Return `mtu` (bytes), 0 meaning the kernel's default of 1500."""
    if mtu and not MTU_MIN <= mtu <= MTU_MAX:
        raise InvalidRequest(f"MTU {mtu} is outside {MTU_MIN}-{MTU_MAX} bytes", object=str(mtu))
    return mtu


def check_device_name(name: str) -> str:
    """Return `name` if a network device may be called so (the kernel's dev_valid_name)."""
    if not name or len(name.encode()) > DEVICE_NAME_BYTES_MAX or name in {".", ".."} or re.search(r"[/:\s]", name):
        raise InvalidRequest(
            f"invalid device name {name!r}",
            object=name,
            hint=f"at most {DEVICE_NAME_BYTES_MAX} bytes, without '/', ':' or spaces",
        )
    return name


def parse_address(text: str, what: str) -> IPv4Address:
    """Read an IPv4 address; `what` names it in the error."""
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise InvalidRequest(
            f"invalid {what} {text!r}", object=text, hint="write an IPv4 address, as in 10.1.0.5"
        ) from error


def parse_subnet(text: str, what: str = "subnet") -> IPv4Network:
    """Read a CIDR; host bits must be zero."""
    try:
        network = IPv4Network(text)
    except ValueError as error:
        hint = "write address/prefix-length with the host bits zero, as in 10.1.0.0/16"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint) from error
    if "/" not in text:
        raise InvalidRequest(f"{what} {text!r} has no prefix length", object=text, hint=f"write {text}/24, say")
    return network


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What is asked of one container. Unset fields are chosen by the engine; text is read and checked here."""

    name: str = ""
    network: str = DEFAULT_NETWORK
    ip: IPv4Address | None = None
    mac: str = ""
    mtu: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __init__(
        self,
        *,
        name: str = "",
        network: str = DEFAULT_NETWORK,
        ip: str | IPv4Address | None = None,
        mac: str = "",
        mtu: int = 0,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        if network == MODE_NONE and (ip or mac):
            raise InvalidRequest("a container of mode none has no interface to give an address to", object=network)
        _set(
            self,
            name=check_name(name, "container") if name else "",
            network=check_name(network, "network"),
            ip=parse_address(str(ip), "address") if ip else None,
            mac=check_mac(mac) if mac else "",
            mtu=check_mtu(mtu),
            labels=labels or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """What is asked of a network; `mtu` 0 is the kernel's default. Text is read and checked here."""

    name: str
    driver: str = "bridge"
    subnet: IPv4Network | None = None
    gateway: IPv4Address | None = None
    ip_range: IPv4Network | None = None
    aux_addresses: Mapping[str, IPv4Address] = field(default_factory=dict)
    internal: bool = False
    masquerade: bool = True
    mtu: int = 0
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
        aux_addresses: Mapping[str, str | IPv4Address] | None = None,
        internal: bool = False,
        masquerade: bool = True,
        mtu: int = 0,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if name in RESERVED_NETWORK_NAMES:
            raise InvalidRequest(
                f"network name {name} is a mode of containers", object=name, hint="choose another name"
            )
        if subnet is None and (gateway or ip_range or aux_addresses):
            raise InvalidRequest("gateway, ip-range and aux-address need a subnet", object=name, hint="add --subnet")
        settings = read_options(options or {})
        _set(
            self,
            name=check_name(name, "network"),
            driver=driver,
            subnet=parse_subnet(str(subnet)) if subnet else None,
            gateway=parse_address(str(gateway), "gateway") if gateway else None,
            ip_range=parse_subnet(str(ip_range), "ip-range") if ip_range else None,
            aux_addresses={
                key: parse_address(str(value), f"aux-address {key}") for key, value in (aux_addresses or {}).items()
            },
            internal=internal,
            masquerade=settings.get("masquerade", masquerade),
            mtu=check_mtu(mtu or settings.get("mtu", 0)),
            labels=labels or {},
            options=options or {},
        )


def read_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Read driver options by their Docker names into fields of NetworkSpec."""
    fields: dict[str, Any] = {}
    for key, value in options.items():
        if key == "com.docker.network.driver.mtu":
            if not value.isdecimal():
                raise InvalidRequest(f"option {key} is not a number: {value!r}", object=key)
            fields["mtu"] = int(value)
        elif key == "com.docker.network.bridge.enable_ip_masquerade":
            if value.lower() not in {"true", "false"}:
                raise InvalidRequest(f"option {key} is neither true nor false: {value!r}", object=key)
            fields["masquerade"] = value.lower() == "true"
        else:
            raise InvalidRequest(
                f"there is no network option {key!r}", object=key, hint="see `dnet network create --help`"
            )
    return fields


def _set(target: object, **fields: object) -> None:
    """Fill a frozen value from its own __init__."""
    for key, value in fields.items():
        object.__setattr__(target, key, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Endpoints that can reach each other. `device` is the bridge, `device_index` its ifindex."""

    id: str
    name: str
    driver: str
    subnet: IPv4Network
    gateway: IPv4Address
    ip_range: IPv4Network | None
    aux_addresses: Mapping[str, IPv4Address]
    internal: bool
    masquerade: bool
    mtu: int
    device: str
    device_index: int
    labels: Mapping[str, str]
    options: Mapping[str, str]
    created: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What joins one sandbox to one network. `host_interface` is the veth's end on the host."""

    id: str
    network_id: str
    network: str
    interface: str
    address: IPv4Interface
    gateway: IPv4Address | None
    mac: str
    host_interface: str
    host_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the user names: a sandbox and its endpoints. `sandbox` is the path its namespace is pinned at."""

    id: str
    name: str
    mode: str
    sandbox: str
    created: float
    status: str
    mtu: int
    labels: Mapping[str, str]
    endpoints: tuple[Endpoint, ...]
