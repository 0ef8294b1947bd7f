"""What the store implies: the objects of networks and containers, by their drivers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple, Protocol

from dnet.drivers import attachment, bridge, host_files, nat_table, openvswitch, sandbox
from dnet.model.container import MODE_FOREIGN, MODE_HOST, Container, Endpoint, Link
from dnet.model.network import Network, Uplink
from dnet.model.values import Value, frozen
from dnet.objects.host import Directory, File, NftTable, Symlink
from dnet.objects.object import Object
from dnet.objects.vlans import VlanEntry, VlanFilter

# Where `ip netns` looks for names (iproute2's NETNS_RUN_DIR).
NAME_DIRECTORY = "/run/netns"
# What is in NAME there, `ip netns exec NAME` mounts over /etc.
ETC_DIRECTORY = "/etc/netns"

Group = tuple[Object, ...]
# What an endpoint's objects, and the text of files but hosts, depend on besides endpoints.
_OF_ENDPOINTS = attrgetter("id", "name", "mode", "mtu", "displaced")
_OF_FILES = attrgetter("files", "settings", "attachments")


class Driver(Protocol):
    """What a driver tells of networks and endpoints: a module with these functions."""

    def network(self, net: Network) -> Group:
        """Return all that exists because a network does, the table itself apart."""

    def endpoint(self, net: Network, container: Container, end: Endpoint) -> Group:
        """Return all that exists because an endpoint does, its sandbox apart."""

    def port(self, net: Network, end: Endpoint) -> Group:
        """Return what makes an endpoint's host end, which exists, a port of the network's bridge."""

    def vlans(self, net: Network) -> Iterable[Object]:
        """Return what, apart from the bridge, keeps its VLANs apart."""

    def port_vlans(self, net: Network, end: Endpoint) -> Iterable[Object]:
        """Return what, apart from the port, says which VLANs it passes."""

    def uplink(self, net: Network, item: Uplink) -> Group:
        """Return what makes an interface of the host's a port of the network's bridge."""


DRIVERS: Mapping[str, Driver] = {"bridge": bridge, "ovs": openvswitch}


@frozen
class HostFiles(Value):
    """The texts of the host's resolv.conf, of systemd-resolved's own, and of the host's hosts."""

    resolv_conf: str
    systemd: str = ""
    hosts: str = ""


def name_path(name: str) -> str:
    """Return where `ip netns` looks for a container."""
    return f"{NAME_DIRECTORY}/{name}"


def network(net: Network, *, is_first: bool) -> Group:
    """Return the objects of a network; the first one brings the table, and the last one takes it along."""
    return (*((NftTable(),) if is_first else ()), *DRIVERS[net.driver].network(net))


class Same(NamedTuple):
    """What is the same in two states of a container: some endpoints, and perhaps the files, hosts apart."""

    endpoints: Collection[Endpoint] = ()
    has_files: bool = False


def unchanged(before: Container, after: Container) -> Same:
    """Return that of which all objects are the same in two states of a container."""
    if _OF_ENDPOINTS(before) != _OF_ENDPOINTS(after):
        return Same()
    # The first brings the loopback device up.
    start = 0 if before.endpoints[:1] == after.endpoints[:1] else 1
    ends = tuple(end for end in before.endpoints[start:] if end in after.endpoints[start:])
    six, six_after = (any(end.address6 for end in item.endpoints) for item in (before, after))
    return Same(ends, has_files=six == six_after and _OF_FILES(before) == _OF_FILES(after))


def container(
    item: Container,
    networks: Mapping[str, Network],
    host: HostFiles,
    peers: Mapping[str, Container] | None = None,
    *,
    without: Same = Same(),  # noqa: B008  it is frozen
) -> Group:
    """Return the objects of a container, those of `without` left out.

    `networks` are by id, `peers` the containers it has links with by name.
    """
    if item.shares:
        return (Symlink(f"{ETC_DIRECTORY}/{item.name}", item.files), Symlink(name_path(item.name), item.sandbox))
    links = list(sandbox.sandbox(item, name_path(item.name)))
    for end in item.endpoints:
        if end not in without.endpoints:
            net = networks[end.network_id]
            links += DRIVERS[net.driver].endpoint(net, item, end)
    for wire in item.attachments:
        links += attachment.attachment(item, wire)
    if item.routes:
        links += attachment.routes(item, inner_indexes(item))
    if item.mode == MODE_FOREIGN:
        return (*container_rules(item, networks, peers or {}), *links)
    files: Group = (File(f"{item.files}/hosts", hosts(item, networks, host, peers or {})),)
    if not without.has_files:
        files = (
            Directory(item.files),
            File(f"{item.files}/hostname", host_files.hostname(item)),
            *files,
            File(f"{item.files}/resolv.conf", host_files.resolv_conf(item, host.resolv_conf, host.systemd)),
            Symlink(f"{ETC_DIRECTORY}/{item.name}", item.files),
        )
    return (*files, *container_rules(item, networks, peers or {}), *links)


