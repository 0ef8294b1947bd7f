"""The values a caller hands in and gets back: specifications, networks, containers, endpoints. Rank 2, pure.

All are frozen. Addresses are `ipaddress` values; MACs are lower-case text; times are seconds since the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address
from typing import Any, TypedDict, TypeVar

from dnet.errors import InvalidRequest
from dnet.ports import PortMapping, Publish, parse_expose, parse_publish

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
N = TypeVar("N", IPv4Network, IPv6Network)
Item = TypeVar("Item")

NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
NAME_CHARACTERS_MAX = 128
MAC_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
MTU_MIN, MTU_MAX = 68, 65535  # RFC 791's smallest, and the largest an IPv4 packet can fill

NUMBER_DIGITS_MAX = 9
HOSTNAME_PATTERN = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?\Z")
DOMAIN_CHARACTERS_MAX = 253  # RFC 1035, without the root's dot
HOSTNAME_CHARACTERS_MAX = 64

DEFAULT_NETWORK = "bridge"
DEFAULT_DEVICE = "dnet0"
MODE_NONE = "none"
RESERVED_NETWORK_NAMES = frozenset({"host", "none", "container", "default"})


def check_name(name: str, what: str) -> str:
    """Return `name` if containers and networks may be called so; `what` names the thing in the error."""
    if not isinstance(name, str) or not NAME_PATTERN.match(name) or len(name) > NAME_CHARACTERS_MAX:
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


def parse_address(text: str, what: str) -> IPv4Address:
    """Read an IPv4 address; `what` names it in the error."""
    try:
        return IPv4Address(text)
    except ValueError as error:
        hint = "write an IPv4 address, as in 10.1.0.5"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint) from error


def parse_address6(text: str, what: str) -> IPv6Address:
    """Read an IPv6 address, without a zone; `what` names it in the error."""
    try:
        address = IPv6Address(text)
        if address.scope_id:
            raise ValueError(text)
    except ValueError as error:
        hint = "write an IPv6 address, as in fd00:1::5"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint) from error
    return address


def parse_any_address(text: str, what: str) -> IPAddress:
    """Read an address of either family."""
    try:
        if "%" in text:
            raise ValueError(text)
        return ip_address(text)
    except ValueError as error:
        hint = "write an IP address, without a zone"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint) from error


def parse_subnet(text: str, what: str = "subnet") -> IPv4Network:
    """Read an IPv4 CIDR; host bits must be zero."""
    return _read_subnet(text, what, IPv4Network, "10.1.0.0/16")


def parse_subnet6(text: str, what: str = "subnet") -> IPv6Network:
    """Read an IPv6 CIDR; host bits must be zero."""
    return _read_subnet(text, what, IPv6Network, "fd00:1::/64")


def _read_subnet(text: str, what: str, kind: type[N], example: str) -> N:
    try:
        network = kind(text)
    except ValueError as error:
        hint = f"write address/prefix-length with the host bits zero, as in {example}"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint) from error
    if not text.partition("/")[2].isdecimal():
        raise InvalidRequest(f"{what} {text!r} has no prefix length", object=text, hint=f"write it as in {example}")
    return network


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the three files of a container are made from, besides its network.

    `dns`, `dns_search` and `dns_options` are empty where the host's resolv.conf is followed; `extra_hosts` holds
    (name, address) pairs, the address perhaps `host-gateway`.
    """

    hostname: str
    domainname: str = ""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()


def check_hostname(text: str) -> str:
    """Return a host's name: RFC 1123 labels, 64 characters at most (the kernel's HOST_NAME_MAX)."""
    return _check_labels(text, "hostname", HOSTNAME_CHARACTERS_MAX)


def check_domain(text: str) -> str:
    """Return a domain's name: labels as of a host's name, 253 characters at most."""
    return _check_labels(text, "domain", DOMAIN_CHARACTERS_MAX)


def _check_labels(text: str, what: str, characters_max: int) -> str:
    if len(text) > characters_max or not HOSTNAME_PATTERN.match(text) or ".." in text:
        hint = f"use letters, digits, '-' and '.', at most {characters_max} characters"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint)
    return text


