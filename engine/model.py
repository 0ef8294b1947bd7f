"""The values a caller gets back: networks, containers, endpoints, links; and checks of what is handed in. Rank 2, pure.

All are frozen. Addresses are `ipaddress` values; MACs are lower-case text; times are seconds since the epoch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address
from typing import Any, TypeVar

from dnet.errors import InvalidRequest
from dnet.ports import PortMapping
from dnet.values import Value, frozen

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
N = TypeVar("N", IPv4Network, IPv6Network)

NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
NAME_CHARACTERS_MAX = 128
MAC_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
MTU_MIN, MTU_MAX = 68, 65535  # RFC 791's smallest, and the largest an IPv4 packet can fill

VID_MAX = 4094  # IEEE 802.1Q-2018, table 9-2: 0 is no VLAN, 4095 is reserved
EVERY_VLAN = ((1, VID_MAX),)
HOSTNAME_PATTERN = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?\Z")
DOMAIN_CHARACTERS_MAX = 253  # RFC 1035, without the root's dot
HOSTNAME_CHARACTERS_MAX = 64

DEFAULT_NETWORK = "bridge"
DEFAULT_DEVICE = "dnet0"
MODE_NONE = "none"
MODE_HOST = "host"
MODE_CONTAINER = "container:"
MODE_FOREIGN = "foreign"  # a container that somebody else made and keeps
INTERFACE_PATTERN = re.compile(r"[!-$&-.0-9;-~]{1,15}\Z")  # dev_valid_name() and IFNAMSIZ; a % it would fill in


def check_name(name: str, what: str) -> str:
    """Return `name` if containers and networks may be called so; `what` names the thing in the error."""
    if not isinstance(name, str) or not NAME_PATTERN.match(name) or len(name) > NAME_CHARACTERS_MAX:
        raise InvalidRequest(
            f"invalid {what} name {name!r}",
            object=name,
            hint=f"use letters, digits, '_', '.', '-', first a letter or digit, at most {NAME_CHARACTERS_MAX} in all",
        )
    return name


def check_interface(name: str) -> str:
    """Return the name of a network interface if the kernel allows it, and it is not the loopback's."""
    if not INTERFACE_PATTERN.match(name) or name in {".", "..", "lo", "all", "default"}:
        hint = "use at most 15 ASCII characters, without '/', ':', '%' and spaces"
        raise InvalidRequest(f"invalid interface name {name!r}", object=name, hint=hint)
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


@frozen(kw_only=True)
class Settings(Value):
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


@frozen(kw_only=True)
class PortVlans(Value):
    """The VLANs of a bridge's port, as IEEE 802.1Q has them.

    An access port is in the one VLAN `access`: frames come and leave untagged. A trunk is in many and their frames
    are tagged; `trunk` holds ranges (first, last), ascending and apart. What comes untagged belongs to its `native`
    VLAN, whose frames leave untagged, too; that is one of the trunk's. A port of neither kind passes nothing. 0 means
    none.
    """

    access: int = 0
    trunk: tuple[tuple[int, int], ...] = ()
    native: int = 0

    @property
    def untagged(self) -> int:
        """The VLAN of untagged frames, or 0."""
        return self.access or self.native

    @property
    def tagged(self) -> Iterator[int]:
        """The VLANs whose tagged frames the port takes, ascending."""
        return (vid for first, last in self.trunk for vid in range(first, last + 1))

    @property
    def trunk_text(self) -> str:
        """The trunk as people write it; empty for a port that is none."""
        return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in self.trunk)

    def __str__(self) -> str:
        if self.access:
            return f"VLAN {self.access}"
        native = f" native {self.native}" if self.native else ""
        return f"trunk {self.trunk_text}{native}" if self.trunk else "no VLAN"


