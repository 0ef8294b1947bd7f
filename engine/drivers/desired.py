"""Desired state: the objects that must exist for the stored networks and containers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple

from dnet.drivers import attachment, bridge, host_files, nat_table, openvswitch, sandbox
from dnet.drivers.driver import Driver, Objects
from dnet.model.attachment import Attachment
from dnet.model.container import MODE_FOREIGN, MODE_HOST, Container, Endpoint, Link
from dnet.model.network import Network, Uplink
from dnet.model.values import Value, frozen
from dnet.objects.host import Directory, File, NftTable, Symlink
from dnet.objects.object import Object
from dnet.objects.sandbox import Sandbox
from dnet.objects.vlans import ClsactHooks, VlanMapEntry

DRIVERS: Mapping[str, Driver] = {"bridge": bridge.DRIVER, "ovs": openvswitch.DRIVER}

# Where `ip netns` looks for names (iproute2's NETNS_RUN_DIR).
NAME_DIRECTORY = "/run/netns"
# `ip netns exec NAME` mounts the files of NAME in here over those of /etc.
ETC_DIRECTORY = "/etc/netns"

# Besides endpoints, what the objects of an endpoint depend on, and the text of all files except hosts.
_OF_ENDPOINTS = attrgetter("id", "name", "mode", "mtu", "displaced")
_OF_FILES = attrgetter("files", "settings", "attachments")


@frozen
class HostFiles(Value):
    """The texts of the host's resolv.conf, of systemd-resolved's own, and of the host's hosts."""

    resolv_conf: str
    systemd: str = ""
    hosts: str = ""


# Networks


def network(net: Network, *, is_first: bool) -> Objects:
    """Return the objects of a network. The first network also has the nftables table, which the last one removes."""
    return (*((NftTable(),) if is_first else ()), *DRIVERS[net.driver].network(net))


def ports(net: Network, members: Iterable[Container], present: Collection[int]) -> Objects:
    """Return what makes host interfaces of the members ports of their bridge again; `present` are the indexes."""
    return tuple(
        item
        for member in members
        for endpoint in member.endpoints
        if endpoint.network_id == net.id and endpoint.host_index in present
        for item in DRIVERS[net.driver].port(net, endpoint)
    )


def uplink(net: Network, item: Uplink) -> Objects:
    """Return what makes an interface of the host a port of a network's bridge."""
    return DRIVERS[net.driver].uplink(net, item)


def uplinks(net: Network) -> Objects:
    """Return what makes all uplinks of a network ports of its bridge."""
    return tuple(part for item in net.uplinks for part in uplink(net, item))


def uplink_rules(net: Network) -> Objects:
    """Return the nftables elements that a network needs for its uplinks."""
    return DRIVERS[net.driver].uplink_rules(net)


def vlans(networks: Iterable[Network], containers: Iterable[Container]) -> Objects:
    """Return what separates VLANs on Linux bridges: BPF programs, VLAN map entries, and filtering bridges."""
    known = {net.id: net for net in networks}
    objects = [item for net in known.values() for item in DRIVERS[net.driver].vlans(net)]
    objects += [
        item for net in known.values() for item in uplinks(net) if isinstance(item, (VlanMapEntry, ClsactHooks))
    ]
    for container in containers:
        for endpoint in container.endpoints:
            net = known[endpoint.network_id]
            objects += DRIVERS[net.driver].port_vlans(net, endpoint)
    return tuple(objects)


def rules(networks: Iterable[Network], containers: Iterable[Container]) -> Objects:
    """Return the nftables table with all its elements."""
    known = {net.id: net for net in networks}
    objects: list[Object] = [NftTable()]
    for net in known.values():
        objects += [*nat_table.network_objects(net), *uplink_rules(net)]
    members = {item.name: item for item in containers}
    for item in members.values():
        objects += container_rules(item, known, members)
    return tuple(dict.fromkeys(item for item in objects if item.backend == "nft"))


# Containers


class Same(NamedTuple):
    """What two states of a container have in common: some endpoints, and perhaps all files except hosts."""

    endpoints: Collection[Endpoint] = ()
    has_files: bool = False