def check_word(text: str, what: str) -> str:
    """Return text that may stand in a line of a file: one word."""
    if not text or text.split() != [text]:
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint="write one word, without spaces")
    return text


def parse_extra_host(text: str) -> tuple[str, str]:
    """Read one `--add-host`: NAME:ADDRESS or NAME=ADDRESS, the address perhaps in brackets or `host-gateway`."""
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name or not address:
        hint = "write NAME:ADDRESS, as in db:10.0.0.5 or host:host-gateway"
        raise InvalidRequest(f"invalid --add-host {text!r}", object=text, hint=hint)
    if address == "host-gateway":
        return check_domain(name), address
    return check_domain(name), str(parse_any_address(address.strip("[]"), f"address of --add-host {name}"))


class ContainerOptions(TypedDict, total=False):
    """ContainerSpec's fields as keywords of Engine.create, name and network apart."""

    ip: str | IPv4Address | None
    ip6: str | IPv6Address | None
    mac: str
    mtu: int
    publish: Iterable[str | Publish]
    publish_all: bool
    expose: Iterable[str | int]
    hostname: str
    domainname: str
    dns: Iterable[str]
    dns_search: Iterable[str]
    dns_options: Iterable[str]
    add_hosts: Iterable[str]
    labels: Mapping[str, str] | None


class NetworkOptions(TypedDict, total=False):
    """NetworkSpec's fields as keywords of Engine.create_network, the name apart."""

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
    mtu: int
    labels: Mapping[str, str] | None
    options: Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What is asked of one container. Unset fields are chosen by the engine; text is read and checked here.

    `publish` takes Docker's `-p` grammar, `expose` that of `--expose`; `publish_all` publishes what is exposed.
    """

    name: str = ""
    network: str = DEFAULT_NETWORK
    ip: IPv4Address | None = None
    ip6: IPv6Address | None = None
    mac: str = ""
    mtu: int = 0
    publish: tuple[Publish, ...] = ()
    publish_all: bool = False
    expose: tuple[tuple[int, str], ...] = ()
    settings: Settings = field(default_factory=lambda: Settings(hostname=""))
    labels: Mapping[str, str] = field(default_factory=dict)

    def __init__(
        self,
        *,
        name: str = "",
        network: str = DEFAULT_NETWORK,
        ip: str | IPv4Address | None = None,
        ip6: str | IPv6Address | None = None,
        mac: str = "",
        mtu: int = 0,
        publish: Iterable[str | Publish] = (),
        publish_all: bool = False,
        expose: Iterable[str | int] = (),
        hostname: str = "",
        domainname: str = "",
        dns: Iterable[str] = (),
        dns_search: Iterable[str] = (),
        dns_options: Iterable[str] = (),
        add_hosts: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        if network == "host" or network.startswith("container:"):
            hint = "create makes networks; use bridge, none, or a network's name"
            raise InvalidRequest(f"mode {network} has no network of its own to make", object=network, hint=hint)
        if network == MODE_NONE and (ip or ip6 or mac):
            raise InvalidRequest("a container of mode none has no interface to give an address to", object=network)
        _set(
            self,
            name=check_name(name, "container") if name else "",
            network=check_name(network, "network"),
            ip=parse_address(str(ip), "address") if ip else None,
            ip6=parse_address6(str(ip6), "IPv6 address") if ip6 else None,
            mac=check_mac(mac) if mac else "",
            mtu=check_mtu(mtu),
            publish=tuple(parse_publish(item) if isinstance(item, str) else item for item in _listed(publish)),
            publish_all=publish_all,
            expose=tuple(pair for item in _listed(expose) for pair in parse_expose(str(item))),
            settings=Settings(
                hostname=check_hostname(hostname) if hostname else "",
                domainname=check_domain(domainname) if domainname else "",
                dns=tuple(str(parse_any_address(item, "DNS server")) for item in _listed(dns)),
                dns_search=tuple(item if item == "." else check_domain(item) for item in _listed(dns_search)),
                dns_options=tuple(check_word(item, "resolver option") for item in _listed(dns_options)),
                extra_hosts=tuple(parse_extra_host(item) for item in _listed(add_hosts)),
            ),
            labels=dict(labels or {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """What is asked of a network; `mtu` 0 is the kernel's default. Text is read and checked here."""

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
        ipv6: bool = False,
        subnet6: str | IPv6Network | None = None,
        gateway6: str | IPv6Address | None = None,
        aux_addresses: Mapping[str, str | IPAddress] | None = None,
        internal: bool = False,
        icc: bool = True,
        masquerade: bool = True,
        host_binding: str | IPAddress | None = None,
        mtu: int = 0,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if name in RESERVED_NETWORK_NAMES:
            raise InvalidRequest(
                f"network name {name} is a mode of containers", object=name, hint="choose another name"
            )
        if not subnet and (gateway or ip_range or aux_addresses):
            raise InvalidRequest("gateway, ip-range and aux-address need a subnet", object=name, hint="add --subnet")
        if gateway6 and not subnet6:
            raise InvalidRequest("an IPv6 gateway needs an IPv6 subnet", object=name, hint="add one with --subnet")
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
            "mtu": mtu,
            "labels": dict(labels or {}),
            "options": dict(options or {}),
        }
        fields |= read_options(options or {})
        check_mtu(fields["mtu"])
        _set(self, **fields)


