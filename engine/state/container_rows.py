"""Containers put together from the rows of their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from operator import itemgetter
from typing import Any, TypeVar

from dnet.model.attachment import StaticRoute
from dnet.model.container import MODE_FOREIGN, Container, Endpoint, Link, shared_id
from dnet.model.default_route import with_defaults
from dnet.model.network import Network, veth_name
from dnet.model.published_port import PortMapping
from dnet.model.values import make
from dnet.state.attachments import ATTACHMENT, read_attachment
from dnet.state.table import Codec, Table, same

P = TypeVar("P")

CONTAINER = Table(
    "container",
    Container,
    fields=(
        *("id", "name", "mode", "mtu", "publish_all", "exposed", "settings", "labels", "created", "process", "target"),
        "displaced",
    ),
    others=("phase", "owner"),
)
# An endpoint's addresses have the prefix lengths of its network's subnets.
ENDPOINT = Table(
    "endpoint",
    Endpoint,
    fields=(
        *("id", "network_id", "interface", "address", "address6", "mac", "host_index", "aliases", "gateway_priority"),
        "vlans",
    ),
    others=("container_id", "phase"),
    codecs={"address": Codec(int, same), "address6": Codec(lambda value: str(value.ip) if value else None, same)},
)
PORT = Table("port_mapping", PortMapping, others=("container_id",))
LINK = Table("link", Link, fields=("alias", "child"), others=("parent_id", "position"))
ROUTE = Table("route", StaticRoute, renamed={"index": "device_index"}, others=("container_id", "phase"), replaces=True)
_OWN_COLUMNS = len(CONTAINER.fields)


# The rows of what belongs to containers, each with its container's id before its columns.
PARTS = {
    table.name: f"SELECT container_id, {columns} FROM {table.name} JOIN container c ON c.id = container_id"
    for table, columns in (
        (PORT, PORT.select()),
        (ATTACHMENT, f"{ATTACHMENT.select()}, details"),
        (ROUTE, ROUTE.select()),
    )
}
# Links in the order that the parents have them in: those of a container, and those to it.
LINKS = (
    """SELECT c.id AS container_id, c.name AS parent, l.alias, l.child, c.number, l.position
    FROM container c JOIN link l ON l.parent_id = c.id""",
    """SELECT c.id AS container_id, p.name AS parent, l.alias, l.child, p.number, l.position
    FROM container c JOIN link l ON l.child = c.name JOIN container p ON p.id = l.parent_id""",
)


def read_containers(
    rows: Iterable[Any],
    parts: Mapping[str, Iterable[Any]],
    links: Iterable[Any],
    networks: Mapping[str, Network],
    run_directory: str,
) -> list[Container]:
    """Return the containers of joined rows, one row for each endpoint.

    A row has the columns of CONTAINER, and behind them those of ENDPOINT, which are all NULL without an endpoint.
    `parts` are rows of PARTS by table, `links` those of LINKS.
    """
    ports = _grouped(parts["port_mapping"], PORT.read)
    attachments = _grouped(parts["attachment"], read_attachment)
    routes = _grouped(parts["route"], ROUTE.read)
    linked: dict[str, list[Link]] = {}
    for row in sorted(links, key=itemgetter("number", "position")):
        linked.setdefault(row["container_id"], []).append(Link(row["parent"], row["child"], row["alias"]))
    heads: dict[str, Any] = {}
    endpoints: dict[str, list[Endpoint]] = {}
    for row in rows:
        identity = row[0]
        if identity not in heads:
            heads[identity], endpoints[identity] = row[:_OWN_COLUMNS], []
        if row[_OWN_COLUMNS] is not None:
            endpoints[identity].append(_read_endpoint(row[_OWN_COLUMNS:], networks))
    made = []
    for identity, columns in heads.items():
        fields = CONTAINER.decode(columns)
        name, shares, own_links = fields["name"], shared_id(fields["mode"]), linked.get(identity, ())
        place = (shares or identity)[:12]
        is_foreign = fields["mode"] == MODE_FOREIGN
        fields.update(
            sandbox=fields["target"]["path"] if is_foreign else f"{run_directory}/netns/{place}",
            files="" if is_foreign else f"{run_directory}/etc/{place}",
            status="created",
            pid=0,
            exit_code=None,
            ports=tuple(sorted(ports.get(identity, ()), key=PortMapping.order)),
            endpoints=tuple(endpoints[identity]),
            shares=shares,
            links=tuple([link for link in own_links if link.parent == name]),
            linked_by=tuple([link for link in own_links if link.child == name]),
            attachments=tuple(attachments.get(identity, ())),
            routes=tuple(routes.get(identity, ())),
        )
        made.append(with_defaults(make(Container, fields), networks))
    return made


def _grouped(rows: Iterable[Any], read: Callable[[Sequence[Any]], P]) -> dict[str, list[P]]:
    found: dict[str, list[P]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(read(row[1:]))
    return found


def _read_endpoint(columns: Iterable[Any], networks: Mapping[str, Network]) -> Endpoint:
    fields = ENDPOINT.decode(columns)
    network = networks[fields["network_id"]]
    address6 = None
    if fields["address6"] and network.subnet6:
        address6 = IPv6Interface((fields["address6"], network.subnet6.prefixlen))
    fields.update(
        network=network.name,
        address=IPv4Interface((fields["address"], network.subnet.prefixlen)),
        gateway=None if network.internal else network.gateway,
        address6=address6,
        gateway6=network.gateway6 if address6 and not network.internal else None,
        host_interface=veth_name(fields["host_index"]),
    )
    return make(Endpoint, fields)