@frozen(kw_only=True)
class Process(Value):
    """What a container runs, as `docker run` describes it. Made by `check_process`.

    `user` is `user[:group]`, names or numbers of the container's own. `rootfs` is the directory that is its root, or
    empty: then it sees the host's files and writes to a layer of its own. In the foreground, standard input is the
    caller's only with `is_interactive`; `removes_itself` is for whoever removes the container afterwards.
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = ""
    user: str = ""
    rootfs: str = ""
    is_read_only: bool = False
    has_terminal: bool = False
    is_interactive: bool = False
    removes_itself: bool = False


@frozen(kw_only=True)
class Status(Value):
    """How a container's process is: `created` (never started), `running` (`pid`) or `exited` (`exit_code`).

    `exit_code` is 128 + n after signal n, and None where nobody was there to see the end, as after a power failure.
    """

    state: str
    pid: int = 0
    exit_code: int | None = None

    def __str__(self) -> str:
        return (
            f"exited ({'unknown' if self.exit_code is None else self.exit_code})"
            if self.state == "exited"
            else self.state
        )


@frozen(kw_only=True)
class Uplink(Value):
    """An interface of the host's that is a port of a network's bridge, by its name and ifindex.

    `mac` is the MAC address that the bridge has from it, or empty. `vlans` are those asked for.
    """

    interface: str
    index: int
    mac: str = ""
    vlans: PortVlans | None = None

    def __str__(self) -> str:
        return self.interface

    def vlans_on(self, network: Network) -> PortVlans | None:
        """Return the VLANs of the port; None without VLANs.

        Unless others were asked for, all of them, the host's untagged, as its frames were before.
        """
        return (self.vlans or PortVlans(trunk=EVERY_VLAN, native=network.vlan)) if network.vlan else None


@frozen(kw_only=True)
class Network(Value):
    """Endpoints that can reach each other. `device` is the bridge, `device_index` its ifindex.

    `snat` and `snat6`, when set, replace masquerading's choice of the source address. `vlan` is the VLAN of the
    gateway, and of endpoints that ask for none; 0 where the network knows no VLANs, which `vlan_backend` keeps apart:
    `bpf`, `bridge` or `ovs`.

    A bridge that `owns_device` is False of was there before the network, and stays; what in `found` was there too is
    not dnet's to remove: `gateway`, `gateway6`, `link_local`, `route_localnet`, `loopback_route`; `device_mac` is its
    MAC address, which would otherwise follow those of its ports. `uplinks` are interfaces of the host's that have
    become ports of the bridge, by name.
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
    vlan: int = 0
    vlan_backend: str = ""
    owns_device: bool = True
    device_mac: str = ""
    found: tuple[str, ...] = ()
    uplinks: tuple[Uplink, ...] = ()

    @property
    def is_enclosed(self) -> bool:
        """Whether nobody but the network's containers is on the bridge."""
        return self.owns_device and not self.uplinks

    @property
    def has_own_subnets(self) -> bool:
        """Whether nobody but the network's containers, and its gateway, is in the subnets."""
        return self.is_enclosed and not self.found


@frozen(kw_only=True)
class Endpoint(Value):
    """What joins one sandbox to one network. `host_interface` is the veth's end on the host.

    Of a container's endpoints, one at most has a gateway of each family, through which the default route goes and on
    which ports are published.
    """

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
    aliases: tuple[str, ...] = ()
    gateway_priority: int = 0
    vlans: PortVlans | None = None

    def vlans_on(self, network: Network) -> PortVlans | None:
        """Return the VLANs of the endpoint's port: those asked for, else the network's; None without VLANs."""
        return (self.vlans or PortVlans(access=network.vlan)) if network.vlan else None


@frozen
class Link(Value):
    """Docker's link: `parent` reaches `child`, both containers' names, under the name `alias`."""

    parent: str
    child: str
    alias: str

    def __str__(self) -> str:
        return f"{self.parent}/{self.alias}"