def inner_indexes(item: Container) -> dict[str, int]:
    """Return the indexes inside the sandbox of the interfaces that dnet made there, by name."""
    is_foreign = item.mode == MODE_FOREIGN
    indexes = {end.interface: sandbox.inner_index(end, is_foreign=is_foreign) for end in item.endpoints}
    return indexes | {wire.interface: attachment.inner_index(wire) for wire in item.attachments}


def container_rules(item: Container, networks: Mapping[str, Network], peers: Mapping[str, Container]) -> Group:
    """Return a container's objects in the table and in connection tracking, those of links from and to it included."""
    own = nat_table.container_objects(item, networks)
    if not item.links and not item.linked_by:
        return own
    rules = list(own)
    for link in item.links:
        if link.child in peers:
            rules += nat_table.link_objects(item, peers[link.child], networks)
    for link in item.linked_by:
        if link.parent in peers:
            rules += nat_table.link_objects(peers[link.parent], item, networks)
    return tuple(dict.fromkeys(rules))


def hosts(item: Container, networks: Mapping[str, Network], host: HostFiles, peers: Mapping[str, Container]) -> str:
    """Return the text of a container's hosts."""
    if item.mode == MODE_HOST:
        return host_files.hosts_of_host(item, host.hosts)
    outlet = nat_table.outlet(item, 4) if item.settings.extra_hosts else None
    members = [networks[outlet.network_id]] if outlet else []
    return host_files.hosts(item, members, "".join(link_lines(item, link, peers) for link in item.links))


def link_lines(parent: Container, link: Link, peers: Mapping[str, Container]) -> str:
    """Return the lines of a link in its parent's hosts; none while there is no such container on the same network."""
    child = peers.get(link.child)
    ends = nat_table.link_ends(parent, child) if child else None
    return host_files.link_lines(link, child, (ends[1].address, ends[1].address6)) if child and ends else ""


def ports(net: Network, members: Iterable[Container], present: Collection[int]) -> Group:
    """Return what makes those of the members' host ends that are `present`, by index, ports of their bridge again."""
    return tuple(
        item
        for member in members
        for end in member.endpoints
        if end.network_id == net.id and end.host_index in present
        for item in DRIVERS[net.driver].port(net, end)
    )


def uplink(net: Network, item: Uplink) -> Group:
    """Return what makes an interface of the host's a port of a network's bridge."""
    return DRIVERS[net.driver].uplink(net, item)


def uplinks(net: Network) -> Group:
    """Return that for all that a network has adopted."""
    return tuple(part for item in net.uplinks for part in uplink(net, item))


def vlans(networks: Iterable[Network], containers: Iterable[Container]) -> Group:
    """Return what keeps VLANs apart at all Linux bridges: the programs and the entries of the VLAN map."""
    known = {net.id: net for net in networks}
    found = [item for net in known.values() for item in DRIVERS[net.driver].vlans(net)]
    found += [item for net in known.values() for item in uplinks(net) if isinstance(item, (VlanEntry, VlanFilter))]
    for item in containers:
        for end in item.endpoints:
            net = known[end.network_id]
            found += DRIVERS[net.driver].port_vlans(net, end)
    return tuple(found)


def rules(networks: Iterable[Network], containers: Iterable[Container]) -> Group:
    """Return all that belongs into the table, itself included."""
    known = {net.id: net for net in networks}
    found: list[Object] = [NftTable()]
    for net in known.values():
        found += [*nat_table.network_objects(net), *nat_table.uplink_objects(net)]
    members = {item.name: item for item in containers}
    for item in members.values():
        found += container_rules(item, known, members)
    return tuple(dict.fromkeys(item for item in found if item.backend == "nft"))
