"""What the store implies: the objects of networks and containers, by their drivers. Rank 6, pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dnet import etcfiles, nat
from dnet.drivers import bridge
from dnet.model import Container, Network
from dnet.objects import Directory, File, Link, NftTable, Object

# Where `ip netns` looks for names (iproute2's NETNS_RUN_DIR).
NAME_DIRECTORY = "/run/netns"
# What is in NAME there, `ip netns exec NAME` mounts over /etc.
ETC_DIRECTORY = "/etc/netns"

Group = tuple[Object, ...]


class HostResolver(NamedTuple):
    """The texts of the host's resolv.conf and of systemd-resolved's own."""

    resolv_conf: str
    systemd: str


def name_path(name: str) -> str:
    """Return where `ip netns` looks for a container."""
    return f"{NAME_DIRECTORY}/{name}"


def network(net: Network, *, is_first: bool) -> Group:
    """Return the objects of a network; the first one brings the table, and the last one takes it along."""
    return (*((NftTable(),) if is_first else ()), *bridge.network(net))


def container(item: Container, networks: Mapping[str, Network], resolver: HostResolver) -> Group:
    """Return the objects of a container; `networks` are by id."""
    rules: list[Object] = []
    links = list(bridge.sandbox(item, name_path(item.name)))
    members = [networks[end.network_id] for end in item.endpoints]
    for position, (net, end) in enumerate(zip(members, item.endpoints, strict=True)):
        if position == 0:
            rules += nat.container_objects(item, net, end)
        links += bridge.endpoint(net, item, end)
    files = (
        Directory(item.files),
        File(f"{item.files}/hostname", etcfiles.hostname(item)),
        File(f"{item.files}/hosts", etcfiles.hosts(item, members)),
        File(f"{item.files}/resolv.conf", etcfiles.resolv_conf(item, *resolver)),
        Link(f"{ETC_DIRECTORY}/{item.name}", item.files),
    )
    return (*files, *rules, *links)


def rules(networks: Iterable[Network], containers: Iterable[Container]) -> Group:
    """Return all that belongs into the table, itself included."""
    known = {net.id: net for net in networks}
    found: list[Object] = [NftTable()]
    for net in known.values():
        found += nat.network_objects(net)
    for item in containers:
        if item.endpoints:
            found += nat.container_objects(item, known[item.endpoints[0].network_id], item.endpoints[0])
    return tuple(item for item in found if item.backend == "nft")