@frozen(kw_only=True)
class KernelRoute(Value):
    """A route that is not dnet's, as the kernel told it: through which device, in words, and as it came, in hex."""

    version: int
    device: str
    index: int
    text: str
    message: str


@frozen(kw_only=True)
class Attachment(Value):
    """An interface of a container that belongs to no network of dnet's.

    `kind` says what it is: `bridge`, the inner end of a veth whose other end, `host_interface`, is a port of the
    host's bridge `device`; `ovs`, the same on a bridge of Open vSwitch, where it may have `vlans`; `macvlan` on the
    host's interface `device`, in one of the modes of macvlan; `direct`, that interface itself, `before` being what it
    had on the host; `dummy`, one that leads nowhere. `device_index` is 0 while the host has no such device: then
    nothing of the attachment exists.

    `gateways` are those asked for, one of each family at most; `defaults` the versions of IP whose default route goes
    through it now. `lease` is what DHCP granted, as leases.Lease has it.
    """

    id: str
    kind: str
    device: str
    device_index: int
    interface: str
    host_index: int
    host_interface: str
    addresses: tuple[IPInterface, ...]
    gateways: tuple[IPAddress, ...]
    mac: str
    mtu: int
    macvlan_mode: str = ""
    is_dhcp: bool = False
    hostname: str = ""
    gateway_priority: int = 0
    defaults: tuple[int, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    lease: Mapping[str, Any] = field(default_factory=dict)
    vlans: PortVlans | None = None

    @property
    def ways(self) -> tuple[IPAddress, ...]:
        """The gateways that a default route may go to: those asked for, and of IPv4 else what DHCP named."""
        if not self.lease or any(way.version == 4 for way in self.gateways):  # noqa: PLR2004
            return self.gateways
        # Classless routes, where there are any, are all the routes there are: RFC 3442.
        routes = self.lease["classless_routes"]
        named = [way for network, way in routes if network == "0.0.0.0/0" and way] if routes else self.lease["routers"]
        return (*self.gateways, *map(IPv4Address, named[:1]))


@frozen
class StaticRoute(Value):
    """A route of a container that the user asked for.

    Without an `interface` it goes where its gateway is; metric 0 is the kernel's own choice. `index` is that of an
    interface that is not dnet's, 0 for others.
    """

    destination: IPNetwork
    gateway: IPAddress | None
    interface: str = ""
    metric: int = 0
    index: int = 0

    def __str__(self) -> str:
        words = ["default" if self.destination.prefixlen == 0 else str(self.destination)]
        words += [f"via {self.gateway}"] if self.gateway else []
        words += [f"dev {self.interface}"] if self.interface else []
        words += [f"metric {self.metric}"] if self.metric else []
        return " ".join(words)


@frozen(kw_only=True)
class Container(Value):
    """What the user names: a sandbox and its endpoints. `sandbox` is the path its namespace is pinned at.

    `files` is the directory of its hosts, hostname and resolv.conf; `exposed` holds (port, protocol) pairs, those of
    published ports included. In mode `container:ID`, `shares` is the id of the container whose sandbox and files it
    has. `links` are those to other containers, `linked_by` those of others to it. `status` is `created`, `running` or
    `exited (3)`; `pid` is that of the process while it runs, `exit_code` how it ended, if that is known.

    `routes` are those that the user asked for, `displaced` default routes of others that dnet's are in the place of. A
    container of mode `foreign` is somebody else's: dnet only attaches to it. It is called what its target is
    (`docker:web`), `target` are the fields of targets.Target, and it has no files.
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
    shares: str = ""
    links: tuple[Link, ...] = ()
    linked_by: tuple[Link, ...] = ()
    process: Process | None = None
    pid: int = 0
    exit_code: int | None = None
    attachments: tuple[Attachment, ...] = ()
    routes: tuple[StaticRoute, ...] = ()
    displaced: tuple[KernelRoute, ...] = ()
    target: Mapping[str, Any] = field(default_factory=dict)
