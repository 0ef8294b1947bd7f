"""Containers, their endpoints, links, settings and processes.

All are immutable. MAC addresses are lower-case text; times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any

from dnet.model.attachment import Attachment, KernelRoute, StaticRoute
from dnet.model.network import Network
from dnet.model.published_port import PortMapping
from dnet.model.values import Value, frozen
from dnet.model.vlan import PortVlans

MODE_NONE = "none"
MODE_HOST = "host"
MODE_CONTAINER = "container:"
MODE_FOREIGN = "foreign"  # a container that somebody else made and keeps


def shared_id(mode: str) -> str:
    """Return the id of the container whose sandbox a mode shares, also after it has been removed by force."""
    return mode.removeprefix(MODE_CONTAINER) if mode.startswith(MODE_CONTAINER) else ""


@frozen(kw_only=True)
class Settings(Value):
    """What the hosts, hostname and resolv.conf of a container are made from, besides its networks.

    `dns`, `dns_search` and `dns_options` take the place of the host's resolv.conf, unless they are empty.
    `extra_hosts` are (name, address) pairs; the address may be `host-gateway`.
    """

    hostname: str
    domainname: str = ""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()


@frozen(kw_only=True)
class Process(Value):
    """What a container runs, as in `docker run`. Made by `check_process`, which says what the fields are."""

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
    """State of a container's process: `created` (never started), `running` (as `pid`) or `exited` (with `exit_code`).

    `exit_code` is 128 + n after signal n, and None when nobody saw the end, as after a power failure.
    """

    state: str
    pid: int = 0
    exit_code: int | None = None

    def __str__(self) -> str:
        code = "unknown" if self.exit_code is None else self.exit_code
        return f"exited ({code})" if self.state == "exited" else self.state


@frozen(kw_only=True)
class Endpoint(Value):
    """What joins one sandbox to one network: a veth, of which one device is inside and one on the host.

    network_id, network: id and name of the network
    interface: name of the device inside
    address, address6: with the prefix length of the subnet; None without IPv6
    gateway, gateway6: that of the network, if the container's default route goes through it. At most one endpoint has
        a gateway of each family; ports are published on its addresses
    host_interface, host_index: name and ifindex of the device on the host
    aliases, gateway_priority, vlans: as asked for in EndpointSpec
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
        """Return the VLANs of its port: those asked for, else that of the network; None on a network without VLANs."""
        return (self.vlans or PortVlans(access=network.vlan)) if network.vlan else None


@frozen
class Link(Value):
    """A link as Docker's: container `parent` reaches container `child` under the name `alias`."""

    parent: str
    child: str
    alias: str

    def __str__(self) -> str:
        return f"{self.parent}/{self.alias}"


@frozen(kw_only=True)
class Container(Value):
    """A sandbox, its endpoints and attachments, and perhaps a process.

    id: 64 hexadecimal digits
    mode: name of its first network, `none`, `host`, `container:ID`, or `foreign`: then somebody else created it, and
        dnet only attaches to it
    sandbox: path at which its network namespace is pinned
    files: directory of its hosts, hostname and resolv.conf; a foreign container has none
    created: seconds since the epoch
    status: `created`, `running` or `exited (3)`
    mtu: bytes; 0 is that of each network
    exposed: (port, protocol) pairs, those of published ports included
    shares: in mode `container:ID`, the id of the container whose sandbox and files it has
    links, linked_by: links to other containers, and of others to it
    pid, exit_code: of the process, while it runs, and after it has ended if that is known
    routes: those that the user asked for
    displaced: default routes of others that dnet's have replaced
    target: of a foreign container, the fields of targets.Target; its name is that of the target, such as `docker:web`
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