def read_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Read driver options by their Docker names into fields of NetworkSpec."""
    fields: dict[str, Any] = {}
    for key, value in options.items():
        if key not in _OPTIONS:
            hint = f"known: {', '.join(sorted(_OPTIONS))}"
            raise InvalidRequest(f"there is no network option {key!r}", object=key, hint=hint)
        name, read = _OPTIONS[key]
        fields[name] = read(value, f"option {key}")
    return fields


def _read_number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > NUMBER_DIGITS_MAX:
        raise InvalidRequest(f"{what} is not a number that could be meant: {text!r}", object=text)
    return int(text)


def _read_boolean(text: str, what: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise InvalidRequest(f"{what} is neither true nor false: {text!r}", object=text)
    return text.lower() in {"true", "1"}


_OPTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "com.docker.network.driver.mtu": ("mtu", _read_number),
    "com.docker.network.bridge.enable_ip_masquerade": ("masquerade", _read_boolean),
    "com.docker.network.bridge.enable_icc": ("icc", _read_boolean),
    "com.docker.network.bridge.host_binding_ipv4": ("host_binding", parse_any_address),
    "com.docker.network.host_ipv4": ("snat", parse_address),
    "com.docker.network.host_ipv6": ("snat6", parse_address6),
}


def _listed(items: Iterable[Item] | str) -> Iterable[Item | str]:
    """Return the items; a text alone is one item, not its letters."""
    return [items] if isinstance(items, str) else items


def _set(target: object, **fields: object) -> None:
    """Fill a frozen value from its own __init__."""
    for key, value in fields.items():
        object.__setattr__(target, key, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Endpoints that can reach each other. `device` is the bridge, `device_index` its ifindex.

    `snat` and `snat6`, when set, replace masquerading's choice of the source address.
    """

    id: str
    name: str
    driver: str
    subnet: IPv4Network
    gateway: IPv4Address
    ip_range: IPv4Network | None
    subnet6: IPv6Network | None
    gateway6: IPv6Address | None
    aux_addresses: Mapping[str, IPAddress]
    internal: bool
    icc: bool
    masquerade: bool
    host_binding: IPAddress | None
    snat: IPv4Address | None
    snat6: IPv6Address | None
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
    address6: IPv6Interface | None
    gateway6: IPv6Address | None
    mac: str
    host_interface: str
    host_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the user names: a sandbox and its endpoints. `sandbox` is the path its namespace is pinned at.

    `files` is the directory of its hosts, hostname and resolv.conf; `exposed` holds (port, protocol) pairs, those of
    published ports included.
    """

    id: str
    name: str
    mode: str
    sandbox: str
    files: str
    settings: Settings
    created: float
    status: str
    mtu: int
    labels: Mapping[str, str]
    publish_all: bool
    exposed: tuple[tuple[int, str], ...]
    ports: tuple[PortMapping, ...]
    endpoints: tuple[Endpoint, ...]