def unchanged(before: Container, after: Container) -> Same:
    """Return the parts of a container all of whose objects are the same in two states."""
    if _OF_ENDPOINTS(before) != _OF_ENDPOINTS(after):
        return Same()
    # The first endpoint brings the loopback device up.
    start = 0 if before.endpoints[:1] == after.endpoints[:1] else 1
    endpoints = tuple(item for item in before.endpoints[start:] if item in after.endpoints[start:])
    six, six_after = (any(item.address6 for item in state.endpoints) for state in (before, after))
    return Same(endpoints, has_files=six == six_after and _OF_FILES(before) == _OF_FILES(after))


def container(
    item: Container,
    networks: Mapping[str, Network],
    host: HostFiles,
    peers: Mapping[str, Container] | None = None,
    *,
    without: Same = Same(),  # noqa: B008  it is frozen
) -> Objects:
    """Return the objects of a container, except those of `without`.

    `networks` are by id, `peers` the containers that it has links with by name.
    """
    if item.shares:
        return (Symlink(f"{ETC_DIRECTORY}/{item.name}", item.files), Symlink(name_path(item.name), item.sandbox))
    inside = list(sandbox.sandbox(item, name_path(item.name)))
    for endpoint in item.endpoints:
        if endpoint not in without.endpoints:
            net = networks[endpoint.network_id]
            inside += DRIVERS[net.driver].endpoint(net, item, endpoint)
    for attached in item.attachments:
        inside += attachment.attachment(item, attached)
    if item.routes:
        inside += attachment.routes(item, inner_indexes(item))
    if item.mode == MODE_FOREIGN:
        return (*container_rules(item, networks, peers or {}), *inside)
    files: Objects = (File(f"{item.files}/hosts", hosts(item, networks, host, peers or {})),)
    if not without.has_files:
        files = (
            Directory(item.files),
            File(f"{item.files}/hostname", host_files.hostname(item)),
            *files,
            File(f"{item.files}/resolv.conf", host_files.resolv_conf(item, host.resolv_conf, host.systemd)),
            Symlink(f"{ETC_DIRECTORY}/{item.name}", item.files),
        )
    return (*files, *container_rules(item, networks, peers or {}), *inside)


def sandbox_of(item: Container) -> Sandbox:
    """Return the sandbox of a container, without the file by which `ip netns` finds it."""
    return next(one for one in sandbox.sandbox(item, "") if isinstance(one, Sandbox))


def name_path(name: str) -> str:
    """Return the file by which `ip netns` finds a container."""
    return f"{NAME_DIRECTORY}/{name}"


def inner_indexes(item: Container) -> dict[str, int]:
    """Return the indexes inside the sandbox of the interfaces that dnet created there, by name."""
    interfaces: tuple[Endpoint | Attachment, ...] = (*item.endpoints, *item.attachments)
    return {one.interface: sandbox.index_inside(item, one) for one in interfaces}


def container_rules(item: Container, networks: Mapping[str, Network], peers: Mapping[str, Container]) -> Objects:
    """Return a container's objects in nftables and in connection tracking, including those of links from and to it."""
    own = nat_table.container_objects(item, networks)
    if not item.links and not item.linked_by:
        return own
    objects = list(own)
    for link in item.links:
        if link.child in peers:
            objects += nat_table.link_objects(item, peers[link.child], networks)
    for link in item.linked_by:
        if link.parent in peers:
            objects += nat_table.link_objects(peers[link.parent], item, networks)
    return tuple(dict.fromkeys(objects))


def hosts(item: Container, networks: Mapping[str, Network], host: HostFiles, peers: Mapping[str, Container]) -> str:
    """Return the text of a container's hosts file."""
    if item.mode == MODE_HOST:
        return host_files.hosts_of_host(item, host.hosts)
    outlet = nat_table.outlet(item, 4) if item.settings.extra_hosts else None
    members = [networks[outlet.network_id]] if outlet else []
    return host_files.hosts(item, members, "".join(link_lines(item, link, peers) for link in item.links))


def link_lines(parent: Container, link: Link, peers: Mapping[str, Container]) -> str:
    """Return a link's lines in its parent's hosts file; none if there is no such container on the same network."""
    child = peers.get(link.child)
    joined = nat_table.linked_endpoints(parent, child) if child else None
    return host_files.link_lines(link, child, (joined[1].address, joined[1].address6)) if child and joined else ""
