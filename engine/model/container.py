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
